"""Augmentations: distorted side views, mirrored and recoloured objects.

Warped images and jittered rays imitate errors of multi-view diffusion: inconsistent shapes and inexact poses. Formulas:
the published training code of LGM and L4GM. Mirroring and recolouring, not published, enlarge a small collection. Every
function returns a new value and draws from the generator it is given, on the generator's device.
"""

from __future__ import annotations

import math
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from core.cameras import Cameras

JITTER_STRENGTH = 0.1
"""Published: up to 0.1 pi about the camera's up axis and half of that about its right axis."""
GRID_KNOTS = (8, 16)
"""Smallest and largest number of distortion knots along an axis."""


def grid_distortion(images: Tensor, generator: Generator) -> Tensor:
    """Stretch and squeeze every image ``[..., C, H, W]`` along x and y by random piecewise linear ramps.

    The number of knots is drawn once for all images, the knots for each image. Samples beyond the border are 0, as
    published: the outermost half pixel darkens.
    """
    batch = images.reshape(-1, *images.shape[-3:])
    low, high = GRID_KNOTS
    num_knots = int(torch.randint(low, high + 1, (1,), generator=generator, device=generator.device))
    height, width = images.shape[-2:]
    grids = []
    for _ in range(len(batch)):
        x = _distorted_ramp(width, num_knots, generator)
        y = _distorted_ramp(height, num_knots, generator)
        grids.append(torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1))
    grid = torch.stack(grids).to(images)
    return F.grid_sample(batch, grid, padding_mode="zeros", align_corners=False).reshape(images.shape)


def _distorted_ramp(size: int, num_knots: int, generator: Generator) -> Tensor:
    """Sampling positions ``[size]`` in [-1, 1]: between moved knots, the ramp of the knots that did not move."""
    steps = num_knots - 1
    noise = torch.rand(num_knots, generator=generator, device=generator.device) - 0.5
    even = torch.arange(num_knots, device=generator.device) / steps
    knots = ((even + 0.5 * noise / steps).clamp(0, 1) * size).long()
    knots[0], knots[-1] = 0, size
    pixels = torch.arange(size, device=generator.device)
    segment = torch.searchsorted(knots, pixels, right=True) - 1
    start, end = knots[segment], knots[segment + 1]
    inside = (pixels - start) / (end - start - 1).clamp(min=1)
    return -1.0 + 2.0 * (segment + inside) / steps


def mirror(images: Tensor, masks: Tensor, cameras: Cameras) -> tuple[Tensor, Tensor, Cameras]:
    """The sample as seen in the mirror x = 0: images left to right, poses M c2w M with M = diag(-1, 1, 1, 1).

    Args:
        images, masks: ``[..., C, H, W]``.
        cameras: the same leading axes; principal points in the middle of the image.
    """
    flip = torch.tensor([-1.0, 1.0, 1.0, 1.0], dtype=cameras.c2w.dtype, device=cameras.c2w.device)
    return images.flip(-1), masks.flip(-1), replace(cameras, c2w=flip[:, None] * cameras.c2w * flip)


def swap_colors(images: Tensor, generator: Generator) -> Tensor:
    """One random order of the three colour channels for all images ``[..., 3, H, W]``; white stays white."""
    return images[..., torch.randperm(3, generator=generator, device=generator.device).to(images.device), :, :]


def camera_jitter(cameras: Cameras, generator: Generator, strength: float = JITTER_STRENGTH) -> Cameras:
    """Move every camera on its orbit about the origin by a small random rotation; intrinsics stay.

    R = Rot(up * s pi a) Rot(right * s pi b / 2) with a, b uniform in [-1, 1] for each camera, multiplied from the left
    on the whole pose. With the published strength 0.1 these are at most 18 and 9 degrees.

    Args:
        cameras: any leading axes.
        strength: s, dimensionless.
    """
    a, b = 2.0 * torch.rand(2, *cameras.shape, 1, generator=generator, device=generator.device).to(cameras.c2w) - 1.0
    right, up = cameras.c2w[..., :3, 0], -cameras.c2w[..., :3, 1]
    rotation = _rotation(up * strength * math.pi * a) @ _rotation(right * 0.5 * strength * math.pi * b)
    moved = torch.cat([rotation @ cameras.c2w[..., :3, :], cameras.c2w[..., 3:, :]], dim=-2)
    return replace(cameras, c2w=moved)


def _rotation(vector: Tensor) -> Tensor:
    """Rotation matrices ``[..., 3, 3]`` of rotation vectors ``[..., 3]`` in radians: exp of the cross product."""
    x, y, z = vector.unbind(-1)
    zero = torch.zeros_like(x)
    rows = [torch.stack(row, dim=-1) for row in ((zero, -z, y), (z, zero, -x), (-y, x, zero))]
    return torch.linalg.matrix_exp(torch.stack(rows, dim=-2))
