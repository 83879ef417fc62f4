"""A small cost volume as additional input channels: colours of the neighbouring views at possible depths of a pixel.

A surface point is usually visible in one of the two views a quarter turn away. If its colour there matches the pixel's,
the surface may lie at that depth. This helps networks that are too small to find correspondences by attention.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from core.images import resize_area
from core.nano.cost_volume_kernels import compare_neighbours
from core.nano.scene import Scene
from core.nano.visual_hull import Rays, on_pixels

OFFSETS = (0.0, 0.03, 0.07, 0.12, 0.18, 0.26, 0.36)
"""Depths that are compared: world units behind where the ray enters the visual hull."""
NEIGHBOURS = (1, -1)
SCENE_CHANNELS = 2 + len(NEIGHBOURS) * (len(OFFSETS) + 3)


@torch.no_grad()
def scene_channels(scene: Scene) -> Tensor:
    """Hull channels, and the comparison of every view with the next and the previous one around the object.

    The channels of an image are those of the time step where it first occurs: older side views would not match later
    front views. One encoding therefore serves all times (`core.model.fast`).

    Returns:
        of the images ``[N, 22, H, W]``: the hull's depth and whether the ray hits it; then for the next view, and for
        the previous one, the mean absolute colour difference at each of `OFFSETS` and the colour at the first of them,
        from -1 to 1. Zero on rays far from the foreground.
    """
    images, size = scene.grid.images, scene.size
    first = _first_places(scene.index, len(images))
    fresh = first[scene.index] == torch.arange(scene.index.numel(), device=first.device).reshape(scene.index.shape)
    rays = scene.rays._replace(valid=scene.rays.valid & fresh.flatten(0, 1)[..., None])
    in_numba = images.device.type == "cpu" and images.dtype == torch.float32
    compared = (_compared_in_numba if in_numba else _compared)(scene, rays, images[scene.index].flatten(0, 1), size)
    hull = torch.stack(scene.hull, dim=3).flatten(0, 2)
    channels = torch.cat([hull[first], compared.flatten(0, 1)[first]], dim=1)
    if size != tuple(images.shape[-2:]):
        channels = F.interpolate(channels, size=tuple(images.shape[-2:]), mode="nearest")
    return channels


def _first_places(index: Tensor, count: int) -> Tensor:
    """For each of ``count`` images the first place in ``index``, flattened, that holds it."""
    places = torch.arange(index.numel(), device=index.device)
    return places.new_full((count,), index.numel()).scatter_reduce(0, index.flatten(), places, "amin")


def _compared_in_numba(scene: Scene, rays: Rays, images: Tensor, size: tuple[int, int]) -> Tensor:
    """Differences and colours of both neighbours of images ``[N, V, 3, H, W]``, ``[N, V, 20, h, w]``."""
    depths = scene.hull.depth.flatten(0, 1).flatten(2)
    cameras = scene.cameras.reshape(*images.shape[:2])
    last = "n v c h w -> n v h w c"
    own = rearrange(resize_area(images, size), last).flatten(2, 3)
    result = images.new_zeros(*images.shape[:2], SCENE_CHANNELS - 2, size[0] * size[1])
    offsets, turns = torch.tensor(OFFSETS), torch.tensor(NEIGHBOURS)
    compare_neighbours(*rays, depths, offsets, turns, *cameras.to_homogeneous(), rearrange(images, last), own, result)
    return result.unflatten(-1, size)


def _compared(scene: Scene, rays: Rays, images: Tensor, size: tuple[int, int]) -> Tensor:
    """The kernel in plain torch, for any device and type."""
    views = images.shape[1]
    cameras = scene.cameras.reshape(*images.shape[:2])
    own = resize_area(images, size).flatten(3).take_along_dim(rays.pixels[:, :, None], dim=3)[:, :, :, None]
    front = scene.hull.depth.flatten(0, 1).flatten(2).take_along_dim(rays.pixels, dim=2)
    depths = front[:, :, None] + front.new_tensor(OFFSETS)[:, None]
    points = rays.closest_points[:, :, None] + depths[..., None] * rays.directions[:, :, None]
    found = []
    for turn in NEIGHBOURS:
        other = [(view + turn) % views for view in range(views)]
        pixels, _ = cameras[:, other].project(points.flatten(2, 3))
        places = 2 * pixels / pixels.new_tensor(cameras.size[::-1]) - 1
        places = rearrange(places, "n v (k r) xy -> (n v) k r xy", k=len(OFFSETS))
        seen = F.grid_sample(images[:, other].flatten(0, 1) - 1.0, places, align_corners=False)
        seen = seen.reshape(-1, views, *seen.shape[1:]) + 1.0  # white beyond the border
        found += [(seen - own).abs().mean(dim=2), 2 * seen[:, :, :, 0] - 1]
    return on_pixels(rearrange(torch.cat(found, dim=2), "n v c r -> n v r c"), rays, size)
