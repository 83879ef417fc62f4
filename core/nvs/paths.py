"""Camera paths of the videos. World of objects: z up, centre at the origin."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from core.cameras import Cameras, cross

FRAMES = 120
"""Of a turntable."""
_HFOV = 50.0  # degrees
_BETWEEN = 2  # cameras between neighbouring inputs


def turntable(size: tuple[int, int]) -> Cameras:
    """The published path around an object ``[120]``: 30 degrees high and 2.35 away, both swaying once.

    Azimuth 0 to 357 degrees; elevation 30 + 15 sin p, radius 2.35 + 0.65 sin p with p from 0 to 2 pi; horizontal field
    of view 50 degrees. (Published: width and height are swapped where they differ.)
    """
    phase = torch.linspace(0, 2 * math.pi, FRAMES, dtype=torch.float64)
    azimuth = torch.arange(FRAMES, dtype=torch.float64) * 360 / FRAMES
    c2w = look_at_origin(azimuth, 30 + 15 * phase.sin(), 2.35 + 0.65 * phase.sin())
    height, width = size
    focal = width / 2 / math.tan(math.radians(_HFOV) / 2)
    intrinsics = torch.tensor([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]])
    return Cameras(c2w.float(), intrinsics.expand(FRAMES, 3, 3), size)


def orbit(inputs: Cameras) -> Cameras:
    """A level circle ``[120]`` at the mean elevation and distance of the inputs ``[v]``, with their mean intrinsics."""
    positions = inputs.positions.double()
    radius = positions.norm(dim=-1).mean()
    elevation = torch.rad2deg(torch.asin(F.normalize(positions, dim=-1)[:, 2])).mean().clamp(-80, 80)
    azimuth = torch.arange(FRAMES, dtype=torch.float64) * 360 / FRAMES
    c2w = look_at_origin(azimuth, elevation.expand(FRAMES), radius.expand(FRAMES))
    return Cameras(c2w.float(), inputs.intrinsics.mean(0).expand(FRAMES, 3, 3), inputs.size)


def interpolate(inputs: Cameras) -> Cameras:
    """From input to input ``[3 v - 2]``: two cameras between neighbours, as published.

    Poses and intrinsics change linearly, and each rotation is then the nearest one (published: left as it is, so that
    pictures shear).
    """
    steps = torch.arange((len(inputs.c2w) - 1) * (_BETWEEN + 1) + 1, dtype=torch.float64) / (_BETWEEN + 1)
    first = steps.floor().long()
    second, part = (first + 1).clamp_max(len(inputs.c2w) - 1), (steps - first)[:, None, None]
    c2w, intrinsics = (
        torch.lerp(values[first].double(), values[second].double(), part) for values in (inputs.c2w, inputs.intrinsics)
    )
    u, _, v = torch.linalg.svd(c2w[:, :3, :3])
    flip = torch.ones_like(c2w[:, :3, 0])
    flip[:, 2] = (u @ v).det()  # opposite cameras may turn into a mirror
    c2w[:, :3, :3] = u * flip[:, None, :] @ v
    return Cameras(c2w.float(), intrinsics.float(), inputs.size)


def look_at_origin(azimuth: Tensor, elevation: Tensor, radius: Tensor) -> Tensor:
    """OpenCV cameras ``[n, 4, 4]`` that look at the origin, z up; degrees, azimuth from x towards y."""
    a, e = torch.deg2rad(azimuth), torch.deg2rad(elevation)
    outward = torch.stack([e.cos() * a.cos(), e.cos() * a.sin(), e.sin()], dim=-1)
    right = F.normalize(cross(-outward, torch.tensor([0, 0, 1.0], dtype=a.dtype).expand_as(outward)), dim=-1)
    c2w = torch.eye(4, dtype=a.dtype).repeat(len(a), 1, 1)
    c2w[:, :3] = torch.stack([right, cross(-outward, right), -outward, radius[:, None] * outward], dim=-1)
    return c2w
