"""Lists of clips: where the tars are, which clips belong together, which of them are for validation."""

from __future__ import annotations

import os
from pathlib import Path

from core.errors import UserError
from core.files import read_text
from core.options import DataOptions
from core.places import find, looked_in


def data_home(option: str) -> Path:
    """The folder of the clip tars: the option, or the environment variable DATA_HOME; a trailing slash is optional.

    Raises:
        UserError: neither is given, or the folder does not exist.
    """
    value = option or os.environ.get("DATA_HOME", "")
    if not value:
        raise UserError("No clip folder given: pass --data_home FOLDER or set the environment variable DATA_HOME.")
    folder = find(value)
    if not folder.is_dir():
        raise UserError(f"The clip folder {value} (data_home or DATA_HOME) does not exist{looked_in(value)}.")
    return folder


def read_groups(datalist: str) -> list[tuple[str, ...]]:
    """Read a list of clips, one a line, and group it by the second ``-``-separated token, in order of appearance.

    A line without a second token is a group of its own; blank lines are ignored.

    Raises:
        UserError: the list is missing or empty, or contains a clip twice.
    """
    if not datalist:
        raise UserError(
            "No clip list given: pass --datalist FILE, a text file with one clip name a line, and --data_home FOLDER "
            "with the clips; data_test/clips has one of each, docs/data.md says how to make more"
        )
    path = find(datalist)
    if not os.path.lexists(path):
        where = looked_in(datalist)
        raise UserError(f"The clip list {datalist!r} (datalist) does not exist{where}; it holds one clip name a line.")
    groups: dict[str, list[str]] = {}
    seen: set[str] = set()
    for line in filter(None, map(str.strip, read_text(path, "the clip list").splitlines())):
        tokens = line.split("-")
        if line in seen:
            raise UserError(f"The clip list {datalist} names {line} twice; it would be drawn twice as often.")
        seen.add(line)
        groups.setdefault(tokens[1] if len(tokens) > 1 else line, []).append(line)
    if not groups:
        raise UserError(f"The clip list {datalist} is empty; it holds one clip name a line.")
    return [tuple(group) for group in groups.values()]


def split_groups(options: DataOptions, split: str, batch_size: int) -> list[tuple[str, ...]]:
    """The groups of the "train" or the "test" split.

    Test is the validation list where there is one, else the last ``batch_size`` groups of the list, as published;
    train is what test leaves.

    Raises:
        UserError: a list is missing or empty, or nothing is left to train on.
    """
    if split == "test" and options.datalist_val:
        return read_groups(options.datalist_val)
    groups = read_groups(options.datalist)
    if options.datalist_val:
        return groups
    kept = groups[:-batch_size] if split == "train" else groups[-batch_size:]
    if not kept:
        raise UserError(
            f"The clip list {options.datalist} has {len(groups)} groups; the last {batch_size} (batch_size) are the "
            f"test split and none is left to train on. Give a longer list, or validation clips with --datalist_val."
        )
    return kept
