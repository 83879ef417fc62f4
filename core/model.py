"""L4GM: a grid of images with rays in, one set of Gaussians for every time step out.

    grid [B,T,V,9,H,W] -> U-Net -> 1x1 conv -> 14 channels a pixel [B,T,V,14,S,S] -> head -> Gaussians [B,T,V S S]

It knows no renderer and no loss.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from core.cameras import cameras_from_pluecker, cross
from core.errors import UserError
from core.gaussians import RAW_CHANNELS, Gaussians, activate_published, split_raw
from core.hull import REACH, hull_front
from core.options import ModelOptions
from core.unet import UNet

GRID_CHANNELS = 9
# ImageNet statistics: how the first three grid channels encode RGB.
RGB_MEAN = (0.485, 0.456, 0.406)
RGB_STD = (0.229, 0.224, 0.225)


class L4GM(nn.Module):
    """The reconstruction and the interpolation network; the same class, other weights.

    Args:
        options: sizes and widths. One instance serves every number of frames and views.
    """

    def __init__(self, options: ModelOptions) -> None:
        super().__init__()
        self.options = options
        channels = RAW_CHANNELS * options.gaussian_perpixel
        self.unet = UNet(GRID_CHANNELS, channels, options)
        self.conv = nn.Conv2d(channels, channels, 1)
        if options.head == "ray":
            # Start near the head's own prior, pixel colours near the plane through the origin, without slowing down
            # what follows: a small last convolution would scale every gradient of the U-Net.
            nn.init.eye_(self.conv.weight[..., 0, 0])
            nn.init.zeros_(self.conv.bias)
            with torch.no_grad():
                self.unet.conv_out.weight *= 0.1

    def forward(self, grid: Tensor, wanted: Tensor | None = None) -> Gaussians:
        """Predict Gaussians.

        Args:
            grid: ``[B,T,V,9,H,W]``: ImageNet-normalised RGB, then the Plücker rays (o x d, d) of every pixel.
            wanted: time steps whose Gaussians are asked for, ``[B,T]`` bool; None: all. The others are still seen.

        Returns:
            Gaussians with leading axes ``[B,T]``, ordered view, row, column, (Gaussian of the pixel); with ``wanted``
            leading axes ``[K]``, those time steps in their order.

        Raises:
            UserError: the grid has other channels, or sides that the network's strides do not divide.
        """
        self._check(grid)
        raw = self.raw_channels(grid, wanted)
        grid = grid if wanted is None else grid[wanted][:, None]
        gaussians = self._activate(raw, grid)
        return gaussians if wanted is None else gaussians[:, 0]

    def _activate(self, raw: Tensor, grid: Tensor) -> Gaussians:
        if self.options.head == "published":
            return activate_published(rearrange(raw, "b t v (k c) h w -> b t (v h w k) c", c=RAW_CHANNELS))
        with torch.autocast(grid.device.type, enabled=False):
            return activate_on_rays(raw, grid)

    def raw_channels(self, grid: Tensor, wanted: Tensor | None = None) -> Tensor:
        """The network's output before the head: ``[B,T,V,14 k,S,S]``; of the ``wanted`` time steps ``[K,1,V,...]``."""
        x = self.unet(grid, wanted)
        frames, views = x.shape[1:3]
        x = self.conv(rearrange(x, "b t v c h w -> (b t v) c h w"))
        return rearrange(x, "(b t v) c h w -> b t v c h w", t=frames, v=views)

    def _check(self, grid: Tensor) -> None:
        if grid.ndim != 6 or grid.shape[3] != GRID_CHANNELS:
            raise UserError(f"the grid must be [B,T,V,{GRID_CHANNELS},H,W], got {tuple(grid.shape)}")
        stride = 2 ** (len(self.options.down_channels) - 1)
        if grid.shape[-1] % stride or grid.shape[-2] % stride:
            raise UserError(f"image sides must be multiples of {stride}, got {tuple(grid.shape[-2:])}")


def activate_on_rays(raw: Tensor, grid: Tensor) -> Gaussians:
    """The ``ray`` head: every Gaussian lies on its pixel's ray and starts from its pixel's colour.

    With the ray's moment m = o x d and unit direction d, the ray's point nearest to the origin is p = d x m
    (Plücker). Position = p + (h + 0.9 tanh(raw)) d, plus a shift of at most one pixel across; h is where the ray enters
    the visual hull of the other views' foregrounds, because rendered losses alone hardly moved depths. Standard
    deviation = the pixel's spacing there times exp of a bounded number; colour = pixel colour + residual; opacity is
    biased by how far the pixel is from white, the background.

    Args:
        raw: ``[B,T,V,14 k,S,S]``.
        grid: the network's input ``[B,T,V,9,H,W]``, H and W multiples of S.
    """
    grid = grid if grid.dtype == torch.float64 else grid.float()
    raw = rearrange(raw.to(grid.dtype), "b t v (k c) h w -> b t v h w k c", c=RAW_CHANNELS)
    position, opacity, scale, quat, color = split_raw(raw)
    pooled = F.adaptive_avg_pool2d(rearrange(grid, "b t v c h w -> (b t v) c h w"), raw.shape[3:5])
    pooled = rearrange(pooled, "(b t v) c h w -> b t v h w 1 c", t=grid.shape[1], v=grid.shape[2])
    rgb, moments, directions = pooled.split([3, 3, 3], dim=-1)
    rgb = rgb * rgb.new_tensor(RGB_STD) + rgb.new_tensor(RGB_MEAN)
    directions = F.normalize(directions, dim=-1)
    nearest = cross(directions, moments)
    # Spacing of neighbouring pixels' rays near the origin: one length per view.
    spacing = (nearest[..., 1:, :, :] - nearest[..., :-1, :, :]).norm(dim=-1).mean(dim=(-3, -2, -1))
    spacing = spacing[..., None, None, None, None]
    depth, shift = position[..., :1], position[..., 1:]
    std, mean = (rearrange(rgb.new_tensor(value), "c -> c 1 1") for value in (RGB_STD, RGB_MEAN))
    darkest = (grid[:, :, :, :3] * std + mean).amin(dim=3, keepdim=True)
    cameras = cameras_from_pluecker(grid[:, :, :, 3:])
    front = hull_front(cameras, _foreground(darkest), tuple(raw.shape[3:5]))[..., None, None]
    across = torch.stack(_frame_across(directions), dim=-2)
    means = nearest + (front + REACH * depth.tanh()) * directions + spacing * (shift.tanh()[..., None] * across).sum(-2)
    foreground = _foreground(rgb.amin(dim=-1, keepdim=True))
    identity = quat.new_tensor([1.0, 0.0, 0.0, 0.0])
    fields = Gaussians(
        means=means,
        opacities=(opacity + 6 * foreground - 4).sigmoid().squeeze(-1),
        scales=0.7 * spacing * (2 * (scale / 2).tanh()).exp(),
        quats=F.normalize(quat + identity, dim=-1),
        colors=(rgb + color.tanh()).clamp(0, 1),
    )
    return fields.map(lambda field: field.flatten(2, 5))


def _foreground(darkest: Tensor) -> Tensor:
    """How far a pixel is from white, from its smallest colour channel: 1 where it is below 0.9."""
    return (10 * (1 - darkest)).clamp(0, 1)


def _frame_across(directions: Tensor) -> tuple[Tensor, Tensor]:
    """Two unit vectors perpendicular to each unit direction ``[..., 3]``: level, and the remaining one."""
    up = torch.zeros_like(directions)
    up[..., 1] = 1
    level = F.normalize(cross(directions, up), dim=-1)
    return level, cross(level, directions)
