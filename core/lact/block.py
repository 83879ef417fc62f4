"""A block of LaCT: attention inside each view, fast weights across views, MLP.

    x -> x + attention(norm(x)) -> x + fast_weights(norm(x)) -> x + mlp(norm(x))

Attribute names are those of published checkpoints: ``module_list.{0,1,2}.{ln,f}``.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from core.lact.attention import SelfAttention
from core.lact.fast_weights import FastWeights
from core.lact.full_attention import FullAttention, InputTokens
from core.lact.layer import FastWeightLayer, Operation
from core.options.lact import LactOptions

Memory = FastWeights | InputTokens


class MLP(nn.Module):
    """Two linear layers with an exact GELU between them."""

    def __init__(self, dim: int, width: int) -> None:
        super().__init__()
        self.c_fc = nn.Linear(dim, width * dim, bias=False)
        self.c_proj = nn.Linear(width * dim, dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Tokens ``[..., dim]`` to tokens."""
        return self.c_proj(F.gelu(self.c_fc(x)))


class Normed(nn.Module):
    """A layer and the norm before it."""

    def __init__(self, dim: int, f: nn.Module) -> None:
        super().__init__()
        self.ln = nn.LayerNorm(dim, bias=False)
        self.f = f


class Block(nn.Module):
    """One block; see the head of this file."""

    def __init__(self, options: LactOptions) -> None:
        super().__init__()
        dim = options.dim
        if options.mixer == "lact":
            across = FastWeightLayer(
                dim, options.fast_head_dim, options.fast_width, options.base_lr, options.muon_steps
            )
        else:
            across = FullAttention(dim, options.head_dim)
        layers = (SelfAttention(dim, options.head_dim), across, MLP(dim, options.mlp_width))
        self.module_list = nn.ModuleList(Normed(dim, layer) for layer in layers)

    def forward(
        self, x: Tensor, view_tokens: int, operations: Sequence[Operation], memory: Memory | None = None
    ) -> tuple[Tensor, Memory]:
        """Tokens ``[b, l, dim]`` to tokens, and what the block remembers of those that were written.

        Args:
            x: tokens of whole views.
            view_tokens: number of tokens of a view.
            operations: on the tokens; together they read all tokens once, in order.
            memory: what the block remembers already.
        """
        inside, across, mlp = self.module_list
        views = rearrange(x, "b (v l) d -> (b v) l d", l=view_tokens)
        x = x + rearrange(inside.f(inside.ln(views)), "(b v) l d -> b (v l) d", b=len(x))
        read, memory = across.f(across.ln(x), operations, memory)
        x = x + read
        return x + mlp.f(mlp.ln(x)), memory
