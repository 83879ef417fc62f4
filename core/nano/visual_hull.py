"""The visual hull: the points that lie inside the silhouettes of all views."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from core.cameras import Cameras
from core.images import resize_area
from core.nano.visual_hull_kernels import enter_hull

REACH = 0.9  # world units before and behind the point of a ray that is nearest to the origin
_STEPS = 64
_AT_ONCE = 1 << 20  # samples, so that a CPU's cache may hold them; at least those of one time step
_PARALLEL = 0.94  # cosine: closer than 20 degrees to each other's axis


class HullFront(NamedTuple):
    """Intersection of rays ``[..., h, w]`` with the hull; both fields are zero without foreground within a pixel.

    Attributes:
        depth: signed distance from the ray's point nearest to the origin to where it enters, within ``REACH``.
        hit: 1 where the ray hits the hull or no view bounds it, 0 where it stays well outside, or enters it more than a
            pixel beside view 0's silhouette; soft at the rim.
    """

    depth: Tensor
    hit: Tensor


class Rays(NamedTuple):
    """R rays of each view, R being the number of the view with the largest foreground.

    Attributes:
        pixels: ``[N, V, R]``: flat pixel indices.
        valid: ``[N, V, R]``: false for padding.
        closest_points: ``[N, V, R, 3]``: their points closest to the origin.
        directions: ``[N, V, R, 3]``, unit length.
    """

    pixels: Tensor
    valid: Tensor
    closest_points: Tensor
    directions: Tensor


def foreground_rays(cameras: Cameras, silhouettes: Tensor, size: tuple[int, int]) -> Rays:
    """Rays through the foreground or beside it.

    Args:
        cameras: leading axes ``[N, V]``.
        silhouettes: ``[N, V, 1, H, W]``: foreground in [0, 1].
        size: (h, w) of the grid of rays.
    """
    shown = F.max_pool2d(resize_area(silhouettes, size).flatten(0, 1), 3, stride=1, padding=1)
    shown = shown.reshape(*cameras.shape, size[0] * size[1]) > 0
    pixels = first_places(shown)
    centres = torch.stack([pixels % size[1], pixels // size[1]], dim=-1) + 0.5
    origins, directions = (x.to(silhouettes) for x in cameras.resized(size).rays_through(centres))
    closest = origins - (origins * directions).sum(-1, keepdim=True) * directions
    return Rays(pixels, shown.take_along_dim(pixels, dim=2), closest, directions)


def first_places(mask: Tensor) -> Tensor:
    """Indices of the true values of a mask ``[..., P]``, in order: ``[..., R]``, R the largest count; shorter rows are
    padded."""
    count = max(1, int(mask.sum(-1).max()))
    return mask.int().argsort(dim=-1, descending=True, stable=True)[..., :count]


def on_pixels(values: Tensor, rays: Rays, size: tuple[int, int]) -> Tensor:
    """Values ``[N, V, R, C]`` of rays as images ``[N, V, C, h, w]``, zero elsewhere."""
    images = values.new_zeros(*values.shape[:2], size[0] * size[1], values.shape[-1])
    images.scatter_(2, rays.pixels[..., None].expand_as(values), values * rays.valid[..., None])
    return rearrange(images, "n v (h w) c -> n v c h w", h=size[0])


@torch.no_grad()
def hull_front(cameras: Cameras, silhouettes: Tensor, size: tuple[int, int], rays: Rays | None = None) -> HullFront:
    """Where each view's rays enter the hull of the other views' silhouettes.

    Other views bound a view's rays if they have foreground and do not look along its axis, where silhouettes give no
    depth. For a ray that misses the hull, the closest point counts. Without bounding views the own silhouette is
    inflated: depth equals the distance to the outline.

    Args:
        cameras: leading axes ``[B, T, V]``.
        silhouettes: ``[B, T, V, 1, H, W]``: foreground in [0, 1], at any resolution.
        size: (h, w) of the rays.
        rays: `foreground_rays` of these cameras and silhouettes; None: computed here.

    Returns:
        depth and whether the ray hits the hull, ``[B, T, V, h, w]`` each.
    """
    flat, masks = cameras.reshape(-1, cameras.shape[2]), silhouettes.flatten(0, 1)
    rays = rays or foreground_rays(flat, masks, size)
    batch = max(1, _AT_ONCE // (rays.pixels[0].numel() * _STEPS))
    parts = [slice(i, i + batch) for i in range(0, len(masks), batch)]
    values = torch.cat([_fronts(flat[part], masks[part], Rays(*(x[part] for x in rays)), size) for part in parts])
    depth, hit = on_pixels(values, rays, size).unbind(dim=2)
    return HullFront(depth.reshape(*cameras.shape, *size), hit.reshape(*cameras.shape, *size))


def enter(cameras: Cameras, masks: Tensor, rays: Rays, valid_views: Tensor) -> tuple[Tensor, Tensor]:
    """Where rays enter the hull of the silhouettes of views.

    Args:
        cameras: of the silhouettes, leading axes ``[N, V]``.
        masks: silhouettes ``[N, V, 1, H, W]`` in [0, 1].
        rays: of I views that need not be among those, ``[N, I, R]``.
        valid_views: ``[N, I, V]`` bool: views whose silhouettes bound the rays of each view.

    Returns:
        ``[N, I, R]`` each: the signed distance from a ray's closest point to where it enters or comes nearest; and 1
        where it enters, less at the hull's rim, 0 outside. What no view bounds has any depth, and at least 1.
    """
    points = rays.closest_points
    steps = torch.linspace(-REACH, REACH, _STEPS).to(points)
    if points.device.type != "cpu" or points.dtype != torch.float32:
        return _walk(cameras, masks, rays, valid_views, steps)
    projection = cameras.to_homogeneous()
    found = enter_hull(points, rays.directions, rays.valid, valid_views, *projection, masks[:, :, 0], steps)
    return found[..., 0], found[..., 1]


def _fronts(cameras: Cameras, masks: Tensor, rays: Rays, size: tuple[int, int]) -> Tensor:
    """Depth and hit of `HullFront`, ``[N, V, R, 2]``."""
    axes = cameras.c2w[..., :3, 2]
    along = (axes[:, :, None] * axes[:, None]).sum(-1).abs() > _PARALLEL  # itself, and the view from behind
    valid_views = ~along & (masks.amax(dim=(2, 3, 4)) > 0.5)[:, None]
    depth, hit = enter(cameras, masks, rays, valid_views)
    bounded = valid_views.any(dim=-1)[..., None]
    if not bounded.all():
        inflated = _inflated(cameras.resized(size), masks, size).flatten(2).take_along_dim(rays.pixels, dim=2)
        depth, hit = torch.where(bounded, depth, -inflated), torch.where(bounded, hit, 1.0)
    return torch.stack([depth, hit * _shown_in_front(cameras, masks[:, 0], rays, depth)], dim=-1)


def _shown_in_front(cameras: Cameras, mask: Tensor, rays: Rays, depth: Tensor) -> Tensor:
    """Whether view 0 sees foreground within a pixel of where the rays ``[N, V, R]`` enter; 1 for its own rays.

    A view from behind bounds no depths, so a part that has left view 0's silhouette would stay in it.
    """
    points = rays.closest_points + depth[..., None] * rays.directions
    pixels, _ = cameras[:, :1].expand(*cameras.shape).project(points)
    places = 2 * pixels / pixels.new_tensor(cameras.size[::-1]) - 1
    near = F.max_pool2d(mask, 3, stride=1, padding=1)
    shown = F.grid_sample(near, places.flatten(1, 2)[:, None], align_corners=False).reshape(depth.shape)
    shown = torch.where((mask.amax(dim=(1, 2, 3)) > 0.5)[:, None, None], (2 * shown).clamp(max=1.0), 1.0)
    return torch.cat([torch.ones_like(shown[:, :1]), shown[:, 1:]], dim=1)


def _walk(cameras: Cameras, masks: Tensor, rays: Rays, valid_views: Tensor, steps: Tensor) -> tuple[Tensor, Tensor]:
    """The kernel in plain torch, for any device and type."""
    owners, count = rays.valid.shape[1:]
    height, width = cameras.size
    points, directions = rays.closest_points.flatten(1, 2), rays.directions.flatten(1, 2)
    # From pixels to [-1, 1] across the image, before the division by depth.
    to_square = points.new_tensor([[2 / width, 0, -1], [0, 2 / height, -1], [0, 0, 1]])
    inside = points.new_full((*points.shape[:2], len(steps)), 2.0)
    grid = points.new_empty(*inside.shape, 2)
    for view in range(cameras.shape[1]):
        camera = cameras[:, view]
        matrix, offset = camera.to_homogeneous()
        matrix, offset = to_square @ matrix, offset @ to_square.mT
        start, slope = points @ matrix.mT + offset[:, None], directions @ matrix.mT
        x, y, z = (torch.addcmul(start[..., axis, None], slope[..., axis, None], steps) for axis in range(3))
        torch.div(x, z, out=grid[..., 0])
        torch.div(y, z, out=grid[..., 1])
        found = F.grid_sample(masks[:, view], grid, align_corners=False).squeeze(1)
        ignored = ~valid_views[:, :, view].repeat_interleave(count, dim=1)
        torch.minimum(inside, found.masked_fill_(ignored[..., None], 2.0), out=inside)
    enters = inside > 0.5
    # Without a sample inside: the best one; ties prefer the middle of the ray.
    closest = (inside - 1e-3 * steps.abs()).argmax(dim=-1)
    first = torch.where(enters.any(dim=-1), enters.int().argmax(dim=-1), closest)
    depth = steps[first] - _before(inside, first) * (steps[1] - steps[0])
    most = inside.amax(dim=-1)
    depth = depth * (most > 0.0)  # a silhouette far away gives no depth
    return tuple(rearrange(x, "n (v r) -> n v r", v=owners) for x in (depth, (2 * most).clamp(max=1.0)))


def _inflated(cameras: Cameras, masks: Tensor, size: tuple[int, int]) -> Tensor:
    """Distance ``[(b t), V, h, w]`` of every pixel to its silhouette's outline, at most a quarter image, world units.

    Half the side of the largest square around it that fits, found by erosions with 3 x 3 pixels. A pixel has the size
    that it has on the plane through the origin.
    """
    left = resize_area(masks, size).flatten(0, 1)
    distance = torch.zeros_like(left)
    for _ in range(size[1] // 4):
        left = -F.max_pool2d(-left, 3, stride=1, padding=1)
        distance += left
    pixel = cameras.positions.norm(dim=-1) / cameras.intrinsics[..., 0, 0]
    return distance.reshape(*masks.shape[:2], *size) * pixel[..., None, None]


def _before(inside: Tensor, first: Tensor) -> Tensor:
    """How far before sample ``first`` the ray rose through one half, in steps, by a straight line; 0 if it did not."""
    here = inside.gather(-1, first[..., None]).squeeze(-1)
    last = inside.gather(-1, (first - 1).clamp_min(0)[..., None]).squeeze(-1)
    rose = (first > 0) & (here > 0.5) & (last < 0.5)
    return torch.where(rose, (here - 0.5) / (here - last).clamp_min(1e-6), 0.0)
