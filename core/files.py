"""Files that appear whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from core.errors import UserError


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Write a file under a temporary name beside ``path`` and rename it on success.

    The temporary name keeps the suffix, so writers that choose the format by suffix work. Missing folders are
    made. Whatever ends the block early, Ctrl-C included, leaves ``path`` as it was and removes the temporary file.

    Raises:
        UserError: the folder cannot be made or written to, the disk is full.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.part{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield temporary
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        reason = f"{error.strerror} ({error.filename})" if error.filename else error.strerror or error
        raise UserError(f"cannot write {path}: {reason}; free some space or choose another folder") from error
