"""Options of what is read: which part of a video, and how its object is told from the background."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from core.options.checks import within

Matte = Literal["auto", "none", "alpha", "white", "rembg"]


@dataclass(frozen=True)
class InputOptions:
    """From a file to the frames that the networks see."""

    matte: Matte = "auto"
    """What tells the object from the background, which is then cropped. auto: the alpha channel if there is one; a
    video on white stays as it is; else rembg. none: everything stays."""
    start: float = 0.0
    """Seconds of the video that are passed over."""
    duration: float | None = None
    """Seconds of the video that are used; None: to its end."""
    fps: float = 15.0
    """Frames are skipped evenly down to about this rate; slower videos keep theirs. Of numbered pictures, the rate."""
    allow_background: bool = False
    """The same as --matte none."""

    def __post_init__(self) -> None:
        within(self, 0.1, 1000, "fps")
        within(self, 0, 1e6, "start")
        within(self, 1e-3, 1e6, "duration")
