"""Options of gen_vid.py: a picture becomes a video."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from core.errors import UserError
from core.options.checks import within
from core.options.input import Matte


@dataclass(frozen=True)
class GenVidOptions:
    """How SVD animates a picture; the defaults are published."""

    test_path: str | None = None
    """Pictures: file, folder or pattern; of videos the first frame."""
    workspace: str = "./workspace"
    """Folder for the videos, NAME_generated.mp4."""
    svd: str = "stabilityai/stable-video-diffusion-img2vid"
    """SVD: folder or hub repository."""
    download: bool = True
    """Fetch SVD where it is missing."""
    matte: Matte = "auto"
    """What cuts the object out."""
    matte_model: str = "u2net"
    """As of infer_4d."""
    num_frames: int = 14
    """Frames; the published network is trained for 14."""
    size: int = 512
    """Side of the video in pixels, a multiple of 64."""
    pad: bool = False
    """Show SVD a wide picture, 16:9 and white at the sides, as it was trained; with --size 576."""
    diffusion_steps: int = 25
    """Denoising steps."""
    guidance_scale: tuple[float, float] = (1.0, 3.0)
    """Weight of the condition in the first and the last frame."""
    motion: int = 127
    """Amount of motion."""
    augmentation: float = 0.02
    """Noise on the picture; more gives more motion."""
    fps: int = 7
    """Frames a second."""
    seed: int = 42
    """Of the noise."""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """Of the weights. auto: fp16 on a GPU, else fp32."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""

    def __post_init__(self) -> None:
        within(self, 2, 100, "num_frames")
        within(self, 64, 2048, "size")
        within(self, 1, 1000, "diffusion_steps")
        within(self, 0, 100, "guidance_scale")
        within(self, 0, 1000, "motion")
        within(self, 0, 10, "augmentation")
        within(self, 1, 60, "fps")
        within(self, 0, 2**31 - 1, "seed")
        if self.guidance_scale[0] > self.guidance_scale[1]:
            raise UserError(f"--guidance_scale is {self.guidance_scale} and must not fall from first to last")
        if self.size % 64:
            raise UserError(f"--size is {self.size} and must be a multiple of 64")
