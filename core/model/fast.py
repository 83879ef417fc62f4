"""L4GM run fast: the same weights and, but for rounding, the same results as `core.model.l4gm`.

    images [N] -> conv_in, first levels ──place──> attending levels ──rows──> last levels -> conv_out
                  each distinct image once         all of B T V               time steps of the frame mask only

* Where a grid repeats images, the levels before the first attention see each distinct image once.
* Time steps outside the frame mask are dropped after the last attention.
* On the CPU, normalisation and attention run in the kernels of `core.cpu`.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx, once_differentiable

from core.cpu import dispatch
from core.gaussians import Gaussians
from core.model.attention import attention
from core.model.l4gm import L4GM, gaussians_of
from core.model.unet import SKIP_SCALE, DecoderLevel, ResidualBlock, SelfAttention, UNet
from core.options import ModelOptions
from core.view_grid import ViewGrid


class _FastGroupNorm(nn.GroupNorm):
    def forward(self, x: Tensor) -> Tensor:
        return dispatch.group_norm(x, self)


class _FastResidualBlock(ResidualBlock):
    def forward(self, x: Tensor) -> Tensor:
        h = self.conv1(dispatch.group_norm(x, self.norm1, silu=True))
        h = self.conv2(dispatch.group_norm(h, self.norm2, silu=True))
        return (h + self.shortcut(x)) * SKIP_SCALE


class _FastSelfAttention(SelfAttention):
    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        if self.backend != "sdpa":
            return attention(q, k, v, self.backend)
        return dispatch.attention(q, k, v, attention)


class FastDecoderLevel(DecoderLevel):
    """A decoder level that may drop images."""

    def forward(
        self, x: Tensor, skips: Iterator[Tensor], frames: int, views: int, rows: Tensor | None = None
    ) -> Tensor:
        """``rows``: rows of the images that go on after the layers; None: all."""
        for j in range(len(self.nets)):
            x = self.layer(j, torch.cat([x, next(skips)], dim=1), frames, views)
        x = x if rows is None else select(x, rows)
        if self.upsample is not None:
            x = self.upsample(F.interpolate(x, scale_factor=2.0, mode="nearest"))
        return x


_FAST = {
    nn.GroupNorm: _FastGroupNorm,
    ResidualBlock: _FastResidualBlock,
    SelfAttention: _FastSelfAttention,
    DecoderLevel: FastDecoderLevel,
}


class FastUNet(UNet):
    """The U-Net over distinct images; its parts keep their parameters and names and get another ``forward``."""

    def __init__(self, in_channels: int, out_channels: int, options: ModelOptions) -> None:
        super().__init__(in_channels, out_channels, options)
        for module in self.modules():
            module.__class__ = _FAST.get(type(module), type(module))

    def forward(self, images: Tensor, index: Tensor, frame_mask: Tensor | None = None) -> Tensor:
        """Map distinct images ``[N,C,H,W]`` on a grid ``index`` ``[B,T,V]`` to ``[B,T,V,C',h,w]``.

        Args:
            images, index: as in `ViewGrid`.
            frame_mask: the K requested time steps, ``[B,T]`` bool, best on the CPU: selecting on a GPU would
                synchronise it. The result is then ``[K,1,V,C',h,w]``.
        """
        (frames, views), place = index.shape[1:], index.flatten()
        # Channels-last is the fastest layout on CPU and GPU.
        x = self.conv_in(images.to(self.conv_in.weight.dtype, memory_format=torch.channels_last))
        # Image of each grid position; None once every position has its own features. Without repetition images are in
        # grid order (`ViewGrid`).
        place = None if len(images) == len(place) else place
        skips = [(x, place)]
        for level in self.down_blocks:
            if place is not None and len(level.attns):
                x, place = select(x, place), None
            x, level_skips = level(x, frames, views)
            skips += [(skip, place) for skip in level_skips]
        x = self.mid_block(x if place is None else select(x, place), frames, views)
        rows = None if frame_mask is None else _rows_of(frame_mask, views, x)
        x = self._decoded(x, skips, frames, views, rows, self.signal(images, index))
        return x.unflatten(0, (-1, frames if frame_mask is None else 1, views))

    def _decoded(
        self, x: Tensor, skips: list[tuple[Tensor, Tensor | None]], frames: int, views: int, rows: Tensor | None,
        signal: Tensor | None,
    ) -> Tensor:  # fmt: skip
        """Decoder and output: ``[B T V,C',h,w]``, or of the images ``rows`` alone."""
        last = max([-1, *(i for i, level in enumerate(self.up_blocks) if len(level.attns))])
        x = x if rows is None or last >= 0 else select(x, rows)
        coarse = None
        for i, level in enumerate(self.up_blocks):
            taken = [skips.pop() for _ in level.nets]
            taken = (_at(*skip, rows if i > last else None) for skip in taken)
            x = level(x, taken, frames, views, rows if i == last else None)
            if coarse is not None and len(coarse) != len(x):
                coarse = select(coarse, rows)
            if signal is not None:
                signal = signal if len(signal) == len(x) else signal[rows]
                x = self.signalled(i, x, signal)
            coarse = self.coarse_output(i, x, coarse)
        # Inference may keep these last layers in a more precise type.
        x = self.conv_out(dispatch.group_norm(x.to(self.conv_out.weight.dtype), self.norm_out, silu=True))
        return x if coarse is None else x + coarse

    def signal(self, images: Tensor, index: Tensor) -> Tensor | None:
        """What every decoder level is told about each position of the grid, ``[B T V,W]``, for subclasses: here
        nothing. Arguments as those of `forward`."""

    def signalled(self, i: int, x: Tensor, signal: Tensor) -> Tensor:
        """Features of decoder level ``i`` after it is told ``signal``, for subclasses: here the same."""
        return x

    def coarse_output(self, i: int, x: Tensor, coarse: Tensor | None) -> Tensor | None:
        """Contribution of decoder level ``i`` to the output, for subclasses: here none.

        Args:
            i: number of the level.
            x: its features.
            coarse: the sum of the levels before it.
        """


class FastL4GM(L4GM):
    """`L4GM` with the same parameters, for a typed grid."""

    unet_class = FastUNet

    def forward(self, grid: ViewGrid, frame_mask: Tensor | None = None, min_opacity: float = 0.0) -> Gaussians:
        """Predict Gaussians.

        Args:
            grid: what the network sees.
            frame_mask: time steps whose Gaussians are returned, ``[B,T]`` bool; None: all. The others are still inputs.
            min_opacity: Gaussians below need not be made; this architecture makes all of them.

        Returns:
            Gaussians with leading axes ``[B,T]``, ordered as those of `L4GM`; with ``frame_mask`` leading axes ``[K]``,
            those time steps in their order.

        Raises:
            UserError: the images have sides that the network's strides do not divide.
        """
        gaussians = gaussians_of(self.raw_channels(grid, frame_mask))
        return gaussians if frame_mask is None else gaussians[:, 0]

    def raw_channels(self, grid: ViewGrid, frame_mask: Tensor | None = None) -> Tensor:
        """The output before the activation: ``[B,T,V,14 k,S,S]``; of the time steps of a mask ``[K,1,V,...]``."""
        return self._raw_channels(grid.features(), grid.index, frame_mask)

    def _raw_channels(self, images: Tensor, index: Tensor, frame_mask: Tensor | None) -> Tensor:
        self.check_sides(images.shape[-2:])
        x = self.unet(images, index, frame_mask)
        return self.conv(x.flatten(0, 2)).unflatten(0, x.shape[:3])


def select(x: Tensor, rows: Tensor) -> Tensor:
    """``x[rows]`` for features ``[n, C, H, W]``, channels-last; gradients of equal rows are summed in float32."""
    if torch.compiler.is_compiling():  # equivalent operations that torch.compile fuses
        return x.to(torch.promote_types(x.dtype, torch.float32))[rows].to(x.dtype)
    return _Select.apply(x, rows)


class _Select(torch.autograd.Function):
    """Rows of a tensor; PyTorch would sum their gradients in bfloat16, one by one."""

    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor, rows: Tensor) -> Tensor:
        ctx.save_for_backward(rows)
        ctx.count = len(x)
        return rearrange(rearrange(x, "n c h w -> n h w c").index_select(0, rows), "n h w c -> n c h w")

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor, None]:
        (rows,) = ctx.saved_tensors
        pixels = rearrange(grad, "n c h w -> n h w c")
        total = pixels.new_zeros(ctx.count, *pixels.shape[1:], dtype=torch.promote_types(grad.dtype, torch.float32))
        total.index_add_(0, rows, pixels.to(total.dtype))
        return rearrange(total.to(grad.dtype), "n h w c -> n c h w"), None


def _rows_of(frame_mask: Tensor, views: int, x: Tensor) -> Tensor:
    """Rows of the images of the time steps in a mask ``[B,T]``, on the device of x."""
    rows = torch.arange(frame_mask.numel() * views, device=frame_mask.device).reshape(*frame_mask.shape, views)
    return rows[frame_mask].flatten().to(x.device)


def _at(skip: Tensor, place: Tensor | None, rows: Tensor | None) -> Tensor:
    """A skip of the images ``rows`` (None: all), where it has features of distinct images that lie at ``place``."""
    if place is not None:
        rows = place if rows is None else place[rows]
    return skip if rows is None else select(skip, rows)
