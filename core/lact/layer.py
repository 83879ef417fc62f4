"""The layer of test-time training: tokens write into fast weights and read from them, in an order that is given."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from torch import Tensor, nn

from core.lact.fast_weights import FastWeights, Rates, column_norms, update


class Operation(NamedTuple):
    """What happens to tokens ``start`` to ``end`` - 1: they are written, and then they read, or one of both."""

    start: int
    end: int
    update: bool
    apply: bool


class FastWeightLayer(nn.Module):
    """Large-chunk test-time training with a gated network as memory.

    Args:
        dim: channels of a token.
        head_dim: channels of a head; each has a network of its own.
        width: hidden channels of that network, as a multiple of ``head_dim``.
        base_lr: rate of an update where the token asks for no other.
        muon_steps: Newton-Schulz iterations of an update.
    """

    def __init__(self, dim: int, head_dim: int, width: int, base_lr: float, muon_steps: int) -> None:
        super().__init__()
        self.heads, self.muon_steps = dim // head_dim, muon_steps
        hidden = head_dim * width
        self.w0 = nn.Parameter(torch.empty(self.heads, head_dim, hidden))
        self.w1 = nn.Parameter(torch.empty(self.heads, hidden, head_dim))
        self.w2 = nn.Parameter(torch.empty(self.heads, head_dim, hidden))
        self.to_qkv = nn.Linear(dim, 3 * dim, bias=False)
        self.c_proj = nn.Linear(dim, dim, bias=False)
        self.lr_fc = nn.Linear(dim, 3 * self.heads)
        self.o_norm = nn.RMSNorm(head_dim, eps=1e-5)
        self.lr_bias = base_lr + math.log(-math.expm1(-base_lr))  # softplus of it is the base rate
        self.reset_fast_weights()

    def reset_fast_weights(self) -> None:
        """Fresh initial fast weights: normal, variance 2 / input channels."""
        for weight in (self.w0, self.w1, self.w2):
            nn.init.normal_(weight, std=math.sqrt(2 / weight.shape[1]))

    def initial_weights(self, samples: int) -> FastWeights:
        """The learned start of every sequence, for a batch."""
        return FastWeights(*(repeat(w.float(), "h i o -> (b h) i o", b=samples) for w in (self.w0, self.w1, self.w2)))

    def forward(
        self, x: Tensor, operations: Sequence[Operation], weights: FastWeights | None = None
    ) -> tuple[Tensor, FastWeights]:
        """Write and read.

        Args:
            x: tokens ``[b, l, dim]``.
            operations: in order.
            weights: where to go on from; None: the learned start.

        Returns:
            what the reading tokens got ``[b, tokens, dim]``, in the order of the operations, and the weights at the
            end. Without a reading operation there are no tokens.
        """
        q, k, v = rearrange(F.silu(self.to_qkv(x)), "b l (three h d) -> three (b h) l d", three=3, h=self.heads)
        q, k = (_unit(tokens).to(v.dtype) for tokens in (q, k))
        rates = self._rates(x) if any(operation.update for operation in operations) else None
        weights = self.initial_weights(len(x)) if weights is None else weights
        norms, outputs = column_norms(weights), []
        for start, end, writes, reads in operations:
            part = slice(start, end)
            if writes:
                chunk = Rates(*(rate[:, part] for rate in rates))
                weights = update(weights, norms, k[:, part], v[:, part], chunk, self.muon_steps)
            if reads:
                outputs.append(weights(q[:, part]))
        output = torch.cat(outputs, dim=1) if outputs else q[:, :0]
        output = F.rms_norm(output.float(), output.shape[-1:], self.o_norm.weight.float(), self.o_norm.eps)
        return self.c_proj(rearrange(output, "(b h) l d -> b l (h d)", h=self.heads).to(x.dtype)), weights

    def _rates(self, x: Tensor) -> Rates:
        with torch.autocast(x.device.type, enabled=False):  # small differences of small rates
            rates = F.linear(x.float(), self.lr_fc.weight.float(), self.lr_fc.bias.float())
            rates = F.softplus(rates + self.lr_bias)
        return Rates(*rearrange(rates, "b l (three h) -> three (b h) l 1", three=3))


def _unit(tokens: Tensor) -> Tensor:
    """Tokens divided by their length along the channels."""
    return tokens / (tokens.norm(dim=-1, keepdim=True) + 1e-5)
