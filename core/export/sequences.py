"""Sequences of Gaussians on disk: a folder of .ply files, a packed clip, a workspace of infer_4d that holds several."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Protocol

from core.errors import UserError, reason
from core.export.packed import SUFFIX, load_clip
from core.files import parse_rate, read_json
from core.gaussians import Gaussians
from core.ply import load_ply

DEFAULT_RATE = Fraction(15)
"""Frames per second of files that do not say."""
_METADATA = "_metadata.json"


class GaussianSequence(Protocol):
    """The frames of a clip, read when they are asked for.

    Attributes:
        path: the file or folder.
        rate: frames per second.
    """

    path: Path
    rate: Fraction

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Gaussians: ...


@dataclass(frozen=True)
class PlyFolder:
    """A folder of .ply files, one for each frame.

    Attributes:
        path: the folder.
        rate: frames per second.
        files: in the order of the numbers in their names.
    """

    path: Path
    rate: Fraction
    files: Sequence[Path]

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> Gaussians:
        """Frame number ``index``, without leading axes; raises `UserError` as `core.ply.load_ply`."""
        return load_ply(self.files[index])


def open_sequences(path: str | Path, rate: Fraction | None = None) -> list[GaussianSequence]:
    """The sequences of a packed clip, a .ply file, a folder of .ply files, or the workspace of finished runs.

    Args:
        path: the file or folder.
        rate: frames per second where the files do not say; None: `DEFAULT_RATE`.

    Raises:
        UserError: nothing of this kind is there.
    """
    path = Path(path)
    if not os.path.isdir(path):
        if path.suffix.lower() == ".ply":
            return [PlyFolder(path, rate or DEFAULT_RATE, [path])]
        return [load_clip(path)]
    # First, because infer_3d.py leaves single .ply files in the same workspace.
    names = sorted(file.name.removesuffix(_METADATA) for file in _listed(path) if file.name.endswith(_METADATA))
    folders = [path / name for name in names if (path / name).is_dir()]
    found = [sequence for folder in folders if _ply_files(folder) for sequence in open_sequences(folder, rate)]
    if not found and (files := _ply_files(path)):
        return [PlyFolder(path, recorded_rate(path) or rate or DEFAULT_RATE, files)]
    found = found or [load_clip(file) for file in _listed(path) if file.suffix == SUFFIX]
    if not found:
        kinds = f"a workspace of infer_4d.py, a folder of .ply files or a {SUFFIX} file"
        raise UserError(f"there is no sequence in {path}: give {kinds}")
    return found


def name_of(sequence: GaussianSequence) -> str:
    """What a sequence is called: its folder, or its file without suffix."""
    path = sequence.path
    return path.resolve().name if path.is_dir() else path.stem


def metadata_beside(folder: Path) -> Path:
    """The file that infer_4d.py writes beside a sequence's folder."""
    folder = folder.absolute()
    return folder.with_name(f"{folder.name}{_METADATA}")


def recorded_rate(folder: Path) -> Fraction | None:
    """Frames per second that the metadata beside a folder say; None where there are none."""
    try:
        return parse_rate(read_json(metadata_beside(folder))["frame_rate"])
    except (UserError, KeyError, ValueError):
        return None


def _ply_files(folder: Path) -> list[Path]:
    def place(file: Path) -> tuple[int, str]:
        numbers = re.findall(r"\d+", file.stem)
        return (int(numbers[-1]) if numbers else 0, file.name)

    return sorted((file for file in _listed(folder) if file.suffix.lower() == ".ply"), key=place)


def _listed(folder: Path) -> list[Path]:
    try:
        return sorted(file for file in folder.iterdir() if not file.name.startswith("."))
    except OSError as error:
        raise UserError(f"cannot read the folder {folder}: {reason(error)}; check the path") from error
