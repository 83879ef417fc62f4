"""Softmax attention with normalised queries and keys: LaCT's inside a view, and the baseline's across views."""

from __future__ import annotations

from einops import rearrange
from torch import Tensor, nn

from core.model.attention import attention


class NormedAttention(nn.Module):
    """The projections before and after attention."""

    def __init__(self, dim: int, head_dim: int) -> None:
        super().__init__()
        self.heads = dim // head_dim
        self.to_qkv = nn.Linear(dim, 3 * dim, bias=False)
        self.c_proj = nn.Linear(dim, dim, bias=False)
        self.q_norm, self.k_norm = nn.RMSNorm(head_dim), nn.RMSNorm(head_dim)

    def project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values ``[b, heads, l, head_dim]`` of tokens ``[b, l, dim]``."""
        q, k, v = rearrange(self.to_qkv(x), "b l (three h d) -> three b h l d", three=3, h=self.heads)
        return self.q_norm(q.float()).to(v.dtype), self.k_norm(k.float()).to(v.dtype), v

    def merge(self, heads: Tensor) -> Tensor:
        """What the heads read ``[b, heads, l, head_dim]`` to tokens ``[b, l, dim]``."""
        return self.c_proj(rearrange(heads, "b h l d -> b l (h d)"))


class SelfAttention(NormedAttention):
    """Attention over all tokens it is given."""

    def forward(self, x: Tensor) -> Tensor:
        """Tokens ``[b, l, dim]`` to tokens."""
        return self.merge(attention(*self.project(x)))
