"""Dispatch of network operations to this package's kernels: on the CPU, for types and sizes where they are faster.

Everything else goes to PyTorch. Whether a kernel is used depends on one image, never on the batch: results are
batch-independent.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from core.cpu.attention import BlockAttention
from core.cpu.group_norm import FusedGroupNorm

_NORM_VALUES = 1 << 14  # of an image; with fewer, waking the threads costs more than it saves


def group_norm(x: Tensor, norm: nn.GroupNorm, *, silu: bool = False) -> Tensor:
    """``norm(x)``, or ``silu(norm(x))``, for ``x`` ``[N, C, H, W]``; statistics in float32 whatever the type of x."""
    if x.device.type == "cpu" and x.dtype in (torch.float32, torch.bfloat16) and x.shape[1:].numel() >= _NORM_VALUES:
        return FusedGroupNorm.apply(x, norm.weight, norm.bias, norm.num_groups, norm.eps, silu)
    if torch.is_grad_enabled() and norm.weight.requires_grad and not x.requires_grad:
        x = x.detach().requires_grad_()  # torch 2.13 crashes in the channels-last CPU backward where x needs none
    y = F.group_norm(x, norm.num_groups, norm.weight, norm.bias, norm.eps)
    return F.silu(y) if silu else y


def attention(q: Tensor, k: Tensor, v: Tensor, otherwise: Callable[[Tensor, Tensor, Tensor], Tensor]) -> Tensor:
    """Softmax attention over ``[batch, heads, tokens, d]``; ``otherwise`` computes it where no kernel does."""
    if q.device.type == "cpu" and q.dtype == k.dtype == v.dtype == torch.bfloat16:
        return BlockAttention.apply(q, k, v)
    return otherwise(q, k, v)
