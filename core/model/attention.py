"""One attention function for the whole network: PyTorch's SDPA, or xformers on request."""

from __future__ import annotations

from typing import Literal

import torch.nn.functional as F
from torch import Tensor

from core.errors import UserError

AttentionBackend = Literal["sdpa", "xformers"]


def attention(q: Tensor, k: Tensor, v: Tensor, backend: AttentionBackend = "sdpa") -> Tensor:
    """Softmax attention ``softmax(q k^T / sqrt(d)) v`` that never holds the score matrix.

    Args:
        q, k, v: ``[batch, heads, tokens, d]``.
        backend: ``sdpa`` runs everywhere; ``xformers`` needs CUDA tensors.

    Returns:
        ``[batch, heads, tokens, d]``.

    Raises:
        UserError: xformers is requested but not installed, or the tensors are on the CPU.
    """
    if backend == "sdpa":
        return F.scaled_dot_product_attention(q, k, v)
    if not q.is_cuda:
        raise UserError("--attention xformers works on CUDA only; use --attention sdpa on this device")
    try:
        from xformers.ops import memory_efficient_attention
    except ImportError as error:
        raise UserError("--attention xformers: the package xformers is not installed; use --attention sdpa") from error
    # xformers wants [batch, tokens, heads, d].
    return memory_efficient_attention(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)).transpose(1, 2)
