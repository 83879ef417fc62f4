"""Options of the network."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from core.errors import UserError
from core.options.checks import within


@dataclass(frozen=True)
class ModelOptions:
    """The asymmetric U-Net and how its 14 channels become Gaussians."""

    architecture: Literal["l4gm", "nano"] = "l4gm"
    """l4gm: the published network (`core.model`). nano: with a visual hull and a cost volume as input, outputs at every
    decoder level, depths along rays (`core.nano`); for small networks."""
    input_size: int = 256
    """Side of the square input images in pixels. The network is convolutional: other sizes work if they divide."""
    down_channels: tuple[int, ...] = (64, 128, 256, 512, 1024, 1024)
    """Encoder widths; the resolution halves between levels."""
    down_attention: tuple[bool, ...] = (False, False, False, True, True, True)
    """Which encoder levels attend across views and time."""
    mid_attention: bool = True
    """Attention in the middle block."""
    up_channels: tuple[int, ...] = (1024, 1024, 512, 256)
    """Decoder widths; number i must equal encoder width (last - i)."""
    up_attention: tuple[bool, ...] = (True, True, True, False)
    """Which decoder levels attend; values beyond the last level are ignored, as published."""
    splat_size: int = 64
    """Side of the Gaussian grid of one view; must equal what the network's levels give."""
    gaussian_perpixel: int = 1
    """Gaussians per output pixel; nano makes them a sub-pixel grid and takes square numbers."""
    motion_code: int = 0
    """nano: numbers that tell every decoder level how the front view has changed since the first frame; 0: none."""
    use_temp_attn: bool = True
    """Temporal attention after every view attention; off gives LGM's tensors."""
    temporal: Literal["attention", "lact"] = "attention"
    """What connects frames. attention: all frames of a call, as published. lact: fast weights that go through the whole
    video; not published."""
    num_heads: int = 16
    """Attention heads at every level."""
    norm_groups: int = 32
    """Groups of every group normalisation."""
    attention: Literal["auto", "sdpa", "xformers"] = "auto"
    """Attention kernel; xformers needs CUDA. auto: xformers on a GPU where it is installed."""

    def __post_init__(self) -> None:
        within(self, 1, 2048, "input_size", "splat_size")
        within(self, 1, 64, "gaussian_perpixel")
        within(self, 0, 1024, "motion_code")
        within(self, 1, 1024, "num_heads", "norm_groups")
        within(self, 1, 2048, "down_channels", "up_channels")
        if self.architecture == "nano" and math.isqrt(self.gaussian_perpixel) ** 2 != self.gaussian_perpixel:
            raise UserError(f"--gaussian_perpixel is {self.gaussian_perpixel}; nano takes 1, 4, 9, ...")
        levels, ups = len(self.down_channels), len(self.up_channels)
        if not (1 <= levels <= 10 and 1 <= ups):
            raise UserError(f"down_channels has {levels} levels and up_channels {ups}; both must have 1 to 10")
        if len(self.down_attention) < levels:
            raise UserError(f"down_attention has {len(self.down_attention)} values for {levels} encoder levels")
        if len(self.up_attention) < ups:
            raise UserError(f"up_attention has {len(self.up_attention)} values for {ups} decoder levels")
        if ups > levels:
            raise UserError(f"up_channels has {ups} levels, more than the {levels} of down_channels")
        for i, width in enumerate(self.up_channels):
            if width != self.down_channels[levels - 1 - i]:
                raise UserError(
                    f"up_channels[{i}] is {width} but must equal down_channels[{levels - 1 - i}], "
                    f"which is {self.down_channels[levels - 1 - i]}"
                )
        for width in (*self.down_channels, *self.up_channels):
            if width % self.norm_groups or width % self.num_heads:
                raise UserError(
                    f"width {width} must be a multiple of norm_groups {self.norm_groups} and num_heads {self.num_heads}"
                )
        stride = 2 ** (levels - 1)
        if self.input_size % stride:
            raise UserError(f"input_size {self.input_size} must be a multiple of {stride} for {levels} encoder levels")
        reached = self.input_size // 2 ** (levels - ups)
        if self.splat_size != reached:
            raise UserError(
                f"splat_size is {self.splat_size} but input_size {self.input_size} with {levels} encoder and {ups} "
                f"decoder levels gives {reached}"
            )
