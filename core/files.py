"""Input files are checked before they are read; output files are written atomically."""

from __future__ import annotations

import errno
import json
import os
import platform
import re
import secrets
import stat
import time
import tomllib
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from fractions import Fraction
from pathlib import Path
from typing import Any

from core.errors import UserError, reason

MAX_TEXT = 64 << 20
"""Bytes of the largest JSON, TOML or list file that is read."""
LONGEST_NAME = 255
"""Bytes of a file's name, on all common file systems."""

_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}
_ADVICE = {errno.ENAMETOOLONG: "choose a shorter name", errno.ELOOP: "repair the symbolic link"}
_PART = re.compile(r"\..*\.([0-9a-f]{8})-(\d+)-[0-9a-f]{8}\.part(\.[^.]*)?", re.DOTALL)
_RATE = re.compile(r"\d{1,18}([/.]\d{1,18})?")
_LONGEST_STEM = 24  # characters of the final name that the temporary one repeats
_ABANDONED = 24 * 3600  # seconds


def regular_file(path: str | Path, what: str = "file", limit: int | None = None) -> Path:
    """Check that ``path`` is a readable regular file: not a folder, device or pipe, which would block.

    Args:
        path: the file.
        what: name of the kind in messages: "video", "image", "checkpoint".
        limit: maximum size in bytes; None: no limit.

    Returns:
        the path.

    Raises:
        UserError: it is missing, not a regular file, not readable, or larger than the limit.
    """
    path = Path(path)
    try:
        found = path.stat()
    except FileNotFoundError as error:
        raise UserError(f"cannot read {what} {path}: there is no such file; check the path") from error
    except (OSError, ValueError) as error:  # ValueError: a null character in the name
        advice = _ADVICE.get(getattr(error, "errno", None), "check the path")
        raise UserError(f"cannot read {what} {path}: {reason(error)}; {advice}") from error
    if not stat.S_ISREG(found.st_mode):
        kind = _KINDS.get(stat.S_IFMT(found.st_mode), "no regular file")
        raise UserError(f"cannot read {what} {path}: it is {kind}; give the path of a file")
    if not os.access(path, os.R_OK):
        raise UserError(f"cannot read {what} {path}: permission denied; make it readable with chmod +r")
    if limit is not None and found.st_size > limit:
        raise UserError(
            f"cannot read {what} {path}: it has {found.st_size:,} bytes, more than the {limit:,} that are read; "
            f"check the path"
        )
    return path


def read_text(path: str | Path, what: str = "file", limit: int = MAX_TEXT) -> str:
    """Read a UTF-8 text file.

    Raises:
        UserError: as `regular_file`; or it is not text.
    """
    path = regular_file(path, what, limit)
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {what} {path}: {reason(error)}; give a text file") from error


def read_json(path: str | Path, what: str = "file") -> dict[str, Any]:
    """Read a JSON file that holds an object.

    Raises:
        UserError: as `regular_file`; or it is not JSON, is nested too deep, or does not hold an object.
    """
    return _read_table(path, what, "JSON", json.loads)


def read_toml(path: str | Path, what: str = "file") -> dict[str, Any]:
    """Read a TOML file; raises as `read_json`."""
    return _read_table(path, what, "TOML", tomllib.loads)


def parse_table(text: str, parse: Callable[[str], object] = json.loads) -> dict[str, Any]:
    """The object in an untrusted text; the parser is that of JSON or TOML.

    Raises:
        ValueError: it does not parse, is nested too deep, or does not hold an object.
    """
    try:
        table = parse(text)
    except RecursionError as error:
        raise ValueError("it is nested too deep") from error
    if not isinstance(table, dict):
        raise ValueError("it holds no JSON object")
    return table


def parse_rate(value: object) -> Fraction:
    """Frames a second from an untrusted file: 45, "7.5", "30000/1001".

    Raises:
        ValueError: it is no positive number, or has so many digits that computing with it takes for ever.
    """
    text = str(value)
    with suppress(ZeroDivisionError):
        if _RATE.fullmatch(text) and (rate := Fraction(text)) > 0:
            return rate
    raise ValueError("it is no frame rate")


def is_like(value: object, default: object) -> bool:
    """Whether a value from a file has the type of a default; lists count as tuples, ints as floats."""
    if isinstance(default, tuple):
        return isinstance(value, list | tuple) and all(is_like(item, default[0]) for item in value if default)
    return type(value) is type(default) or (isinstance(default, float) and type(value) is int)


def _read_table(path: str | Path, what: str, kind: str, parse: Callable[[str], object]) -> dict[str, Any]:
    text = read_text(path, what)
    try:
        return parse_table(text, parse)
    except ValueError as error:
        raise UserError(f"cannot read {what} {path}: it is no {kind} ({reason(error)}); write it again") from error


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Write a file under a temporary name beside ``path`` and rename it on success.

    The temporary name keeps the suffix, so writers that choose the format by suffix work; it names machine and process,
    see `remove_stale_parts`. Missing folders are made. Whatever ends the block early, Ctrl-C included, leaves ``path``
    as it was and removes the temporary file.

    Raises:
        UserError: the folder cannot be made or written to, the name is too long, the disk is full.
    """
    path = Path(path)
    owner = f"{_machine()}-{os.getpid()}-{secrets.token_hex(4)}"
    temporary = path.with_name(f".{path.stem[:_LONGEST_STEM]}.{owner}.part{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield temporary
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        advice = _ADVICE.get(error.errno, "free some space or choose another folder")
        raise UserError(f"cannot write {path}: {reason(error)}{where}; {advice}") from error


def remove_stale_parts(folder: str | Path) -> list[Path]:
    """Remove the temporary files of `atomic_path` that a killed process left in a folder, not in those below it.

    A file is stale when its process has ended; on another machine, where this is unknown, when it has not changed for a
    day.

    Returns:
        the removed files.
    """
    removed = []
    with suppress(OSError):  # no such folder, or no permission
        for path in Path(folder).iterdir():
            match = _PART.fullmatch(path.name)
            if match and path.is_file() and _is_stale(path, match[1], int(match[2])):
                path.unlink(missing_ok=True)
                removed.append(path)
    return removed


def _is_stale(path: Path, machine: str, pid: int) -> bool:
    if machine == _machine() and not _runs(pid):
        return True
    try:
        return time.time() - path.stat().st_mtime > _ABANDONED
    except FileNotFoundError:  # renamed in the meantime
        return False


def _runs(pid: int) -> bool:
    if os.name != "posix":  # there a signal 0 would end the process
        return True
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass
    return True


def _machine() -> str:
    """Eight hexadecimal digits for this machine: processes of several may write to one shared folder."""
    return f"{zlib.crc32(platform.node().encode()):08x}"


def check_workspace(workspace: Path) -> None:
    """Raise `UserError` where results cannot be written, before any work begins."""
    if os.path.islink(workspace) and not os.path.isdir(workspace):
        raise UserError(f"the workspace {workspace} is a symbolic link to no folder; repair it or choose another")
    there = next(path for path in (workspace, *workspace.absolute().parents) if os.path.exists(path))
    if not there.is_dir():
        raise UserError(f"cannot write in the workspace {workspace}: {there} is no folder; choose another --workspace")
    if not os.access(there, os.W_OK | os.X_OK):
        raise UserError(f"cannot write in the workspace {workspace}: {there} is read-only; choose another --workspace")
    if any(len(os.fsencode(part)) > LONGEST_NAME for part in workspace.parts):
        raise UserError(f"the workspace {workspace} has a name that is too long; choose another --workspace")
