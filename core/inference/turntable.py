"""A camera that goes round the object while time runs, and stays a while at four sides."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch
from einops import rearrange
from torch import Tensor

from core.errors import UserError
from core.gaussians import Gaussians
from core.images import to_uint8
from core.media import write_video
from core.rendering.orbit import OrbitRenderer

FPS = 30
HOLD_EVERY, HOLD_FRAMES = 90, 45  # degrees; frames that show each of these azimuths
# One frame per degree, more at the four sides: 536 frames.
AZIMUTHS = tuple(a for a in range(360) for _ in range(1 if a % HOLD_EVERY else HOLD_FRAMES))
STILL_AZIMUTHS = tuple(range(0, 360, 4))


def shown_sets(count: int, rate: Fraction) -> list[int]:
    """Which of ``count`` sets each frame of the turntable shows.

    Time advances by ``rate`` / 30 sets per frame, ``rate`` being sets per second; at the end it jumps to the start.
    """
    return [int(frame * rate / FPS) % count for frame in range(len(AZIMUTHS))]


def write_still_turntable(gaussians: Gaussians, path: str | Path, orbit: OrbitRenderer) -> None:
    """Once round one set (leading axes ``[1]``): 90 frames of 4 degrees at 30 frames per second."""
    with write_video(path, FPS, (orbit.size, orbit.size)) as video:
        for frame in orbit(gaussians, STILL_AZIMUTHS)[0]:
            video.write(frame)


class Turntable:
    """The video of a camera going round a sequence, fed with sets as they come.

    Every set is drawn once, from all the azimuths at which the video will show it. As a short sequence is shown many
    times over, frames come out of order; they wait in a temporary file, whose size (536 frames) does not depend on the
    length of the sequence.

    Args:
        path: the video file.
        count: number of sets that will come.
        rate: sets per second.
        orbit: renders.
    """

    def __init__(self, path: Path, count: int, rate: Fraction, orbit: OrbitRenderer) -> None:
        self.path = path
        self.orbit = orbit
        self.frames_of: dict[int, list[int]] = {}
        for frame, index in enumerate(shown_sets(count, rate)):
            self.frames_of.setdefault(index, []).append(frame)
        with _disk_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            self.spool = tempfile.TemporaryFile(dir=path.parent)  # noqa: SIM115 - lives as long as this object

    def add(self, index: int, gaussians: Gaussians) -> None:
        """Draw set number ``index`` (leading axes ``[1]``) wherever the video shows it."""
        frames = self.frames_of.get(index, [])
        # The sides are held: one render serves all frames of one azimuth.
        azimuths = sorted({AZIMUTHS[frame] for frame in frames})
        if not azimuths:
            return
        images = dict(zip(azimuths, to_uint8(self.orbit(gaussians, azimuths)[0]), strict=True))
        with _disk_errors(self.path):
            for frame in frames:
                self.spool.seek(frame * images[AZIMUTHS[frame]].nbytes)
                self.spool.write(images[AZIMUTHS[frame]])

    def finish(self) -> None:
        """Write the video; every set must have come."""
        with write_video(self.path, FPS, (self.orbit.size, self.orbit.size)) as video:
            for frame in self._spooled():
                video.write(frame)
        self.spool.close()

    def _spooled(self) -> Iterator[Tensor]:
        shape = (self.orbit.size, self.orbit.size, 3)
        self.spool.seek(0)
        for _ in AZIMUTHS:
            pixels = np.frombuffer(bytearray(self.spool.read(int(np.prod(shape)))), np.uint8).reshape(shape)
            yield rearrange(torch.from_numpy(pixels), "h w c -> c h w") / 255


@contextmanager
def _disk_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}; free some space or choose another folder") from error
