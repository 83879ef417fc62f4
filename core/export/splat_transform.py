"""Formats of one frame that PlayCanvas' command-line program splat-transform writes: compressed .ply, SOG, SPZ, glTF.

It takes a .ply in the orientation that viewers expect and turns it as each format wants.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from core.errors import UserError, printable, reason
from core.export.sequences import GaussianSequence
from core.ply import save_ply

SUFFIXES = {"compressed-ply": ".compressed.ply", "sog": ".sog", "spz": ".spz", "glb": ".glb"}
_SPZ_VERSION = "3"  # Spark 2.2 does not open version 4
_TIMEOUT = 600  # seconds for one frame


def find_program() -> str:
    """Where splat-transform is. Raises `UserError` where it is not installed."""
    found = shutil.which("splat-transform")
    if not found:
        raise UserError(
            f"{', '.join(SUFFIXES)} are written by splat-transform, which is not installed: "
            "npm install -g @playcanvas/splat-transform@2.7.1 (it needs Node.js)"
        )
    return found


def write_frames(sequence: GaussianSequence, kind: str, folder: Path) -> Path:
    """Write every frame as ``FOLDER/frame0001.SUFFIX``; the folder appears when all are there.

    Raises:
        UserError: something else is in the folder's place, the program is missing or fails.
    """
    program, suffix = find_program(), SUFFIXES[kind]
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise UserError(f"cannot write {folder}: it is no folder; move it away")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".export", dir=folder.parent) as place:
            for index in range(len(sequence)):
                source, target = Path(place, "frame.ply"), Path(place, f"frame{index + 1:04d}{suffix}")
                save_ply(sequence[index], source)
                _run(program, source, target, folder)
            folder.mkdir(exist_ok=True)
            clear_frames(folder, kind)
            for file in Path(place).glob(f"frame????*{suffix}"):
                os.replace(file, folder / file.name)
    except OSError as error:
        raise UserError(f"cannot write {folder}: {reason(error)}; free some space or choose another folder") from error
    return folder


def clear_frames(folder: Path, kind: str) -> None:
    """Remove the frames of an earlier export from its folder; other files are left alone."""
    for old in folder.glob(f"frame*{SUFFIXES[kind]}"):
        old.unlink()


def _run(program: str, source: Path, target: Path, folder: Path) -> None:
    command = [program, "-q", "-w", "-g", "cpu", "--spz-version", _SPZ_VERSION, str(source), str(target)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=_TIMEOUT)
    except subprocess.TimeoutExpired as error:
        raise UserError(f"cannot write {folder / target.name}: splat-transform did not end") from error
    if done.returncode or not target.exists():
        lines = (done.stderr or done.stdout).strip().splitlines() or [f"status {done.returncode}"]
        raise UserError(f"cannot write {folder / target.name}: splat-transform says: {printable(lines[-1])}")
