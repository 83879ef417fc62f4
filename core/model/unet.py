"""The asymmetric U-Net of LGM and L4GM: residual blocks with attention across views and across time.

The same convolutions process every image of the grid; views and frames interact in attention only. T and V come from
the data. Attribute names are those of the published checkpoints: a public format.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from core.model.attention import AttentionBackend, attention
from core.options import ModelOptions

_NORM_EPS = 1e-5
SKIP_SCALE = math.sqrt(0.5)
_ENCODER_LAYERS = 2
_DECODER_LAYERS = 3


class SelfAttention(nn.Module):
    """Multi-head self-attention over tokens ``[batch, tokens, C]``."""

    def __init__(self, width: int, num_heads: int, backend: AttentionBackend) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.backend = backend
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.proj = nn.Linear(width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        q, k, v = rearrange(self.qkv(tokens), "b l (qkv heads d) -> qkv b heads l d", qkv=3, heads=self.num_heads)
        return self.proj(rearrange(self.attend(q, k, v), "b heads l d -> b l (heads d)"))

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Softmax attention over ``[batch, heads, tokens, d]``."""
        return attention(q, k, v, self.backend)


class GridAttention(nn.Module):
    """Normalise, attend over the tokens that share the axes left of ``->``, add. Keeps ``[(b t v), C, H, W]``."""

    to_tokens: str

    def __init__(self, width: int, options: ModelOptions) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(options.norm_groups, width, eps=_NORM_EPS)
        self.attn = SelfAttention(width, options.num_heads, options.attention)
        self.scale = SKIP_SCALE

    def forward(self, x: Tensor, frames: int, views: int) -> Tensor:
        sizes = {"t": frames, "v": views, "h": x.shape[-2]}
        grid = "(b t v) c h w"
        tokens = self.attn(rearrange(self.norm(x), f"{grid} -> {self.to_tokens}", **sizes))
        return (rearrange(tokens, f"{self.to_tokens} -> {grid}", **sizes, w=x.shape[-1]) + x) * self.scale


class ViewAttention(GridAttention):
    """All views of one time step attend to each other."""

    to_tokens = "(b t) (v h w) c"


class TemporalAttention(GridAttention):
    """All frames of one view attend to each other, over space and time at once."""

    to_tokens = "(b v) (t h w) c"


class ResidualBlock(nn.Module):
    """Two normalised 3x3 convolutions and a shortcut."""

    def __init__(self, width_in: int, width: int, options: ModelOptions) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(options.norm_groups, width_in, eps=_NORM_EPS)
        self.conv1 = nn.Conv2d(width_in, width, 3, padding=1)
        self.norm2 = nn.GroupNorm(options.norm_groups, width, eps=_NORM_EPS)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)
        self.shortcut = nn.Identity() if width_in == width else nn.Conv2d(width_in, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x)))
        h = self.conv2(F.silu(self.norm2(h)))
        return (h + self.shortcut(x)) * SKIP_SCALE


class Level(nn.Module):
    """Base of encoder, middle and decoder: residual blocks ``nets``, each optionally followed by attention."""

    recompute = False  # activation checkpointing: the backward pass computes each layer again, which saves memory

    def __init__(self, widths: list[tuple[int, int]], attends: int, options: ModelOptions) -> None:
        """Args: widths (in, out) of every residual block; how many of them, from the first, attend afterwards."""
        super().__init__()
        self.nets = nn.ModuleList(ResidualBlock(width_in, width, options) for width_in, width in widths)
        outs = [width for _, width in widths[:attends]]
        self.attns = nn.ModuleList(ViewAttention(width, options) for width in outs)
        self.t_attns = nn.ModuleList(TemporalAttention(width, options) for width in outs if options.use_temp_attn)

    def layer(self, j: int, x: Tensor, frames: int, views: int) -> Tensor:
        """Residual block j -> view attention -> temporal attention."""
        if self.recompute and torch.is_grad_enabled():
            return checkpoint(self._layer, j, x, frames, views, use_reentrant=False, preserve_rng_state=False)
        return self._layer(j, x, frames, views)

    def _layer(self, j: int, x: Tensor, frames: int, views: int) -> Tensor:
        x = self.nets[j](x)
        if j < len(self.attns):
            x = self.attns[j](x, frames, views)
        if j < len(self.t_attns):
            x = self.t_attns[j](x, frames, views)
        return x


class EncoderLevel(Level):
    """Two layers, then a strided convolution unless it is the last level. Returns the output and its skips."""

    def __init__(self, width_in: int, width: int, attends: bool, last: bool, options: ModelOptions) -> None:
        super().__init__([(width_in, width), (width, width)], _ENCODER_LAYERS * attends, options)
        self.downsample = None if last else nn.Conv2d(width, width, 3, stride=2, padding=1)

    def forward(self, x: Tensor, frames: int, views: int) -> tuple[Tensor, list[Tensor]]:
        skips = []
        for j in range(_ENCODER_LAYERS):
            x = self.layer(j, x, frames, views)
            skips.append(x)
        if self.downsample is not None:
            x = self.downsample(x)
            skips.append(x)
        return x, skips


class MiddleBlock(Level):
    """Residual block, attention, residual block at the lowest resolution."""

    def __init__(self, width: int, attends: bool, options: ModelOptions) -> None:
        super().__init__([(width, width), (width, width)], int(attends), options)

    def forward(self, x: Tensor, frames: int, views: int) -> Tensor:
        for j in range(len(self.nets)):
            x = self.layer(j, x, frames, views)
        return x


class DecoderLevel(Level):
    """Three layers that each take a skip, then nearest x2 and a convolution unless it is the last level."""

    def __init__(
        self, width_in: int, skips: list[int], width: int, attends: bool, last: bool, options: ModelOptions
    ) -> None:
        inputs = [width_in, width, width]
        super().__init__(
            [(current + skip, width) for current, skip in zip(inputs, skips, strict=True)],
            _DECODER_LAYERS * attends,
            options,
        )
        self.upsample = None if last else nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor, skips: list[Tensor], frames: int, views: int) -> Tensor:
        """Takes its skips from the end of the list."""
        for j in range(_DECODER_LAYERS):
            x = self.layer(j, torch.cat([x, skips.pop()], dim=1), frames, views)
        if self.upsample is not None:
            x = self.upsample(F.interpolate(x, scale_factor=2.0, mode="nearest"))
        return x


class UNet(nn.Module):
    """Asymmetric U-Net: fewer decoder than encoder levels.

        conv_in ─> down_blocks ─> mid_block ─> up_blocks ─> norm_out, SiLU, conv_out
           └────────────┴────────── skips ─────────┘

    Args:
        in_channels, out_channels: channels of the grid and of the result.
        options: widths and attention of the levels.
    """

    def __init__(self, in_channels: int, out_channels: int, options: ModelOptions) -> None:
        super().__init__()
        downs, ups = options.down_channels, options.up_channels
        self.conv_in = nn.Conv2d(in_channels, downs[0], 3, padding=1)
        skips, width, encoder = [downs[0]], downs[0], []
        for i, out in enumerate(downs):
            last = i == len(downs) - 1
            encoder.append(EncoderLevel(width, out, options.down_attention[i], last, options))
            skips += [out] * (_ENCODER_LAYERS + (not last))
            width = out
        self.down_blocks = nn.ModuleList(encoder)
        self.mid_block = MiddleBlock(width, options.mid_attention, options)
        decoder = []
        for i, out in enumerate(ups):
            last = i == len(ups) - 1
            taken = [skips.pop() for _ in range(_DECODER_LAYERS)]
            decoder.append(DecoderLevel(width, taken, out, options.up_attention[i], last, options))
            width = out
        self.up_blocks = nn.ModuleList(decoder)
        self.norm_out = nn.GroupNorm(options.norm_groups, width, eps=_NORM_EPS)
        self.conv_out = nn.Conv2d(width, out_channels, 3, padding=1)

    def recompute_activations(self) -> None:
        """Switch activation checkpointing on."""
        for module in self.modules():
            if isinstance(module, Level):
                module.recompute = True

    def forward(self, grid: Tensor) -> Tensor:
        """Map a grid of images ``[B,T,V,C,H,W]`` to ``[B,T,V,C',h,w]``."""
        frames, views = grid.shape[1:3]
        x = self.conv_in(rearrange(grid, "b t v c h w -> (b t v) c h w"))
        skips = [x]
        for level in self.down_blocks:
            x, level_skips = level(x, frames, views)
            skips += level_skips
        x = self.mid_block(x, frames, views)
        for level in self.up_blocks:
            x = level(x, skips, frames, views)
        x = self.conv_out(F.silu(self.norm_out(x)))
        return rearrange(x, "(b t v) c h w -> b t v c h w", t=frames, v=views)
