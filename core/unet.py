"""The asymmetric U-Net of LGM and L4GM: residual blocks with attention across views and across time.

    grid [B,T,V,9,H,W] -> conv_in -> encoder -> middle -> decoder -> norm, SiLU, conv_out -> [B,T,V,14,h,w]
                                        └──── skips ────┘

Every image of the grid goes through the same convolutions; views and frames meet in attention only. T and V come with
the data. Attribute names are those of the published checkpoints: a public format.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from core.attention import AttentionBackend, attention
from core.norm import group_norm
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

    def forward(self, x: Tensor, skips: list[Tensor], frames: int, views: int) -> Tensor:
        for j in range(_DECODER_LAYERS):
            x = self.layer(j, torch.cat([x, skips.pop()], dim=1), frames, views)
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
        self.norm_out = nn.GroupNorm(options.norm_groups, width, eps=_NORM_EPS)
        self.conv_out = nn.Conv2d(width, out_channels, 3, padding=1)

    def recompute_activations(self) -> None:
        """From now on the backward pass computes again what lies inside each layer."""
        for module in self.modules():
            if isinstance(module, Level):
                module.recompute = True

    def forward(self, grid: Tensor) -> Tensor:
        """Map a grid of images ``[B,T,V,C,H,W]`` to ``[B,T,V,C',h,w]``."""
        batch, frames, views = grid.shape[:3]
        # Where side views do not change, each image is encoded once, up to where images meet.
        once = _sides_repeat(grid)
        x = _distinct(grid) if once else rearrange(grid, "b t v c h w -> (b t v) c h w")
        # Channels-last is what the convolution libraries like on CPU and GPU alike.
        x = x.to(self.conv_in.weight.dtype, memory_format=torch.channels_last)
        x = self.conv_in(x)
        skips = [x]
        for level in self.down_blocks:
            if once and len(level.attns):
                x, *skips = (_everywhere(kept, batch, frames) for kept in (x, *skips))
                once = False
            x, new = level(x, frames, views)
            skips += new
        if once:
            x, *skips = (_everywhere(kept, batch, frames) for kept in (x, *skips))
        x = self.mid_block(x, frames, views)
        for level in self.up_blocks:
            x = level(x, skips, frames, views)
        # Inference may keep these last layers in a finer type than the rest.
        x = self.conv_out(group_norm(x.to(self.conv_out.weight.dtype), self.norm_out, silu=True))
        return rearrange(x, "(b t v) c h w -> b t v c h w", t=frames, v=views)


def _sides_repeat(grid: Tensor) -> bool:
    """Whether views 1, 2, ... of every frame are those of frame 0, as where one video meets one set of side views."""
    if torch.compiler.is_compiling() or grid.shape[1] == 1 or grid.shape[2] == 1:
        return False
    sides = grid[:, :, 1:]
    # One pixel tells most others apart without a look at the rest.
    return all(torch.equal(part[:, 1:], part[:, :1].expand_as(part[:, 1:])) for part in (sides[..., 0, 0], sides))


def _distinct(grid: Tensor) -> Tensor:
    """The images of a grid whose side views repeat: view 0 of every frame, then the other views of frame 0."""
    front, sides = grid[:, :, :1], grid[:, :1, 1:]
    return torch.cat([rearrange(part, "b t v c h w -> (b t v) c h w") for part in (front, sides)])


def _everywhere(x: Tensor, batch: int, frames: int) -> Tensor:
    """Features of `_distinct` images as features of the whole grid, ``[(b t v), C, H, W]``."""
    pixels = rearrange(x, "n c h w -> n h w c")  # channels last stay last
    front = rearrange(pixels[: batch * frames], "(b t) h w c -> b t 1 h w c", b=batch)
    sides = rearrange(pixels[batch * frames :], "(b v) h w c -> b 1 v h w c", b=batch)
    whole = torch.cat([front, sides.expand(-1, frames, -1, -1, -1, -1)], dim=2)
    return rearrange(whole, "b t v h w c -> (b t v) c h w")
