"""Images that occur several times are computed once: side views that repeat over time, ends that two pairs share."""

from __future__ import annotations

import torch
from einops import rearrange
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

_SAMPLES = 8  # of each side of an image: most that differ do so here


def distinct(images: Tensor) -> tuple[Tensor, Tensor] | None:
    """Which of ``[N, C, H, W]`` are the first of their like.

    Returns:
        rows of the images that differ from all before them ``[n]``, and for each image its place among those ``[N]``;
        None where all differ, or where gradients have to reach each image.
    """
    if torch.compiler.is_compiling() or images.requires_grad or len(images) < 2:
        return None
    (height, width), count = images.shape[-2:], len(images)
    sample = images[:, :, :: max(1, height // _SAMPLES), :: max(1, width // _SAMPLES)].double().cpu().numpy()
    seen: dict[bytes, int] = {}
    like = torch.tensor([seen.setdefault(one.tobytes(), row) for row, one in enumerate(sample)])
    again = (like != torch.arange(count)).nonzero()[:, 0]
    if not len(again):
        return None
    # Those alike in their samples are compared as a whole; one that differs after all stands for itself.
    pairs = zip(again.tolist(), like[again].tolist(), strict=True)
    differs = torch.stack([(images[row] != images[other]).any() for row, other in pairs]).cpu()
    like[again[differs]] = again[differs]
    first, place = like.unique(return_inverse=True)
    return None if len(first) == count else (first.to(images.device), place.to(images.device))


def rows(x: Tensor, index: Tensor) -> Tensor:
    """``x[index]`` for features ``[n, C, H, W]``, channels-last; gradients of equal rows are summed in float32."""
    return _Rows.apply(x, index)


class _Rows(torch.autograd.Function):
    """Rows of a tensor; torch would sum their gradients in bfloat16, one by one."""

    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor, index: Tensor) -> Tensor:
        ctx.save_for_backward(index)
        ctx.count = len(x)
        return rearrange(rearrange(x, "n c h w -> n h w c").index_select(0, index), "n h w c -> n c h w")

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor, None]:
        (index,) = ctx.saved_tensors
        pixels = rearrange(grad, "n c h w -> n h w c")
        total = pixels.new_zeros(ctx.count, *pixels.shape[1:], dtype=torch.promote_types(grad.dtype, torch.float32))
        total.index_add_(0, index, pixels.to(total.dtype))
        return rearrange(total.to(grad.dtype), "n h w c -> n c h w"), None
