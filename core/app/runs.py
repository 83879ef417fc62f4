"""Folders of runs: one for each, of a name that nobody can guess; inputs checked on their way in; old ones removed."""

from __future__ import annotations

import re
import secrets
import shutil
import time
import zipfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from core.errors import UserError, reason
from core.files import atomic_path, regular_file
from core.inference.inputs import VIDEO_SUFFIXES
from core.media import PICTURE_SUFFIXES, read_video

SUFFIXES = (*VIDEO_SUFFIXES, *PICTURE_SUFFIXES)
NAME = "input"
"""What every input is called, whatever its name was: names of users reach no path and no command line."""
_RUN = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True)
class Limits:
    """What the server takes and keeps.

    Attributes:
        megabytes: of an upload.
        seconds: of a video.
        hours: until a run is removed.
        runs: kept at most.
    """

    megabytes: int
    seconds: float
    hours: float
    runs: int


class Runs:
    """The runs below one folder.

    Args:
        root: their folder; other things in it are left alone.
        limits: see `Limits`.
    """

    def __init__(self, root: Path, limits: Limits) -> None:
        self.root, self.limits = root.absolute(), limits
        self._active: set[Path] = set()

    def new(self) -> Path:
        """A new, empty folder, after old ones have been removed. It counts as running until `finish`.

        Raises:
            UserError: it cannot be made.
        """
        self.clean()
        folder = self.root / secrets.token_hex(16)
        try:
            folder.mkdir(parents=True)
        except OSError as error:
            raise UserError(f"cannot write {folder}: {error.strerror}; choose another --workspace") from error
        self._active.add(folder)
        return folder

    def finish(self, folder: Path) -> None:
        """The run has ended; from now on it can grow old."""
        self._active.discard(folder)

    def folder(self, run: str) -> Path | None:
        """The folder of a run by its name; None for a name that is none of a run here."""
        folder = self.root / run
        return folder if _RUN.fullmatch(run) and folder.is_dir() and not folder.is_symlink() else None

    def clean(self) -> None:
        """Remove runs that are too old or too many, the oldest first; never one that runs."""
        found = sorted(self._finished(), reverse=True)
        oldest = time.time() - 3600 * self.limits.hours
        for place, (changed, folder) in enumerate(found):
            if place >= self.limits.runs or changed < oldest:
                shutil.rmtree(folder, ignore_errors=True)

    def _finished(self) -> Iterator[tuple[float, Path]]:
        if self.root.is_dir():
            for path in self.root.iterdir():
                if self.folder(path.name) and path not in self._active:
                    with suppress(FileNotFoundError):  # removed meanwhile
                        yield path.stat().st_mtime, path

    def take(self, upload: Path, folder: Path) -> Path:
        """Copy an upload into its run's folder, under a name of ours.

        Raises:
            UserError: no video or picture, too large, too long.
        """
        suffix = upload.suffix.lower()
        if suffix not in SUFFIXES:
            raise UserError(f"{upload.name} is neither a video nor a picture; give one of {' '.join(SUFFIXES)}")
        regular_file(upload, "upload", self.limits.megabytes << 20)
        target = folder / f"{NAME}{suffix}"
        try:
            shutil.copyfile(upload, target)
        except OSError as error:
            raise UserError(f"the server cannot keep {upload.name}: {reason(error)}") from error
        video = read_video(target)
        seconds = float(video.num_frames / video.fps)
        if seconds > self.limits.seconds:
            raise UserError(f"{upload.name} has {seconds:.1f} s, at most {self.limits.seconds:g} s are taken; cut it")
        return target


def zip_results(folder: Path, target: Path) -> Path:
    """Everything in a folder as a .zip, whole or not at all."""
    with atomic_path(target) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(folder.rglob("*")):
            if path.is_file() and not path.name.startswith("."):
                archive.write(path, path.relative_to(folder))
    return target
