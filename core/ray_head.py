"""The ``ray`` head: how raw channels become Gaussians near the surfaces that the silhouettes allow.

    grid [B,T,V,9,H,W] -> Scene: colours, foreground, rays, where they enter the visual hull
                            ├─> (stereo) more input channels, see core/stereo.py
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
from core.hull import REACH, HullFront, Rays, foreground_rays, hull_front
from core.images import resize_area

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
    """

    cameras: Cameras
    colors: Tensor
    foreground: Tensor
    rays: Rays
    hull: HullFront

    def at(self, moments: Tensor) -> Scene:
        """The chosen time steps, ``[B, T]`` bool, each as a sample of its own."""
        cameras, hull = self.cameras[moments][:, None], HullFront(*(x[moments][:, None] for x in self.hull))
        rays = Rays(*(x[moments.flatten()] for x in self.rays))
        return Scene(cameras, self.colors[moments][:, None], self.foreground[moments][:, None], rays, hull)


def scene_of(grid: Tensor, size: tuple[int, int]) -> Scene:
    """Read a grid ``[B,T,V,9,H,W]``; ``size``: (h, w) of a view's Gaussians, which divides (H, W)."""
    grid = grid if grid.dtype == torch.float64 else grid.float()
    std, mean = (rearrange(grid.new_tensor(value), "c -> c 1 1") for value in (RGB_STD, RGB_MEAN))
    colors = grid[:, :, :, :3] * std + mean
    foreground = _foreground(colors.amin(dim=3, keepdim=True))
    cameras = cameras_from_pluecker(grid[:, :, :, 3:])
    rays = foreground_rays(cameras.reshape(-1, cameras.shape[2]), foreground.flatten(0, 1), size)
    return Scene(cameras, colors, foreground, rays, hull_front(cameras, foreground, size, rays))


def activate_on_rays(raw: Tensor, scene: Scene) -> Gaussians:
    """Every Gaussian lies near its pixel's ray and starts from its pixel's colour.

    With the ray's moment m = o x d and unit direction d, the ray's point nearest to the origin is p = d x m
    (Plücker). Position = p + (h + 0.9 tanh(raw)) d + a shift across; h is where the ray enters the visual hull of the
    other views' foregrounds, because rendered losses alone hardly moved depths. The shift, 0.6 tanh(raw / 6) in two
    directions, lets the side views of the first frame follow a motion. Standard deviation = the pixel's spacing there
    times exp of a bounded number; colour = pixel colour + residual. Opacity is biased by how far the pixel is from
    white, the background, and in views 1, 2, ..., which may be older than view 0, by whether the ray meets the hull.

    Args:
        raw: ``[B,T,V,14 k,S,S]``, k a square number: a pixel has a sub-pixel grid of k Gaussians.
        scene: of the network's input; its hull has sqrt(k) S rays a side.
    """
    fine = math.isqrt(raw.shape[3] // RAW_CHANNELS)
    pattern = "b t v (s1 s2 c) h w -> b t v (h s1) (w s2) c"
    raw = rearrange(raw.to(scene.colors.dtype), pattern, s1=fine, s2=fine)
    position, opacity, scale, quat, color = split_raw(raw)
    size = tuple(position.shape[3:5])
    rgb = rearrange(resize_area(scene.colors, size), "b t v c h w -> b t v h w c")
    rays = rearrange(scene.cameras.resized(size).pluecker(), "b t v c h w -> b t v h w c").to(rgb)
    moments, directions = rays.chunk(2, dim=-1)
    nearest = cross(directions, moments)
    # Spacing of neighbouring pixels' rays near the origin: one length per view.
    spacing = (nearest[..., 1:, :, :] - nearest[..., :-1, :, :]).norm(dim=-1).mean(dim=(-2, -1))[..., None, None, None]
    meets = scene.hull.meets[..., None].clone()
    meets[:, :, 0] = 1.0
    across = torch.stack(_frame_across(directions), dim=-2)
    shift = _ACROSS * (position[..., 1:] * (_ACROSS_GAIN / _ACROSS)).tanh()
    depth = scene.hull.depth[..., None] + REACH * position[..., :1].tanh()
    identity = quat.new_tensor([1.0, 0.0, 0.0, 0.0])
    fields = Gaussians(
        means=nearest + depth * directions + (shift[..., None] * across).sum(-2),
        opacities=(opacity + _SHOWN * _foreground(rgb.amin(dim=-1, keepdim=True)) * meets + _HIDDEN).sigmoid()[..., 0],
        scales=0.7 * spacing * (2 * (scale / 2).tanh()).exp(),
        quats=F.normalize(quat + identity, dim=-1),
        colors=(rgb + color.tanh()).clamp(0, 1),
    )
    return fields.map(lambda field: field.flatten(2, 4))


def _foreground(darkest: Tensor) -> Tensor:
    """How far a pixel is from white, from its smallest colour channel: 1 where it is below 0.9."""
    return (10 * (1 - darkest)).clamp(0, 1)


def _frame_across(directions: Tensor) -> tuple[Tensor, Tensor]:
    """Two unit vectors perpendicular to each unit direction ``[..., 3]``: level, and the remaining one."""
    up = torch.zeros_like(directions)
    up[..., 1] = 1
    level = F.normalize(cross(directions, up), dim=-1)
    return level, cross(level, directions)
