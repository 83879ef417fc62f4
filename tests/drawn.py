"""Whether a .ply file holds what the pictures of a result show."""

from __future__ import annotations

from pathlib import Path

import torch
from einops import rearrange
from torch import Tensor

from core.images import load_image
from core.media import read_video
from core.options import CameraOptions
from core.ply import load_ply
from core.rendering.orbit import OrbitRenderer
from tests.tiny import SHOWN


def assert_file_shows(path: Path, views: Tensor, atol: float) -> None:
    """The file's Gaussians, drawn from four sides, are the views ``[4, 3, S, S]``, which are not blank."""
    drawn = OrbitRenderer(CameraOptions(renderer="numba"), views.shape[-1])(load_ply(path)[None])[0]
    assert float((1 - views).amax(dim=(1, 2, 3)).min()) > 0.1, "every view shows something"
    error = (drawn - views).abs().mean(dim=(1, 2, 3))
    assert float(error.max()) < atol, error
    assert float((drawn.roll(1, 0) - views).abs().mean()) > 2 * float(error.mean()), "turned, it is another picture"


def assert_frame_is_as_shown(number: int, video: str = "w_interp_x_fixed") -> None:
    """``results/x/frame<number>.ply``, counted from 1, is that frame of the video of fixed views."""
    (shown,) = read_video(f"results/{video}.mp4").frames([number - 1])
    views = rearrange(shown, "c h (v w) -> v c h w", w=SHOWN)
    assert_file_shows(Path(f"results/x/frame{number:04d}.ply"), views, 0.02)


def assert_lift_is_as_shown(name: str) -> None:
    """``results/<name>.ply`` is what the four side views show."""
    views = torch.stack([load_image(f"results/{name}_{view:03d}.png") for view in range(4)])
    assert_file_shows(Path(f"results/{name}.ply"), views, 0.005)
