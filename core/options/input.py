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
    """What cuts the object out."""
    matte_model: str = "u2net"
    """Network of rembg: u2net, isnet-general-use, birefnet-general, ..."""
    start: float = 0.0
    """Seconds to pass over."""
    duration: float | None = None
    """Seconds to use; None: to the end."""
    fps: float = 15.0
    """Frames a second to use, about."""
    allow_background: bool = False
    """The same as --matte none."""

    def __post_init__(self) -> None:
        within(self, 0.1, 1000, "fps")
        within(self, 0, 1e6, "start")
        within(self, 1e-3, 1e6, "duration")
