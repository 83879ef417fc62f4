"""The asymmetric U-Net of LGM and L4GM: residual blocks with attention across views and across time.

    grid [B,T,V,9,H,W] -> conv_in -> encoder -> middle -> decoder -> norm, SiLU, conv_out -> [B,T,V,14,h,w]
                                        └──── skips ────┘

Every image of the grid goes through the same convolutions; views and frames meet in attention only. T and V come with
the data. Attribute names are those of the published checkpoints: a public format.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from core.cpu.group_norm import group_norm
from core.model.attention import AttentionBackend, attention
from core.model.distinct import distinct, rows
from core.options import ModelOptions

_NORM_EPS = 1e-5
_SKIP_SCALE = math.sqrt(0.5)
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
        return self.proj(rearrange(attention(q, k, v, self.backend), "b heads l d -> b l (heads d)"))


class GridAttention(nn.Module):
    """Normalise, attend over the tokens that share the axes left of ``->``, add. Keeps ``[(b t v), C, H, W]``."""

    to_tokens: str

    def __init__(self, width: int, options: ModelOptions) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(options.norm_groups, width, eps=_NORM_EPS)
        self.attn = SelfAttention(width, options.num_heads, options.attention)
        self.scale = _SKIP_SCALE

    def forward(self, x: Tensor, frames: int, views: int) -> Tensor:
        sizes = {"t": frames, "v": views, "h": x.shape[-2]}
        grid = "(b t v) c h w"
        tokens = self.attn(rearrange(group_norm(x, self.norm), f"{grid} -> {self.to_tokens}", **sizes))
        return (rearrange(tokens, f"{self.to_tokens} -> {grid}", **sizes, w=x.shape[-1]) + x) * self.scale


class ViewAttention(GridAttention):
    """All views of one time step attend to each other."""

    to_tokens = "(b t) (v h w) c"


class TemporalAttention(GridAttention):
    """All frames of one view attend to each other, over space and time at once."""

    to_tokens = "(b v) (t h w) c"

    def __init__(self, width: int, options: ModelOptions) -> None:
        super().__init__(width, options)
        if options.temporal_residual == "identity":
            self.scale = 1.0
            nn.init.zeros_(self.attn.proj.weight)
            nn.init.zeros_(self.attn.proj.bias)


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
        h = self.conv1(group_norm(x, self.norm1, silu=True))
        h = self.conv2(group_norm(h, self.norm2, silu=True))
        return (h + self.shortcut(x)) * _SKIP_SCALE


class Level(nn.Module):
    """What encoder, middle and decoder share: residual blocks ``nets``, each optionally followed by attention."""

    recompute = False  # a training may compute what lies inside a layer again in the backward pass: less memory

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

    def forward(
        self, x: Tensor, skips: Iterator[Tensor], frames: int, views: int, kept: Tensor | None = None
    ) -> Tensor:
        """``kept``: the images that go on behind the layers; None: all."""
        for j in range(_DECODER_LAYERS):
            x = self.layer(j, torch.cat([x, next(skips)], dim=1), frames, views)
        x = x if kept is None else rows(x, kept)
        if self.upsample is not None:
            x = self.upsample(F.interpolate(x, scale_factor=2.0, mode="nearest"))
        return x


class UNet(nn.Module):
    """Asymmetric U-Net: fewer decoder than encoder levels.

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
        coarser = ups[:-1] if options.output_skips else ()
        self.coarse_outs = nn.ModuleList(nn.Conv2d(out, out_channels, 1) for out in coarser)
        for layer in self.coarse_outs:
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
        self.norm_out = nn.GroupNorm(options.norm_groups, width, eps=_NORM_EPS)
        self.conv_out = nn.Conv2d(width, out_channels, 3, padding=1)

    def recompute_activations(self) -> None:
        """From now on the backward pass computes again what lies inside each layer."""
        for module in self.modules():
            if isinstance(module, Level):
                module.recompute = True

    def forward(self, grid: Tensor, wanted: Tensor | None = None) -> Tensor:
        """Map a grid of images ``[B,T,V,C,H,W]`` to ``[B,T,V,C',h,w]``.

        Args:
            grid: where it holds an image several times, this is encoded once, up to where images meet.
            wanted: time steps whose result is asked for, ``[B,T]`` bool; the decoder leaves the others behind where
                images part again. The result is then ``[K,1,V,C',h,w]``, K time steps in their order.
        """
        frames, views = grid.shape[1:3]
        x = rearrange(grid, "b t v c h w -> (b t v) c h w")
        # Channels-last is what the convolution libraries like on CPU and GPU alike.
        x = x.to(self.conv_in.weight.dtype, memory_format=torch.channels_last)
        place: Tensor | None = None  # of every image among the distinct ones, until they meet
        if (found := distinct(x)) is not None:
            x, place = rows(x, found[0]), found[1]
        x = self.conv_in(x)
        skips, places = [x], [place]
        for level in self.down_blocks:
            if place is not None and len(level.attns):
                x, place = rows(x, place), None
            x, new = level(x, frames, views)
            skips, places = skips + new, places + [place] * len(new)
        x = x if place is None else rows(x, place)
        x = self.mid_block(x, frames, views)
        kept, parted = None, max((i for i, level in enumerate(self.up_blocks) if len(level.attns)), default=-1)
        if wanted is not None:
            kept = rearrange(torch.arange(len(x), device=x.device), "(b t v) -> b t v", t=frames, v=views)
            kept = kept[wanted].flatten()
            x = x if parted >= 0 else rows(x, kept)
        coarse: Tensor | None = None
        for i, level in enumerate(self.up_blocks):
            taken = [(skips.pop(), places.pop()) for _ in level.nets]
            taken = (_taken(*skip, kept if i > parted else None) for skip in taken)
            x = level(x, taken, frames, views, kept if i == parted else None)
            if coarse is not None and kept is not None and i == parted:
                coarse = rows(coarse, kept)
            if i < len(self.coarse_outs):
                own = self.coarse_outs[i](x)
                coarse = own if coarse is None else own + F.interpolate(coarse, scale_factor=2.0, mode="bilinear")
        # Inference may keep these last layers in a finer type than the rest.
        x = self.conv_out(group_norm(x.to(self.conv_out.weight.dtype), self.norm_out, silu=True))
        x = x if coarse is None else x + coarse
        return rearrange(x, "(b t v) c h w -> b t v c h w", t=1 if wanted is not None else frames, v=views)


def _taken(skip: Tensor, place: Tensor | None, kept: Tensor | None) -> Tensor:
    """A skip of the images ``kept`` (None: all), out of one of distinct images that lie at ``place``."""
    if place is not None:
        kept = place if kept is None else place[kept]
    return skip if kept is None else rows(skip, kept)
