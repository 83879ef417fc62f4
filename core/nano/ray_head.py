"""The head of `nano`: from raw channels to Gaussians near the front of the visual hull.

    ViewGrid -> Scene: foreground, rays, where they enter the visual hull
                  ├─> more input channels, see core/nano/cost_volume.py
    raw [B,T,V,14 k,S,S] ─┴─> k = s s sub-pixels a pixel -> depth on the hull + residual, pixel colour + residual, ...

This is much easier to learn than absolute positions, for a small network with little training.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from core.cameras import cross
from core.gaussians import RAW_CHANNELS, Gaussians, split_raw
from core.images import resize_area
from core.nano.scene import Scene, foreground
from core.nano.surface_filter import filled_opacities, filled_scales
from core.nano.visual_hull import REACH, first_places

_ACROSS, _ACROSS_GAIN = 0.6, 0.1  # world units: largest shift across a ray, and gain near zero
_SHOWN, _HIDDEN = 8.0, -6.0  # logits: foreground on the hull; white, below the drawing threshold


def activate_on_rays(raw: Tensor, scene: Scene, min_opacity: float = 0.0) -> Gaussians:
    """Every Gaussian lies near its pixel's ray and starts from its pixel's colour.

    With the ray's moment m = o x d and unit direction d, the ray's point nearest to the origin is p = d x m
    (Plücker). Position = p + (h + 0.9 tanh(raw)) d + a shift across; h is where the ray enters the visual hull of the
    other views' foregrounds: rendered losses alone hardly change depths. The shift, 0.6 tanh(raw / 6) in two
    directions, lets the side views of the first frame follow a motion. Standard deviation = the pixel's spacing there
    times exp of a bounded number; colour = pixel colour + residual. Opacity is biased by how far the pixel is from
    white, the background, and in views 1, 2, ..., which may be older than view 0, by whether the ray hits the hull.
    Scales and opacities then pass `core.nano.surface_filter`.

    Args:
        raw: ``[B,T,V,14 k,S,S]``, k a square number: a pixel has a sub-pixel grid of k Gaussians.
        scene: of the network's input; its hull has sqrt(k) S rays a side.
        min_opacity: Gaussians below need not be made: as many of each view stay as the one that shows most has.
    """
    raw = raw.to(scene.grid.images.dtype)
    fine = math.isqrt(raw.shape[3] // RAW_CHANNELS)
    raw = rearrange(raw, "b t v (s1 s2 c) h w -> b t v (h s1 w s2) c", s1=fine, s2=fine)
    depth, image, pixel = scene.hull.depth.flatten(3)[..., None], scene.index, slice(None)
    opacities = _opacities(split_raw(raw).opacity.squeeze(-1), scene)
    if min_opacity > 0:
        pixel = first_places(~(opacities < min_opacity))  # NaN is kept and reported later
        opacities, image = opacities.take_along_dim(pixel, dim=3), image[..., None]
        raw, depth = (field.take_along_dim(pixel[..., None], dim=3) for field in (raw, depth))
    rgb, nearest, directions, spacing = _of_images(scene)
    rgb, nearest, directions = (field[image, pixel] for field in (rgb, nearest, directions))
    position, _, scale, quat, color = split_raw(raw)
    across = torch.stack(_frame_across(directions), dim=-2)
    shift = _ACROSS * (position[..., 1:] * (_ACROSS_GAIN / _ACROSS)).tanh()
    depth = depth + REACH * position[..., :1].tanh()
    spacing = spacing[scene.index][..., None, None]
    identity = quat.new_tensor([1.0, 0.0, 0.0, 0.0])
    gaussians = Gaussians(
        means=nearest + depth * directions + (shift[..., None] * across).sum(-2),
        opacities=opacities,
        scales=filled_scales(0.7 * spacing * (2 * (scale / 2).tanh()).exp(), spacing),
        quats=F.normalize(quat + identity, dim=-1),
        colors=(rgb + color.tanh()).clamp(0, 1),
    )
    return gaussians.map(lambda field: field.flatten(2, 3))


def _opacities(logits: Tensor, scene: Scene) -> Tensor:
    """Opacities ``[B,T,V,P]`` from raw ones, foreground, and hull hits of the side views."""
    grid = scene.grid
    shown = foreground(resize_area(grid.images, scene.size))[:, 0]
    hit = scene.hull.hit.clone()
    hit[:, :, 0] = 1.0
    return filled_opacities((logits + (_SHOWN * shown[scene.index] * hit).flatten(3) + _HIDDEN).sigmoid())


def _of_images(scene: Scene) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Colours of the pixels, points of their rays nearest to the origin, unit directions: ``[N, P, 3]`` each.

    And how far neighbouring pixels' rays are apart near the origin, one length per image ``[N]``.
    """
    origins, directions = scene.grid.cameras.resized(scene.size).rays()
    nearest = cross(directions, cross(origins, directions))
    spacing = (nearest[:, 1:] - nearest[:, :-1]).norm(dim=-1).mean(dim=(-2, -1))
    colors = rearrange(resize_area(scene.grid.images, scene.size), "n c h w -> n (h w) c")
    return colors, *(x.to(colors) for x in (nearest.flatten(1, 2), directions.flatten(1, 2), spacing))


def _frame_across(directions: Tensor) -> tuple[Tensor, Tensor]:
    """Two unit vectors perpendicular to each unit direction ``[..., 3]``: level, and the remaining one."""
    up = torch.zeros_like(directions)
    up[..., 1] = 1
    level = F.normalize(cross(directions, up), dim=-1)
    return level, cross(level, directions)
