"""`nano`: the network of `core.model`, adapted to learn from little data.

ViewGrid -> Scene ─> cost volume ─> U-Net with an output at every decoder level ─> raw channels ─> ray head
              └───────────────────── depths on the visual hull ──────────────────────────────────────┘
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from core.gaussians import Gaussians
from core.model.fast import FastL4GM, FastUNet
from core.model.unet import TemporalAttention
from core.nano.cost_volume import SCENE_CHANNELS, scene_channels
from core.nano.motion_code import MotionCode
from core.nano.ray_head import activate_on_rays
from core.nano.scene import Scene, scene_of
from core.options import ModelOptions
from core.view_grid import ViewGrid


class NanoUNet(FastUNet):
    """A U-Net that also sees the scene's channels, and to whose output every decoder level adds its own part.

    The coarse parts and the temporal layers start at zero, so that a network trained on single frames keeps its output.
    """

    def __init__(self, in_channels: int, out_channels: int, options: ModelOptions) -> None:
        super().__init__(in_channels + SCENE_CHANNELS, out_channels, options)
        self.coarse_outs = nn.ModuleList(nn.Conv2d(width, out_channels, 1) for width in options.up_channels[:-1])
        self.motion = MotionCode(options.motion_code, options.up_channels) if options.motion_code else None
        for module in self.modules():
            if isinstance(module, TemporalAttention):
                module.scale = 1.0
        starts = [layer.attn.proj for layer in self.modules() if isinstance(layer, TemporalAttention)]
        for layer in (*starts, *self.coarse_outs):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def signal(self, images: Tensor, index: Tensor) -> Tensor | None:
        """The motion code, where the options ask for one."""
        return None if self.motion is None else self.motion(images[:, :3], index)

    def signalled(self, i: int, x: Tensor, signal: Tensor) -> Tensor:
        """Told the motion code."""
        return self.motion.apply_to(i, x, signal)

    def coarse_output(self, i: int, x: Tensor, coarse: Tensor | None) -> Tensor | None:
        """The sum of the parts so far, at the resolution of ``x``."""
        if i == len(self.coarse_outs):
            return coarse
        own = self.coarse_outs[i](x)
        return own if coarse is None else own + F.interpolate(coarse, scale_factor=2.0, mode="bilinear")


class NanoL4GM(FastL4GM):
    """The small network. A call, its arguments and its result are those of `FastL4GM`."""

    architecture = "nano"
    unet_class = NanoUNet

    def __init__(self, options: ModelOptions) -> None:
        super().__init__(options)
        # Start near the head's own prior, pixel colours near the plane through the origin, without slowing down what
        # follows: a small last convolution would scale every gradient of the U-Net.
        nn.init.eye_(self.conv.weight[..., 0, 0])
        nn.init.zeros_(self.conv.bias)
        with torch.no_grad():
            self.unet.conv_out.weight *= 0.1

    def forward(self, grid: ViewGrid, frame_mask: Tensor | None = None, min_opacity: float = 0.0) -> Gaussians:
        """As `FastL4GM`; with ``min_opacity`` there are fewer Gaussians, see `activate_on_rays`."""
        self.check_sides(grid.size)
        scene = self.scene(grid)
        raw = self.raw_channels(grid, frame_mask, scene)
        with torch.autocast(raw.device.type, enabled=False):
            gaussians = activate_on_rays(raw, scene if frame_mask is None else scene.at(frame_mask), min_opacity)
        return gaussians if frame_mask is None else gaussians[:, 0]

    def raw_channels(self, grid: ViewGrid, frame_mask: Tensor | None = None, scene: Scene | None = None) -> Tensor:
        """As `FastL4GM`; ``scene``, if given, is reused."""
        return self._raw_channels(self.inputs(grid, scene or self.scene(grid)), grid.index, frame_mask)

    def inputs(self, grid: ViewGrid, scene: Scene) -> Tensor:
        """Input of the U-Net for every distinct image ``[N, 9 + 22, H, W]``."""
        with torch.autocast(grid.images.device.type, enabled=False):
            features = grid.features()
            return torch.cat([features, scene_channels(scene).to(features)], dim=1)

    def scene(self, grid: ViewGrid) -> Scene:
        """Geometry of the grid without a network, with one hull ray per Gaussian."""
        levels = len(self.options.down_channels) - len(self.options.up_channels)
        sub_pixels = math.isqrt(self.options.gaussian_perpixel)
        height, width = (side // 2**levels * sub_pixels for side in grid.size)
        with torch.autocast(grid.images.device.type, enabled=False):
            return scene_of(grid, (height, width))
