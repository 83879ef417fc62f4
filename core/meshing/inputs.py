"""What the converter is given: a .ply, a folder of them, or a workspace with finished clips."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from core.errors import UserError
from core.export.sequences import DEFAULT_RATE, metadata_beside, recorded_rate

_FRAME = re.compile(r"(.*?)(\d+)\.ply", re.DOTALL)


@dataclass(frozen=True)
class Job:
    """Gaussian files that belong together.

    Attributes:
        plys: one, or the frames of a clip in order.
        target: a mesh's path without suffix; of a clip: the folder of its meshes.
        rate: frames a second of a clip; None: a single object.
    """

    plys: tuple[Path, ...]
    target: Path
    rate: Fraction | None = None


def find_jobs(path: Path) -> list[Job]:
    """What to convert, in order of the names.

    Results stand beside their input: ``x.ply`` gives ``x.glb``, the frames in ``NAME`` give ``NAME_mesh/...``.

    Raises:
        UserError: nothing there, or a clip lacks a frame.
    """
    if not path.is_dir():
        return [Job((path,), path.with_suffix(""))]
    plys = _plys(path)
    clips = [folder for folder in sorted(path.iterdir()) if folder.is_dir() and _plys(folder)]
    if plys:  # beside objects of infer_3d.py only what is known as a clip of infer_4d.py
        clips = [folder for folder in clips if metadata_beside(folder).is_file()]
    if not plys and not clips:
        raise UserError(f"there is no .ply in {path} and none in its folders; give a .ply, frames, or a workspace")
    objects = _of_folder(path.absolute(), plys) if plys else []
    return objects + [job for folder in clips for job in _of_folder(folder, _plys(folder))]


def _plys(folder: Path) -> list[Path]:
    """Those that hold Gaussians as they are: compressed ones are exports of the others."""
    found = (path for path in folder.glob("*.ply") if not path.name.endswith(".compressed.ply"))
    return sorted(path for path in found if not path.name.startswith("."))


def _of_folder(folder: Path, plys: list[Path]) -> list[Job]:
    """A clip where all names are one name with numbers; else an object for each file."""
    matches = [_FRAME.fullmatch(path.name) for path in plys]
    if len(plys) < 2 or not all(matches) or len({match[1] for match in matches}) > 1:
        return [Job((path,), path.with_suffix("")) for path in plys]
    numbered = sorted((int(match[2]), path) for match, path in zip(matches, plys, strict=True))
    first, last = numbered[0][0], numbered[-1][0]
    there = {number for number, _ in numbered}
    if missing := [number for number in range(first, last + 1) if number not in there]:
        raise UserError(
            f"{folder}: {len(missing)} of the frames {first} to {last} are missing, the first is number {missing[0]}; "
            "run the reconstruction again, or convert single files"
        )
    target = folder.with_name(f"{folder.name}_mesh")
    return [Job(tuple(path for _, path in numbered), target, recorded_rate(folder) or DEFAULT_RATE)]
