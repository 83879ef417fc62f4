"""A training term that finds depths early: distance of Gaussians from the front of the visual hull."""

from __future__ import annotations

import torch
from einops import rearrange
from torch import Tensor

from core.cameras import Cameras
from core.gaussians import Gaussians
from core.nano.visual_hull import Rays, enter

HULL_RAYS = 256  # of a view


def hull_depth_error(
    gaussians: Gaussians, cameras: Cameras, masks: Tensor, num_inputs: int, generator: torch.Generator
) -> Tensor:
    """Mean distance, along their pixels' rays, of Gaussians from the front of the visual hull; world units.

    Gradients of a rendered loss are local to a few pixels, so depths are found slowly. The hull gives an initial depth
    for every ray that hits it; with more views it is closer to the surface. Other rays and faint Gaussians do not
    count. The mean is over the hits of a sample, then over samples:
    results are batch-independent.

    Args:
        gaussians: leading axes ``[B, T]``, ordered by input view.
        cameras: leading axes ``[B, T, V]``; the first ``num_inputs`` are the input views.
        masks: ``[B, T, V, 1, H, W]`` in [0, 1].
        num_inputs: I, the number of input views.
        generator: samples the Gaussians, ``HULL_RAYS`` of each view.
    """
    means = rearrange(gaussians.means, "b t (v n) c -> (b t) v n c", v=num_inputs)
    seen = rearrange(gaussians.opacities.detach() > 0.5, "b t (v n) -> (b t) v n", v=num_inputs)
    order = torch.rand(seen.shape[-1], generator=generator).to(means) + seen
    chosen = order.topk(min(HULL_RAYS, seen.shape[-1]), dim=-1).indices
    flat = cameras.reshape(-1, cameras.shape[2])
    origins = flat.positions[:, :num_inputs, None]
    offsets = means.take_along_dim(chosen[..., None], dim=2) - origins
    depths = offsets.norm(dim=-1)
    directions = (offsets / depths[..., None]).detach()
    # From the cameras to the rays' points that are closest to the origin.
    nearest = -(origins * directions).sum(-1)
    closest = origins + nearest[..., None] * directions
    rays = Rays(chosen, seen.take_along_dim(chosen, dim=2), closest, directions)
    all_views = torch.ones(*rays.valid.shape[:2], flat.shape[1], dtype=torch.bool, device=seen.device)
    front, hit = enter(flat, masks.flatten(0, 1), rays, all_views)
    hits = rays.valid & (hit >= 1)
    errors = (depths - (nearest + front)).abs() * hits
    sums, counts = (x.reshape(cameras.shape[0], -1).sum(dim=1) for x in (errors, hits))
    return (sums / counts.clamp_min(1)).mean()
