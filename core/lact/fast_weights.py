"""Fast weights: a small gated network whose weights are the memory of a sequence, and how tokens are written into it.

    f(z) = (SiLU(z w0) * (z w2)) w1

Writing ascends the sum of <f(k), v> over the tokens of a chunk, in one orthogonalised step (Muon, arXiv 2505.23884).
All functions take several networks at once, on the leading axis n = samples x heads; h are the channels of a head, m
the hidden channels.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

# Coefficients of the quintic iteration that drives all singular values towards one.
_NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)


class FastWeights(NamedTuple):
    """The three matrices, always float32: ``w0`` and ``w2`` are ``[n, h, m]``, ``w1`` is ``[n, m, h]``."""

    w0: Tensor
    w1: Tensor
    w2: Tensor

    def __call__(self, z: Tensor) -> Tensor:
        """f(z) for tokens ``[n, l, h]``."""
        w0, w1, w2 = (weight.to(z.dtype) for weight in self)
        return (F.silu(z @ w0) * (z @ w2)) @ w1


class Rates(NamedTuple):
    """Rate of each token's part in the update of each matrix, float32 ``[n, l, 1]``."""

    lr0: Tensor
    lr1: Tensor
    lr2: Tensor


def gradients(weights: FastWeights, k: Tensor, v: Tensor, rates: Rates) -> FastWeights:
    """Gradient of the sum of <f(k), v> over the tokens, each token weighted by its rates.

    Args:
        weights: where it is taken.
        k, v: keys and values ``[n, l, h]``.
        rates: of the tokens.
    """
    w0, w1, w2 = (weight.to(k.dtype) for weight in weights)
    a, c = k @ w0, k @ w2
    gate, slope = F.silu(a), torch.sigmoid(a)
    hidden_gradient = v @ w1.mT
    c_gradient = hidden_gradient * gate
    a_gradient = hidden_gradient * c * slope * (1 + a * (1 - slope))
    return FastWeights(
        w0=(k * rates.lr0).to(k.dtype).mT @ a_gradient,
        w1=(gate * c * rates.lr1).to(k.dtype).mT @ v,
        w2=(k * rates.lr2).to(k.dtype).mT @ c_gradient,
    )


def newton_schulz(matrix: Tensor, steps: int) -> Tensor:
    """The nearest matrix with orthonormal rows or columns, about: singular values of 0.7 to 1.2; in bfloat16.

    Args:
        matrix: ``[n, rows, columns]``.
        steps: iterations; published: 5.
    """
    a, b, c = _NEWTON_SCHULZ
    tall = matrix.shape[-2] > matrix.shape[-1]
    x = matrix.bfloat16()
    x = x.mT if tall else x
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(steps):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.mT if tall else x


def column_norms(weights: FastWeights) -> FastWeights:
    """Norms over the input channels, ``[n, 1, columns]``; constants for autograd."""
    return FastWeights(*(weight.detach().norm(dim=1, keepdim=True) for weight in weights))


def update(weights: FastWeights, norms: FastWeights, k: Tensor, v: Tensor, rates: Rates, steps: int) -> FastWeights:
    """Write a chunk of tokens: one orthogonalised step, then every column scaled back to its norm.

    Args:
        weights: before the chunk.
        norms: from `column_norms`, of the weights at the start of the sequence.
        k, v: keys and values ``[n, l, h]``; their order does not matter but for rounding.
        rates: of the tokens.
        steps: Newton-Schulz iterations.
    """
    step = gradients(weights, k, v, rates)
    moved = (weight + newton_schulz(change, steps) for weight, change in zip(weights, step, strict=True))
    return FastWeights(
        *(weight / (weight.norm(dim=1, keepdim=True) + 1e-5) * norm for weight, norm in zip(moved, norms, strict=True))
    )
