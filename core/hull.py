"""The visual hull: the points that lie inside the silhouettes of all views."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from core.cameras import Cameras, cross

REACH = 0.9  # world units before and behind the point of a ray that is nearest to the origin
_STEPS = 32


@torch.no_grad()
def hull_front(cameras: Cameras, silhouettes: Tensor, size: tuple[int, int]) -> Tensor:
    """Where each view's rays enter the hull of the other views' silhouettes.

    A view without any foreground tells nothing and is left out. A ray that misses the hull takes the place where it
    comes nearest, the plane through the origin where no other view tells anything.

    Args:
        cameras: leading axes ``[B, T, V]``.
        silhouettes: ``[B, T, V, 1, H, W]``: foreground in [0, 1], at any resolution.
        size: (h, w), the rays that are asked for.

    Returns:
        ``[B, T, V, h, w]``: signed distance along the ray from its point nearest to the origin, within ``REACH``.
    """
    frames, views = cameras.shape[1:]
    moments, directions = rearrange(cameras.resized(size).pluecker(), "b t v (two c) h w -> two (b t) (v h w) c", two=2)
    feet = cross(directions, moments)
    steps = torch.linspace(-REACH, REACH, _STEPS).to(feet)
    height, width = cameras.size
    flat = cameras.reshape(-1, views)
    # From pixels to [-1, 1] across the image, before the division by depth.
    to_square = feet.new_tensor([[2 / width, 0, -1], [0, 2 / height, -1], [0, 0, 1]])
    masks = rearrange(silhouettes.to(feet), "b t v c h w -> (b t) v c h w")
    inside = feet.new_full((*feet.shape[:2], _STEPS), 2.0)
    grid = feet.new_empty(*inside.shape, 2)
    for view in range(views):
        camera = flat[:, view]
        to_pixels = to_square @ camera.intrinsics @ camera.w2c[:, :3, :3]
        offset = (to_square @ camera.intrinsics @ camera.w2c[:, :3, 3:]).mT
        start, slope = feet @ to_pixels.mT + offset, directions @ to_pixels.mT
        x, y, z = (torch.addcmul(start[..., axis, None], slope[..., axis, None], steps) for axis in range(3))
        torch.div(x, z, out=grid[..., 0])
        torch.div(y, z, out=grid[..., 1])
        found = F.grid_sample(masks[:, view], grid, align_corners=False).squeeze(1)
        tells = masks[:, view].amax(dim=(1, 2, 3)) > 0.5
        own = torch.arange(feet.shape[1], device=feet.device) // (size[0] * size[1]) == view
        ignored = own[None, :] | ~tells[:, None]
        torch.minimum(inside, found.masked_fill_(ignored[..., None], 2.0), out=inside)
    enters = inside > 0.5
    # Where no sample lies inside, the best one; ties, as where nothing is known, go to the middle of the ray.
    closest = (inside - 1e-3 * steps.abs()).argmax(dim=-1)
    known = (inside.amin(dim=-1) < 2.0) & (inside.amax(dim=-1) > 0.0)
    first = torch.where(enters.any(dim=-1), enters.int().argmax(dim=-1), closest)
    depth = steps[first] * known
    return rearrange(depth, "(b t) (v h w) -> b t v h w", t=frames, v=views, h=size[0])
