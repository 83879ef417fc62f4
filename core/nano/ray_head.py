"""The ``ray`` head: how raw channels become Gaussians near the surfaces that the silhouettes allow.

    grid [B,T,V,9,H,W] -> Scene: colours, foreground, rays, where they enter the visual hull
                            ├─> (stereo) more input channels, see core/nano/cost_volume.py
    raw [B,T,V,14 k,S,S] ───┴─> k = s s sub-pixels a pixel -> depth on the hull + residual, pixel colour + residual, ...

Far less to learn than with absolute positions, which is what a small network on a small budget needs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from core.cameras import Cameras, cameras_from_pluecker, cross
from core.gaussians import RAW_CHANNELS, Gaussians, split_raw
from core.images import resize_area
from core.nano.surface_filter import filled_opacities, filled_scales
from core.nano.visual_hull import REACH, HullFront, Rays, first_places, foreground_rays, hull_front

# ImageNet statistics: how the first three grid channels encode RGB.
RGB_MEAN = (0.485, 0.456, 0.406)
RGB_STD = (0.229, 0.224, 0.225)

_ACROSS, _ACROSS_GAIN = 0.6, 0.1  # world units: the largest shift across a ray, and that of a raw one near zero
_SHOWN, _HIDDEN = 8.0, -6.0  # logits: what shows foreground on the hull; white alone is below what is drawn


@dataclass(frozen=True)
class Scene:
    """What a grid says without any network.

    Attributes:
        cameras: ``[B, T, V]``.
        colors: ``[B, T, V, 3, H, W]`` in [0, 1].
        foreground: ``[B, T, V, 1, H, W]`` in [0, 1], 0 where a pixel is white.
        rays: through or beside these foregrounds, ``[(B T), V, R]`` of the (h, w) of each view's Gaussians.
        hull: where they enter it, ``[B, T, V, h, w]``.
        repeats: ``[B, T]`` bool: later time steps that show the first one's views 1, 2, ... again.
    """

    cameras: Cameras
    colors: Tensor
    foreground: Tensor
    rays: Rays
    hull: HullFront
    repeats: Tensor

    def at(self, moments: Tensor) -> Scene:
        """The chosen time steps, ``[B, T]`` bool, each as a sample of its own."""
        cameras, hull = self.cameras[moments][:, None], HullFront(*(x[moments][:, None] for x in self.hull))
        rays = Rays(*(x[moments.flatten()] for x in self.rays))
        colors, foreground = self.colors[moments][:, None], self.foreground[moments][:, None]
        return Scene(cameras, colors, foreground, rays, hull, torch.zeros_like(self.repeats[moments][:, None]))


def scene_of(grid: Tensor, size: tuple[int, int]) -> Scene:
    """Read a grid ``[B,T,V,9,H,W]``; ``size``: (h, w) of a view's Gaussians, which divides (H, W)."""
    grid = grid if grid.dtype == torch.float64 else grid.float()
    std, mean = (rearrange(grid.new_tensor(value), "c -> c 1 1") for value in (RGB_STD, RGB_MEAN))
    colors = grid[:, :, :, :3] * std + mean
    foreground = _foreground(colors.amin(dim=3, keepdim=True))
    cameras = cameras_from_pluecker(grid[:, :, :, 3:])
    rays = foreground_rays(cameras.reshape(-1, cameras.shape[2]), foreground.flatten(0, 1), size)
    repeats = (grid[:, :, 1:] == grid[:, :1, 1:]).flatten(2).all(dim=-1)
    repeats[:, 0] = False
    return Scene(cameras, colors, foreground, rays, hull_front(cameras, foreground, size, rays), repeats)


def activate_on_rays(raw: Tensor, scene: Scene, least: float = 0.0) -> Gaussians:
    """Every Gaussian lies near its pixel's ray and starts from its pixel's colour.

    With the ray's moment m = o x d and unit direction d, the ray's point nearest to the origin is p = d x m
    (Plücker). Position = p + (h + 0.9 tanh(raw)) d + a shift across; h is where the ray enters the visual hull of the
    other views' foregrounds, because rendered losses alone hardly moved depths. The shift, 0.6 tanh(raw / 6) in two
    directions, lets the side views of the first frame follow a motion. Standard deviation = the pixel's spacing there
    times exp of a bounded number; colour = pixel colour + residual. Opacity is biased by how far the pixel is from
    white, the background, and in views 1, 2, ..., which may be older than view 0, by whether the ray meets the hull.
    Scales and opacities then pass `core.nano.surface_filter`.

    Args:
        raw: ``[B,T,V,14 k,S,S]``, k a square number: a pixel has a sub-pixel grid of k Gaussians.
        scene: of the network's input; its hull has sqrt(k) S rays a side.
        least: opacity below which Gaussians need not be made: as many of each view stay as the one that shows most has.
    """
    raw, size = raw.to(scene.colors.dtype), tuple(scene.hull.depth.shape[-2:])
    cameras, colors = scene.cameras.resized(size), resize_area(scene.colors, size)
    fine = math.isqrt(raw.shape[3] // RAW_CHANNELS)
    grid = raw.unflatten(3, (fine, fine, RAW_CHANNELS))
    meets = scene.hull.meets.clone()
    meets[:, :, 0] = 1.0
    logits = rearrange(split_raw(grid.movedim(5, -1)).opacity, "b t v s1 s2 h w 1 -> b t v (h s1) (w s2)")
    opacities = (logits + _SHOWN * _foreground(colors.amin(dim=3)) * meets + _HIDDEN).sigmoid()
    opacities = filled_opacities(opacities).flatten(3)
    alike = all(bool((x == x[:1, :1]).all()) for x in (cameras.c2w, cameras.intrinsics))
    rays = [x.to(colors) for x in _rays(cameras[:1, :1] if alike else cameras)]
    nearest, directions, spacing = (x.expand(*cameras.shape, *x.shape[3:]) for x in rays)
    fields = [
        rearrange(grid, "b t v s1 s2 c h w -> b t v (h s1) (w s2) c"),
        rearrange(colors, "b t v c h w -> b t v h w c"),
        scene.hull.depth[..., None],
        nearest,
        directions,
    ]
    fields = [field.flatten(3, 4) for field in fields]
    if least > 0:
        chosen = first_places(~(opacities < least))  # NaN stays, to be found
        opacities = opacities.take_along_dim(chosen, dim=3)
        fields = [field.take_along_dim(chosen[..., None], dim=3) for field in fields]
    raw, rgb, depth, nearest, directions = fields
    position, _, scale, quat, color = split_raw(raw)
    across = torch.stack(_frame_across(directions), dim=-2)
    shift = _ACROSS * (position[..., 1:] * (_ACROSS_GAIN / _ACROSS)).tanh()
    depth = depth + REACH * position[..., :1].tanh()
    spacing = spacing[..., None, None]
    identity = quat.new_tensor([1.0, 0.0, 0.0, 0.0])
    gaussians = Gaussians(
        means=nearest + depth * directions + (shift[..., None] * across).sum(-2),
        opacities=opacities,
        scales=filled_scales(0.7 * spacing * (2 * (scale / 2).tanh()).exp(), spacing),
        quats=F.normalize(quat + identity, dim=-1),
        colors=(rgb + color.tanh()).clamp(0, 1),
    )
    return gaussians.map(lambda field: field.flatten(2, 3))


def _rays(cameras: Cameras) -> tuple[Tensor, Tensor, Tensor]:
    """Of every pixel ``[B,T,V,h,w,3]``: its ray's point nearest to the origin, and its unit direction.

    And how far neighbouring pixels' rays are apart near the origin, one length per view ``[B,T,V]``.
    """
    origins, directions = cameras.rays()
    nearest = cross(directions, cross(origins, directions))
    spacing = (nearest[..., 1:, :, :] - nearest[..., :-1, :, :]).norm(dim=-1).mean(dim=(-2, -1))
    return nearest, directions, spacing


def _foreground(darkest: Tensor) -> Tensor:
    """How far a pixel is from white, from its smallest colour channel: 1 where it is below 0.9."""
    return (10 * (1 - darkest)).clamp(0, 1)


def _frame_across(directions: Tensor) -> tuple[Tensor, Tensor]:
    """Two unit vectors perpendicular to each unit direction ``[..., 3]``: level, and the remaining one."""
    up = torch.zeros_like(directions)
    up[..., 1] = 1
    level = F.normalize(cross(directions, up), dim=-1)
    return level, cross(level, directions)
