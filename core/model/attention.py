"""One attention function for the whole network: PyTorch's SDPA, or xformers on CUDA where it is installed."""

from __future__ import annotations

import importlib.util
import logging
from functools import cache
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from core.errors import UserError

AttentionBackend = Literal["auto", "sdpa", "xformers"]

_log = logging.getLogger(__name__)


def attention(q: Tensor, k: Tensor, v: Tensor, backend: AttentionBackend = "auto") -> Tensor:
    """Softmax attention ``softmax(q k^T / sqrt(d)) v`` that never holds the score matrix.

    Args:
        q, k, v: ``[batch, heads, tokens, d]``.
        backend: ``sdpa`` runs everywhere; ``xformers`` needs CUDA tensors; ``auto`` takes xformers for CUDA tensors
            where it is installed, as published.

    Returns:
        ``[batch, heads, tokens, d]``.

    Raises:
        UserError: xformers is requested but not installed, or the tensors are on the CPU.
    """
    if backend == "sdpa" or (backend == "auto" and not (q.is_cuda and _xformers_works())):
        return F.scaled_dot_product_attention(q, k, v)
    if not q.is_cuda:
        raise UserError("--attention xformers works on CUDA only; use --attention sdpa on this device")
    try:
        from xformers.ops import memory_efficient_attention
    except ImportError as error:
        raise UserError("--attention xformers: the package xformers is not installed; use --attention sdpa") from error
    # xformers wants [batch, tokens, heads, d].
    return memory_efficient_attention(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)).transpose(1, 2)


@torch.compiler.assume_constant_result
@cache
def _xformers_works() -> bool:
    """Whether xformers is installed and can be imported; says so once."""
    if importlib.util.find_spec("xformers") is None:
        return False
    try:
        import xformers.ops  # noqa: F401
    except (ImportError, OSError, RuntimeError) as error:
        _log.warning("attention: xformers is installed and cannot be imported (%s); SDPA takes its place", error)
        return False
    _log.info("attention: xformers (--attention sdpa for PyTorch's)")
    return True
