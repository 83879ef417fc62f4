"""Turntable videos: the camera orbits the object while time runs, and pauses at four sides."""

from __future__ import annotations

import tempfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
from torch import Tensor

from core.conventions import INPUT_AZIMUTHS
from core.errors import UserError
from core.gaussians import Gaussians
from core.images import to_uint8
from core.inference.sequence import GaussianFrame
from core.media import write_video
from core.rendering.orbit import OrbitRenderer

FPS = 30
HOLD_EVERY, HOLD_FRAMES = 90, 45  # degrees; frames that show each of these azimuths
# One frame per degree, more at the four sides: 536 frames.
AZIMUTHS = tuple(a for a in range(360) for _ in range(1 if a % HOLD_EVERY else HOLD_FRAMES))
STILL_AZIMUTHS = tuple(range(0, 360, 4))
_AT_ONCE = 16  # images of one render call, which bounds the memory
_COMPRESSION = 1  # of zlib: a fast one makes renders on white five to ten times smaller


@dataclass(frozen=True)
class Canvas:
    """Size of rendered pictures: square renders, cropped to the height of a wide video.

    A network sees a wide video with white bars above and below. The object is about as high from every azimuth, so the
    bars are cropped. Tall videos are not cropped: the object may be wider from the side.

    Attributes:
        size: side of the square renders, and width of the pictures, in pixels.
        height: rows that are shown.
    """

    size: int
    height: int

    @classmethod
    def of(cls, size: int, video: tuple[int, int]) -> Canvas:
        """For a video of this (height, width)."""
        height = 2 * round(size * min(1.0, video[0] / video[1]) / 2)  # even, as H.264 requires
        return cls(size, min(size, max(2, height)))

    def crop(self, images: Tensor) -> Tensor:
        """``[..., size, size]`` without the bars: ``[..., height, size]``."""
        top = (self.size - self.height) // 2
        return images[..., top : top + self.height, :]


def frame_indices(count: int, rate: Fraction) -> list[int]:
    """Which of the ``count`` frames of a sequence each frame of the turntable shows.

    Time advances by ``rate`` / 30 per frame, ``rate`` being frames of the sequence per second; at the end it jumps to
    the start.
    """
    return [int(frame * rate / FPS) % count for frame in range(len(AZIMUTHS))]


def write_still_turntable(gaussians: Gaussians, path: str | Path, orbit: OrbitRenderer, canvas: Canvas) -> None:
    """One orbit around Gaussians of one time (leading axes ``[1]``): 90 frames of 4 degrees at 30 frames per second."""
    with write_video(path, FPS, (canvas.height, canvas.size)) as video:
        for image in _render(gaussians, STILL_AZIMUTHS, orbit, canvas.size):
            video.write(canvas.crop(image))


def _render(gaussians: Gaussians, azimuths: Sequence[int], orbit: OrbitRenderer, size: int) -> Iterator[Tensor]:
    """One image ``[3, size, size]`` for each azimuth."""
    for start in range(0, len(azimuths), _AT_ONCE):
        yield from orbit(gaussians, azimuths[start : start + _AT_ONCE], size=size)[0]


class Turntable:
    """The turntable video of a sequence; frames are added as a stream.

    A frame is rendered once from each azimuth at which the video shows it; its four fixed views are reused. Since a
    short sequence loops, images come out of order; they are buffered, compressed, in a temporary file of at most 536
    images.

    Args:
        path: the video file.
        count: number of frames of the sequence.
        rate: frames per second.
        canvas: the pictures' size.
    """

    def __init__(self, path: Path, count: int, rate: Fraction, canvas: Canvas) -> None:
        self.path = path
        self.canvas = canvas
        self.shown: dict[int, list[int]] = {}  # frame of the sequence -> frames of the video
        for frame, index in enumerate(frame_indices(count, rate)):
            self.shown.setdefault(index, []).append(frame)
        self.places: dict[int, tuple[int, int]] = {}  # frame of the video -> offset and length in the file
        with _disk_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            self.spool = tempfile.TemporaryFile(dir=path.parent)  # noqa: SIM115 - closed with this object

    def add(self, index: int, frame: GaussianFrame) -> None:
        """Render frame number ``index`` from all azimuths at which the video shows it."""
        shown_at: dict[int, list[int]] = {}  # azimuth -> frames of the video
        for shown in self.shown.get(index, []):
            shown_at.setdefault(AZIMUTHS[shown], []).append(shown)
        held = [azimuth for azimuth in INPUT_AZIMUTHS if azimuth in shown_at]
        views = frame.views(self.canvas.size) if held else ()
        for azimuth, view in zip(INPUT_AZIMUTHS, views, strict=False):
            self._keep(view, shown_at.pop(azimuth, []))
        images = _render(frame.gaussians[None], list(shown_at), frame.orbit, self.canvas.size)
        for image, frames in zip(images, shown_at.values(), strict=True):
            self._keep(image, frames)

    def _keep(self, image: Tensor, frames: Sequence[int]) -> None:
        if not frames:
            return
        data = zlib.compress(to_uint8(self.canvas.crop(image)), _COMPRESSION)
        with _disk_errors(self.path):
            place = (self.spool.tell(), len(data))
            self.spool.write(data)
        self.places.update(dict.fromkeys(frames, place))

    def finish(self) -> None:
        """Write the video, after all frames have been added."""
        shape = (self.canvas.height, self.canvas.size, 3)
        with self.spool, write_video(self.path, FPS, shape[:2]) as video:
            for frame in range(len(AZIMUTHS)):
                offset, length = self.places[frame]
                self.spool.seek(offset)
                data = zlib.decompress(self.spool.read(length))
                video.write_pixels(np.frombuffer(data, np.uint8).reshape(shape))


@contextmanager
def _disk_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}; free some space or choose another folder") from error
