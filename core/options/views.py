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
    prompt: str = ""
    """A text instead of --test_path."""
    negative_prompt: str = ""
    """What ImageDream or MVDream should avoid."""
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
        if len({azimuth % 360 for azimuth in self.view_azimuths}) < len(self.view_azimuths):
            raise UserError(f"--view_azimuths {self.view_azimuths} must be four different directions")
