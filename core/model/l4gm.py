"""L4GM: a grid of images with rays in, one set of Gaussians for every time step out.

    grid [B,T,V,9,H,W] -> U-Net -> 1x1 conv -> 14 channels a pixel [B,T,V,14,S,S] -> head -> Gaussians [B,T,V S S]
        └──────────── head 'ray': the visual hull; stereo: more input channels ───────┘

It knows no renderer and no loss.
"""

from __future__ import annotations

import math

import torch
from einops import rearrange
from torch import Tensor, nn

from core.errors import UserError
from core.gaussians import RAW_CHANNELS, Gaussians, activate_published
from core.model.unet import UNet
from core.nano.cost_volume import SCENE_CHANNELS, scene_channels
from core.nano.ray_head import Scene, activate_on_rays, scene_of
from core.options import ModelOptions

GRID_CHANNELS = 9


class L4GM(nn.Module):
    """The reconstruction and the interpolation network; the same class, other weights.

    Args:
        options: sizes and widths. One instance serves every number of frames and views.
    """

    def __init__(self, options: ModelOptions) -> None:
        super().__init__()
        self.options = options
        channels = RAW_CHANNELS * options.gaussian_perpixel
        self.unet = UNet(GRID_CHANNELS + SCENE_CHANNELS * options.stereo, channels, options)
        self.conv = nn.Conv2d(channels, channels, 1)
        if options.head == "ray":
            # Start near the head's own prior, pixel colours near the plane through the origin, without slowing down
            # what follows: a small last convolution would scale every gradient of the U-Net.
            nn.init.eye_(self.conv.weight[..., 0, 0])
            nn.init.zeros_(self.conv.bias)
            with torch.no_grad():
                self.unet.conv_out.weight *= 0.1

    def forward(self, grid: Tensor, wanted: Tensor | None = None, least: float = 0.0) -> Gaussians:
        """Predict Gaussians.

        Args:
            grid: ``[B,T,V,9,H,W]``: ImageNet-normalised RGB, then the Plücker rays (o x d, d) of every pixel.
            wanted: time steps whose Gaussians are asked for, ``[B,T]`` bool; None: all. The others are still seen.
            least: opacity below which Gaussians need not be made; head 'ray' then gives fewer, see `activate_on_rays`.

        Returns:
            Gaussians with leading axes ``[B,T]``, ordered view, row, column, (Gaussian of the pixel); with ``wanted``
            leading axes ``[K]``, those time steps in their order.

        Raises:
            UserError: the grid has other channels, or sides that the network's strides do not divide.
        """
        self._check(grid)
        if self.options.head == "published":
            raw = self.raw_channels(grid, wanted)
            gaussians = activate_published(rearrange(raw, "b t v (k c) h w -> b t (v h w k) c", c=RAW_CHANNELS))
        else:
            scene = self.scene(grid)
            raw = self.raw_channels(grid, wanted, scene)
            with torch.autocast(grid.device.type, enabled=False):
                gaussians = activate_on_rays(raw, scene if wanted is None else scene.at(wanted), least)
        return gaussians if wanted is None else gaussians[:, 0]

    def raw_channels(self, grid: Tensor, wanted: Tensor | None = None, scene: Scene | None = None) -> Tensor:
        """The network's output before the head: ``[B,T,V,14 k,S,S]``; of the ``wanted`` time steps ``[K,1,V,...]``.

        A scene of the grid that is at hand is not made again.
        """
        x = self.unet(self.inputs(grid, scene), wanted)
        frames, views = x.shape[1:3]
        return self.conv(rearrange(x, "b t v c h w -> (b t v) c h w")).unflatten(0, (-1, frames, views))

    def inputs(self, grid: Tensor, scene: Scene | None = None) -> Tensor:
        """What the U-Net sees: the grid, with ``stereo`` the scene's channels as well."""
        if not self.options.stereo:
            return grid
        with torch.autocast(grid.device.type, enabled=False):
            return torch.cat([grid, scene_channels(scene or self.scene(grid)).to(grid)], dim=3)

    def scene(self, grid: Tensor) -> Scene:
        """What a grid says without the network, with as many hull rays as there are Gaussians."""
        levels = len(self.options.down_channels) - len(self.options.up_channels)
        sub_pixels = math.isqrt(self.options.gaussian_perpixel)
        height, width = (side // 2**levels * sub_pixels for side in grid.shape[-2:])
        with torch.autocast(grid.device.type, enabled=False):
            return scene_of(grid, (height, width))

    def _check(self, grid: Tensor) -> None:
        if grid.ndim != 6 or grid.shape[3] != GRID_CHANNELS:
            raise UserError(f"the grid must be [B,T,V,{GRID_CHANNELS},H,W], got {tuple(grid.shape)}")
        stride = 2 ** (len(self.options.down_channels) - 1)
        if grid.shape[-1] % stride or grid.shape[-2] % stride:
            raise UserError(f"image sides must be multiples of {stride}, got {tuple(grid.shape[-2:])}")
