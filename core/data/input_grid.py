"""What the network sees: images and camera rays in one grid, for training and inference alike.

The published network has nine input channels: ImageNet-normalised colours, then the Plücker coordinates (o x d, d) of
every pixel's ray. A video enters as view 0 of every frame; the other three views exist for the first frame only and
are repeated (`replicate_side_views`), or lie between two known frames (`blend_between_ends`).
"""

from __future__ import annotations

from dataclasses import replace

import torch
from einops import rearrange
from torch import Tensor

from core.cameras import Cameras
from core.nano.ray_head import RGB_MEAN, RGB_STD


def build_grid(images: Tensor, cameras: Cameras) -> Tensor:
    """Normalise colours and append the rays.

    Args:
        images: ``[..., 3, H, W]`` RGB in [0, 1] on white, leading axes usually ``[B, T, V]``.
        cameras: the same leading axes and the same image size.

    Returns:
        grid ``[..., 9, H, W]``: normalised RGB, moment o x d, unit direction d; device and dtype of the images.

    Raises:
        ValueError: images and cameras disagree in leading axes or in size.
    """
    if images.shape[:-3] != cameras.shape or tuple(images.shape[-2:]) != tuple(cameras.size):
        raise ValueError(
            f"images {tuple(images.shape)} do not belong to cameras with leading axes {tuple(cameras.shape)} "
            f"and size {tuple(cameras.size)}"
        )
    rays = cameras.pluecker().to(images)
    return torch.cat([_normalise(images), rays], dim=-3)


def replicate_side_views(images: Tensor, cameras: Cameras) -> tuple[Tensor, Cameras]:
    """View 0 keeps its own frames; views 1, 2, ... of every frame are those of frame 0, images and cameras.

    Args:
        images: ``[..., T, V, 3, H, W]``.
        cameras: leading axes ``[..., T, V]``.
    """
    front, sides = images[..., :, :1, :, :, :], images[..., :1, 1:, :, :, :]
    sides = sides.expand_as(images[..., :, 1:, :, :, :])
    return torch.cat([front, sides], dim=-4), _replicate_side_cameras(cameras)


def blend_between_ends(images: Tensor, cameras: Cameras) -> tuple[Tensor, Cameras]:
    """The interpolation model's input: the frames between the first and the last become linear blends of the two.

    Frame t has weight t / (T - 1) on the last frame, all views alike; the two ends keep their true views. The cameras
    of views 1, 2, ... are those of frame 0.

    Args:
        images: ``[..., T, V, 3, H, W]``; the frames between the ends are not read.
        cameras: leading axes ``[..., T, V]``.
    """
    first, last = images[..., 0, :, :, :, :], images[..., -1, :, :, :, :]
    return cross_fade(first, last, images.shape[-5]), _replicate_side_cameras(cameras)


def cross_fade(first: Tensor, last: Tensor, num_frames: int) -> Tensor:
    """From one grid of images to another, both ``[..., V, 3, H, W]``, in ``[..., T, V, 3, H, W]``; equal ones stay."""
    weights = torch.linspace(0.0, 1.0, num_frames, dtype=first.dtype, device=first.device)
    return torch.lerp(first.unsqueeze(-5), last.unsqueeze(-5), rearrange(weights, "t -> t 1 1 1 1"))


def front_alone(grid: Tensor) -> Tensor:
    """View dropout: what the front video alone gives instead of views 1, 2, ... of a grid ``[..., V, 9, H, W]``.

    Rays stay. Images become white, but a view that looks at view 0 from behind shows it mirrored: from afar the two
    have one outline.
    """
    front = grid[..., :1, :, :, :]
    middle = grid[..., 6:9, grid.shape[-2] // 2, grid.shape[-1] // 2]
    opposite = (middle * middle[..., :1, :]).sum(-1) < -0.99
    white = _normalise(torch.ones_like(grid[..., 1:, :3, :, :]))
    mirrored = front[..., :3, :, :].flip(-1).expand_as(white)
    sides = torch.where(opposite[..., 1:, None, None, None], mirrored, white)
    return with_sides(grid, sides)


def with_sides(grid: Tensor, colors: Tensor) -> Tensor:
    """A grid ``[..., V, 9, H, W]`` with other normalised colours ``[..., V - 1, 3, H, W]`` in views 1, 2, ...

    View 0 and all rays stay.
    """
    sides = torch.cat([colors.to(grid), grid[..., 1:, 3:, :, :]], dim=-3)
    return torch.cat([grid[..., :1, :, :, :], sides], dim=-4)


def _normalise(images: Tensor) -> Tensor:
    mean, std = (rearrange(images.new_tensor(v), "c -> c 1 1") for v in (RGB_MEAN, RGB_STD))
    return (images - mean) / std


def _replicate_side_cameras(cameras: Cameras) -> Cameras:
    *batch, num_frames, num_views = cameras.shape
    front = cameras[..., :, :1]
    sides = cameras[..., :1, 1:].expand(*batch, num_frames, num_views - 1)
    return replace(
        cameras,
        c2w=torch.cat([front.c2w, sides.c2w], dim=-3),
        intrinsics=torch.cat([front.intrinsics, sides.intrinsics], dim=-3),
    )
