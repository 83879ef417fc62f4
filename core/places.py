"""Find files that come with the project from any folder."""

from __future__ import annotations

import os
from pathlib import Path

HOME = Path(__file__).resolve().parents[1]
"""The checkout, or the installed package: holds ``pretrained/``, ``data_test/`` and ``data_train/``."""


def find(path: str | Path) -> Path:
    """A relative path in the current folder, else in `HOME`; unchanged if it exists in neither."""
    at_home = HOME / path
    return at_home if not os.path.exists(path) and os.path.exists(at_home) else Path(path)


def looked_in(path: str | Path) -> str:
    """For messages: where `find` looked for a file that is not there."""
    folders = [Path.cwd()] if HOME == Path.cwd() else [Path.cwd(), HOME]
    return "" if Path(path).is_absolute() else f" (looked in {' and '.join(map(str, folders))})"
