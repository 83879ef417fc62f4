"""Pictures of a batch, for people."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

from einops import rearrange
from torch import Tensor

from core.media import write_video

_FPS = Fraction(8)  # the rate of reconstruction clips


def save_preview(workspace: Path, name: str, images: Tensor) -> None:
    """Write ``<workspace>/<name>.mp4``: the views side by side, frames ordered time, then sample.

    Args:
        images: ``[B,T,V,3,H,W]`` in [0, 1].
    """
    frames = rearrange(images, "b t v c h w -> (t b) c h (v w)").clamp(0, 1).cpu()
    with write_video(workspace / f"{name}.mp4", _FPS, tuple(frames.shape[-2:])) as writer:
        for frame in frames:
            writer.write(frame)
