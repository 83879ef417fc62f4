"""Options of the first frame's other views."""

from __future__ import annotations

from dataclasses import dataclass

from core.conventions import INPUT_AZIMUTHS
from core.errors import UserError
from core.options.checks import within


@dataclass(frozen=True)
class ViewOptions:
    """How the first frame's other views are made and aligned with the frame."""

    imagedream: str = "ashawkey/imagedream-ipmv-diffusers"
    """ImageDream, views from a picture: folder or hub repository."""
    mvdream: str = "ashawkey/mvdream-sd2.1-diffusers"
    """MVDream, views from a text: folder or hub repository."""
    download: bool = True
    """Fetch ImageDream or MVDream where they are missing, as published."""
    prompt: str = ""
    """A text for MVDream, or beside --test_path for ImageDream."""
    negative_prompt: str | None = None
    """What ImageDream or MVDream should avoid; None: with a text LGM's list of flaws."""
    elevation: float = 0.0
    """Degrees above the horizon from which the first view is seen; not for single-view."""
    diffusion_steps: int = 30
    """Denoising steps."""
    guidance_scale: float | None = None
    """Weight of the condition; None: 5 with a picture, 7.5 with a text."""
    offload: bool = False
    """Keep one part of ImageDream or MVDream in memory at a time."""
    candidates: int = 1
    """Candidate view sets; the one closest to the frame is used."""
    view_azimuths: tuple[float, float, float, float] = INPUT_AZIMUTHS
    """Degrees from which your own raw views NAME_mv_000.png ... NAME_mv_003.png are seen."""
    align_elevation: bool = False
    """Align the camera's elevation too."""
    align_scale: bool = False
    """Align the object's size too."""
    recenter: bool = True
    """Cut the object out of a picture and centre it; videos stay as they are."""

    def __post_init__(self) -> None:
        within(self, 1, 1000, "diffusion_steps", "candidates")
        within(self, 0, 100, "guidance_scale")
        within(self, -720, 720, "view_azimuths")
        within(self, -89, 89, "elevation")
        if len({azimuth % 360 for azimuth in self.view_azimuths}) < len(self.view_azimuths):
            raise UserError(f"--view_azimuths {self.view_azimuths} must be four different directions")
