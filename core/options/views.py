"""Options of the first frame's other views."""

from __future__ import annotations

from dataclasses import dataclass

from core.errors import UserError
from core.options.checks import at_least


@dataclass(frozen=True)
class ViewOptions:
    """Who makes the first frame's other views, and how the result is aligned with the frame."""

    imagedream: str = "ashawkey/imagedream-ipmv-diffusers"
    """Folder or hub repository of ImageDream, which makes views from a picture."""
    mvdream: str = "ashawkey/mvdream-sd2.1-diffusers"
    """Folder or hub repository of MVDream, which makes views from a text."""
    prompt: str = ""
    """A text instead of --test_path: infer_3d makes what it says."""
    negative_prompt: str = ""
    """What ImageDream or MVDream should avoid."""
    diffusion_steps: int = 30
    """Denoising steps of ImageDream and MVDream."""
    guidance_scale: float | None = None
    """Weight of the condition in ImageDream and MVDream; None: 5 with a picture, 7.5 with a text."""
    offload: bool = False
    """Keep one part of ImageDream or MVDream at a time in memory; the others are read anew when they are needed."""
    candidates: int = 1
    """Sets of views to try; the one whose Gaussians repeat the frame best is kept. ImageDream counts --seed up."""
    view_azimuths: tuple[float, float, float, float] = (0.0, 90.0, 180.0, 270.0)
    """Degrees from which your own raw views NAME_mv_000.png ... NAME_mv_003.png are seen."""
    align_elevation: bool = False
    """Search the camera's elevation as well as its azimuth when the result is aligned with the frame."""
    align_scale: bool = False
    """Search the object's size as well."""
    recenter: bool = True
    """Cut the object out of a picture and centre it, as LGM does; pictures only, videos stay as they are."""

    def __post_init__(self) -> None:
        at_least(self, 1, "diffusion_steps", "candidates")
        if len({azimuth % 360 for azimuth in self.view_azimuths}) < len(self.view_azimuths):
            raise UserError(f"--view_azimuths {self.view_azimuths} must be four different directions")
