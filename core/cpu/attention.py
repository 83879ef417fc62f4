"""Attention in bfloat16 on the CPU: matrix products over blocks of queries.

PyTorch's SDPA in bfloat16 spends most of its time outside its matrix products; blocks of plain products are twice as
fast.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

from core.cpu.jit import run_parallel
from core.cpu.softmax_kernels import ROWS, gradient_rows, softmax_rows

_KERNEL_SCORES = 1 << 14  # scores per head; below, torch's own softmax is as fast
_BLOCK = 1 << 21  # scores in memory: few enough for the cache, enough to amortise thread synchronisation


class BlockAttention(torch.autograd.Function):
    """Attention from bfloat16 matrix products over blocks of queries; the backward pass recomputes the scores."""

    @staticmethod
    def forward(ctx: FunctionCtx, *qkv: Tensor) -> Tensor:
        q, k, v = (tensor.flatten(0, 1).contiguous() for tensor in qkv)  # products of strided tensors are slow
        out = v.new_empty(*q.shape[:2], v.shape[2])
        for heads, rows in _blocks(q, k):
            torch.bmm(_weights(q[heads, rows], k[heads]), v[heads], out=out[heads, rows])
        out = out.unflatten(0, qkv[0].shape[:2])
        ctx.save_for_backward(*qkv, out)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor, ...]:
        saved = ctx.saved_tensors  # taken once: activation checkpointing allows no second time
        q, k, v, out, grad = (tensor.flatten(0, 1).contiguous() for tensor in (*saved, grad))
        # What the softmax takes back from every score of a row: sum_j weight_j (grad v_j) = grad out. Rounded as these
        # slopes are: where one weight is all, the two have to cancel.
        taken = (grad.float() * out).sum(dim=-1, keepdim=True).to(q.dtype).float()
        g_q, g_k, g_v = torch.empty_like(q), torch.zeros_like(k), torch.zeros_like(v)
        factor = q.shape[-1] ** -0.5
        for heads, rows in _blocks(q, k):
            weights, slopes = _weights(q[heads, rows], k[heads]), grad[heads, rows]
            g_v[heads].baddbmm_(weights.mT, slopes)
            g_scores = _through_softmax(slopes @ v[heads].mT, weights, taken[heads, rows])
            torch.baddbmm(g_scores.new_zeros(()), g_scores, k[heads], beta=0, alpha=factor, out=g_q[heads, rows])
            g_k[heads].baddbmm_(g_scores.mT, q[heads, rows], alpha=factor)
        return tuple(tensor.unflatten(0, saved[0].shape[:2]) for tensor in (g_q, g_k, g_v))


def _weights(q: Tensor, k: Tensor) -> Tensor:
    """Softmax of the scaled scores; the product scales them before it rounds."""
    scores = torch.baddbmm(q.new_zeros(()), q, k.mT, beta=0, alpha=q.shape[-1] ** -0.5)
    if scores.shape[1:].numel() < _KERNEL_SCORES:
        return torch.softmax(scores, dim=-1)
    run_parallel(softmax_rows, _units(scores), _bits(scores))
    return scores


def _through_softmax(slopes: Tensor, weights: Tensor, taken: Tensor) -> Tensor:
    """The gradient of the scores from that of the weights, in place."""
    if slopes.shape[1:].numel() < _KERNEL_SCORES:
        return slopes.sub_(taken).mul_(weights)
    run_parallel(gradient_rows, _units(slopes), _bits(slopes), _bits(weights), taken.flatten().contiguous().numpy())
    return slopes


def _bits(matrices: Tensor) -> np.ndarray:
    """The rows of bfloat16 matrices, as the bits in int16."""
    return matrices.view(torch.int16).view(-1, matrices.shape[-1]).numpy()


def _units(matrices: Tensor) -> int:
    """Number of work items."""
    return -(-matrices.shape[:-1].numel() // ROWS)


def _blocks(q: Tensor, k: Tensor) -> Iterator[tuple[slice, slice]]:
    """Slices of the heads and of the rows of ``q`` ``[heads, L, d]``, at most `_BLOCK` scores at a time."""
    row = k.shape[1]
    heads = max(1, _BLOCK // (q.shape[1] * row))
    rows = min(q.shape[1], max(1, _BLOCK // row))
    for i in range(0, len(q), heads):
        for j in range(0, q.shape[1], rows):
            yield slice(i, i + heads), slice(j, j + rows)
