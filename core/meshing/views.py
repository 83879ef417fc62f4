"""What a frame looks like from all around: colour, coverage and depth, for its shape and for its colours."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from core.cameras import FOVY, Cameras, orbit_cameras
from core.gaussians import Gaussians
from core.meshing.fusion_kernels import fuse_depths
from core.meshing.grid import Grid
from core.rendering import Renderer

COUNT = 40
COPIES = 3
"""As often every Gaussian stands at its place: the depth is then that of the first layer, not a mean with the far
side's. """
COVERED = 0.3
"""Alpha from which a pixel shows the object."""
TRUNCATION = 3.0
"""Voxels in front of and behind a surface about which a depth picture speaks."""
PRIOR = 2.0
"""Views that say of every point that it is inside. One view that looks through a gap in a thin shell then does not
empty the shell; more than 2 fill what is between legs."""
_AT_ONCE = 8


@dataclass(frozen=True)
class Surround:
    """Pictures of one frame from all around; the cameras look at the grid's centre, which is their origin.

    Attributes:
        cameras: ``[V]``.
        color: ``[V, 3, S, S]`` over black.
        alpha: ``[V, 1, S, S]``.
        depth: ``[V, 1, S, S]`` along the viewing axis; infinite where alpha is below `COVERED`.
    """

    cameras: Cameras
    color: Tensor
    alpha: Tensor
    depth: Tensor


def sphere_cameras(count: int, radius: float, size: int) -> Cameras:
    """Cameras evenly over a sphere around the origin, leading axes ``[count]``: a Fibonacci lattice."""
    i = torch.arange(count, dtype=torch.float64) + 0.5
    elevation = torch.rad2deg(torch.asin(1 - 2 * i / count))
    azimuth = torch.rad2deg(i * math.pi * (3 - math.sqrt(5))) % 360
    return orbit_cameras(azimuth.float(), elevation.float().clamp(-85, 85), radius=radius, size=(size, size))


@torch.inference_mode()
def look_around(gaussians: Gaussians, grid: Grid, renderer: Renderer, size: int) -> Surround:
    """Draw one frame from `COUNT` sides, so that the grid fills the pictures.

    Args:
        gaussians: of one frame.
        grid: what the cameras look at.
        renderer: draws.
        size: side of the pictures in pixels.
    """
    cameras = sphere_cameras(COUNT, grid.radius / math.sin(math.radians(FOVY / 2)), size)
    means = gaussians.means - grid.centre.to(gaussians.means)
    dense = replace(gaussians, means=means, opacities=1 - (1 - gaussians.opacities) ** COPIES)
    black = torch.zeros(3)
    parts = [renderer(dense, cameras[v : v + _AT_ONCE], black).to("cpu") for v in range(0, COUNT, _AT_ONCE)]
    color, alpha, depth = (torch.cat([getattr(part, name) for part in parts]) for name in ("image", "alpha", "depth"))
    depth = torch.where(alpha >= COVERED, depth / alpha.clamp_min(1e-6), torch.inf)
    return Surround(cameras, color, alpha, depth)


def signed_distance(surround: Surround, grid: Grid) -> Tensor:
    """Mean truncated signed distance at the grid's points, see `fuse_depths`: 1 outside, -1 inside."""
    cameras = surround.cameras
    projections = (cameras.intrinsics @ cameras.w2c[:, :3]).float().contiguous().numpy()
    low = (torch.tensor(grid.low) - grid.centre).float().numpy()
    depths = surround.depth[:, 0].float().contiguous().numpy()
    return fuse_depths(grid.shape, low, grid.voxel, projections, depths, TRUNCATION * grid.voxel, PRIOR)


def point_colors(surround: Surround, points: Tensor, normals: Tensor, tolerance: float) -> tuple[Tensor, Tensor]:
    """Colours of surface points: the mean over the views that see them, those in front most.

    Args:
        points: ``[P, 3]`` in the cameras' world.
        normals: ``[P, 3]`` outward, of length 1.
        tolerance: distance from the depth picture up to which a point is seen, world units.

    Returns:
        RGB ``[P, 3]`` in [0, 1], and ``[P]`` whether any view sees the point.
    """
    total, weight = torch.zeros(len(points), 3), torch.zeros(len(points), 1)
    side = surround.cameras.size[0]
    for view in range(len(surround.color)):
        camera = surround.cameras[view]
        pixels, depth = camera.project(points)
        place = (2 * pixels / side - 1)[None, None]
        pictures = torch.cat([surround.color[view], surround.alpha[view]])[None]
        sampled = F.grid_sample(pictures, place, align_corners=False)[0, :, 0].T
        surface = F.grid_sample(surround.depth[view][None], place, mode="nearest", align_corners=False)[0, 0, 0]
        facing = (normals * F.normalize(camera.positions - points, dim=-1)).sum(-1).clamp_min(0)
        share = (facing.square() * ((depth - surface).abs() < tolerance))[:, None]
        total += share * sampled[:, :3]
        weight += share * sampled[:, 3:]
    seen = weight[:, 0] > 1e-3
    return (total / weight.clamp_min(1e-3)).clamp(0, 1), seen
