"""Interface of the renderers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor

from core.cameras import Cameras
from core.gaussians import Gaussians

RasterizeMode = Literal["classic", "antialiased"]
"""classic: 3DGS; small Gaussians grow with the pixel. antialiased: less blur, and opacity falls so that a Gaussian's
integral over the image stays the same, as in Mip-Splatting's 2D filter."""
LOW_PASS: dict[str, float] = {"classic": 0.3, "antialiased": 0.1}
"""Pixels^2 added to both image variances in each mode, as published by 3DGS and by Mip-Splatting."""


@dataclass(frozen=True)
class RenderOutput:
    """Images of one render call; the leading axes are those of the cameras, usually ``[B, T, V]``.

    Attributes:
        image: ``[..., 3, H, W]`` RGB over the background: sum_i w_i c_i + (1 - alpha) background. Not clamped.
        alpha: ``[..., 1, H, W]`` coverage, sum_i w_i.
        depth: ``[..., 1, H, W]`` accumulated depth sum_i w_i z_i along the viewing axis, world units. Divide by alpha
            for the mean depth.
    """

    image: Tensor
    alpha: Tensor
    depth: Tensor

    def to(self, device: torch.device | str) -> RenderOutput:
        """The same images on another device."""
        return RenderOutput(self.image.to(device), self.alpha.to(device), self.depth.to(device))


class Renderer(Protocol):
    """Differentiable renderer: all samples, frames and cameras in one call."""

    name: str
    on_gpu: bool  # whether it draws on a GPU; of the class

    def __init__(self, near: float, far: float, rasterize_mode: RasterizeMode = "classic") -> None:
        """Clipping planes in world units, and the mode; raises `UserError` where the backend cannot run."""
        ...

    def __call__(self, gaussians: Gaussians, cameras: Cameras, background: Tensor | None = None) -> RenderOutput:
        """Render the Gaussians of every sample and frame from their own cameras.

        Args:
            gaussians: leading axes ``[B, T]``.
            cameras: leading axes ``[B, T, V]``. Without B, or without B and T, the leading axes of both shrink alike.
            background: RGB, ``[3]`` or broadcastable to ``[B, T, V, 3]``; white when not given.

        Raises:
            ValueError: the leading axes do not fit, or a Gaussian or camera holds NaN or infinity.
        """
        ...


@dataclass(frozen=True)
class Batch:
    """Inputs of a render call with the leading axes flattened: G frames, I = G V images."""

    gaussians: Gaussians  # [G]
    cameras: Cameras  # [G, V]
    background: Tensor  # [G, V, 3]
    lead: torch.Size  # of the cameras

    def output(self, image: Tensor, alpha: Tensor, depth: Tensor) -> RenderOutput:
        """Give ``[I, C, H, W]`` (or ``[G, V, C, H, W]``) images their leading axes back."""
        height, width = self.cameras.size
        return RenderOutput(
            image.reshape(*self.lead, 3, height, width),
            alpha.reshape(*self.lead, 1, height, width),
            depth.reshape(*self.lead, 1, height, width),
        )


def flatten_inputs(gaussians: Gaussians, cameras: Cameras, background: Tensor | None) -> Batch:
    """Check the shapes of a render call and flatten its leading axes.

    Raises:
        ValueError: camera axes are not the Gaussians' axes plus one for the views, or the image is empty.
    """
    lead = cameras.shape
    if len(lead) == 0 or lead[:-1] != gaussians.shape:
        raise ValueError(
            f"cameras must have the Gaussians' leading axes {tuple(gaussians.shape)} and one more for the views, "
            f"got {tuple(lead)}"
        )
    if min(cameras.size) < 1:
        raise ValueError(f"image size must be positive, got {cameras.size} (height, width)")
    groups, views = gaussians.shape.numel(), lead[-1]
    if background is None:
        background = gaussians.means.new_ones(3)
    try:
        background = background.to(gaussians.means).expand(*lead, 3)
    except RuntimeError:
        raise ValueError(
            f"background must be [3] or broadcast to {(*lead, 3)}, got {tuple(background.shape)}"
        ) from None
    return Batch(
        gaussians.reshape(groups),
        cameras.reshape(groups, views),
        background.reshape(groups, views, 3),
        lead,
    )


def check_planes(near: float, far: float) -> None:
    """Raise ValueError unless 0 < near < far."""
    if not 0 < near < far:
        raise ValueError(f"need 0 < near < far for the clipping planes, got near {near} and far {far}")
