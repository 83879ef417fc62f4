"""The parts of the multi-view U-Net. Attribute names are those of the published checkpoints: a public format.

Every image of a batch of B groups of F frames goes through the same layers, as ``[(b f), C, H, W]``; frames of a group
interact in the self-attention of the transformers only.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from torch import Tensor, nn

from core.model.attention import attention

NORM_GROUPS = 32
_NORM_EPS, _TRANSFORMER_NORM_EPS = 1e-5, 1e-6


def norm_silu(width: int) -> list[nn.Module]:
    """Group normalisation and SiLU, the head of every convolution here."""
    return [nn.GroupNorm(NORM_GROUPS, width, eps=_NORM_EPS), nn.SiLU()]


class Resblock(nn.Module):
    """Two normalised 3x3 convolutions and a shortcut; the embedding is added between them."""

    def __init__(self, width_in: int, width: int, embed_width: int) -> None:
        super().__init__()
        self.in_layers = nn.Sequential(*norm_silu(width_in), nn.Conv2d(width_in, width, 3, padding=1))
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(embed_width, width))
        # The identity is dropout 0, which holds place 2 of the published names.
        self.out_layers = nn.Sequential(*norm_silu(width), nn.Identity(), nn.Conv2d(width, width, 3, padding=1))
        self.skip_connection = nn.Identity() if width_in == width else nn.Conv2d(width_in, width, 1)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        h = self.in_layers(x) + self.emb_layers(embedding)[:, :, None, None]
        return self.skip_connection(x) + self.out_layers(h)


class Downsample(nn.Module):
    """Half the resolution by a strided convolution."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.op = nn.Conv2d(width, width, 3, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.op(x)


class Upsample(nn.Module):
    """Twice the resolution: nearest neighbour, then a convolution."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.interpolate(x, scale_factor=2, mode="nearest"))


class Attention(nn.Module):
    """Multi-head attention of tokens to a context, or to themselves.

    With ``image_tokens`` > 0 the last that many context tokens have projections of their own and are attended to
    separately, with the same queries; the two results are added.
    """

    def __init__(self, width: int, head_width: int, context_width: int | None = None, image_tokens: int = 0) -> None:
        super().__init__()
        source = context_width or width
        self.head_width = head_width
        self.image_tokens = image_tokens
        self.to_q = nn.Linear(width, width, bias=False)
        self.to_k = nn.Linear(source, width, bias=False)
        self.to_v = nn.Linear(source, width, bias=False)
        if image_tokens:
            self.to_k_ip = nn.Linear(source, width, bias=False)
            self.to_v_ip = nn.Linear(source, width, bias=False)
        self.to_out = nn.Sequential(nn.Linear(width, width))

    def forward(self, tokens: Tensor, context: Tensor | None = None) -> Tensor:
        """tokens ``[N, L, C]``, context ``[M, K, D]``; M divides N: a context serves N / M rows in a row."""
        q = self._heads(self.to_q(tokens))
        if context is None:
            mixed = attention(q, self._heads(self.to_k(tokens)), self._heads(self.to_v(tokens)))
            return self.to_out(rearrange(mixed, "n heads l d -> n l (heads d)"))
        text = context[:, : context.shape[1] - self.image_tokens]
        mixed = self._attend(q, self.to_k(text), self.to_v(text))
        if self.image_tokens:
            image = context[:, -self.image_tokens :]
            mixed = mixed + self._attend(q, self.to_k_ip(image), self.to_v_ip(image))
        return self.to_out(rearrange(mixed, "n heads l d -> n l (heads d)"))

    def _attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        rows = q.shape[0] // k.shape[0]
        k, v = (repeat(self._heads(x), "m heads l d -> (m rows) heads l d", rows=rows) for x in (k, v))
        return attention(q, k, v)

    def _heads(self, x: Tensor) -> Tensor:
        return rearrange(x, "n l (heads d) -> n heads l d", d=self.head_width)


class Geglu(nn.Module):
    """One half of a linear layer's output times the GELU of the other."""

    def __init__(self, width_in: int, width: int) -> None:
        super().__init__()
        self.proj = nn.Linear(width_in, 2 * width)

    def forward(self, x: Tensor) -> Tensor:
        value, gate = self.proj(x).chunk(2, dim=-1)
        return value * F.gelu(gate)


class FeedForward(nn.Module):
    """GEGLU of four times the width and a linear layer; the identity between holds the place of dropout."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.net = nn.Sequential(Geglu(width, 4 * width), nn.Identity(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


class TransformerBlock(nn.Module):
    """Self-attention over all frames of a group jointly, attention of each frame to the context, feed-forward."""

    def __init__(self, width: int, head_width: int, context_width: int, image_tokens: int) -> None:
        super().__init__()
        self.attn1 = Attention(width, head_width)
        self.attn2 = Attention(width, head_width, context_width, image_tokens)
        self.ff = FeedForward(width)
        self.norm1 = nn.LayerNorm(width)
        self.norm2 = nn.LayerNorm(width)
        self.norm3 = nn.LayerNorm(width)

    def forward(self, tokens: Tensor, context: Tensor, frames: int) -> Tensor:
        joint = rearrange(tokens, "(b f) l c -> b (f l) c", f=frames)
        joint = joint + self.attn1(self.norm1(joint))
        tokens = rearrange(joint, "b (f l) c -> (b f) l c", f=frames)
        tokens = tokens + self.attn2(self.norm2(tokens), context)
        return tokens + self.ff(self.norm3(tokens))


class MultiViewTransformer(nn.Module):
    """Pixels become tokens, pass ``depth`` transformer blocks and are added to the image."""

    def __init__(self, width: int, head_width: int, context_width: int, image_tokens: int, depth: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(NORM_GROUPS, width, eps=_TRANSFORMER_NORM_EPS)
        self.proj_in = nn.Linear(width, width)
        self.transformer_blocks = nn.ModuleList(
            TransformerBlock(width, head_width, context_width, image_tokens) for _ in range(depth)
        )
        self.proj_out = nn.Linear(width, width)

    def forward(self, x: Tensor, context: Tensor, frames: int) -> Tensor:
        tokens = self.proj_in(rearrange(self.norm(x), "n c h w -> n (h w) c"))
        for block in self.transformer_blocks:
            tokens = block(tokens, context, frames)
        return x + rearrange(self.proj_out(tokens), "n (h w) c -> n c h w", h=x.shape[-2])


class ResamplerAttention(nn.Module):
    """Learned tokens attend to image features and to themselves."""

    def __init__(self, width: int, heads: int, head_width: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1 = nn.LayerNorm(width)
        self.norm2 = nn.LayerNorm(width)
        self.to_q = nn.Linear(width, heads * head_width, bias=False)
        self.to_kv = nn.Linear(width, 2 * heads * head_width, bias=False)
        self.to_out = nn.Linear(heads * head_width, width, bias=False)

    def forward(self, features: Tensor, tokens: Tensor) -> Tensor:
        features, tokens = self.norm1(features), self.norm2(tokens)
        q = rearrange(self.to_q(tokens), "n l (heads d) -> n heads l d", heads=self.heads)
        kv = self.to_kv(torch.cat([features, tokens], dim=1))
        k, v = rearrange(kv, "n l (two heads d) -> two n heads l d", two=2, heads=self.heads)
        return self.to_out(rearrange(attention(q, k, v), "n heads l d -> n l (heads d)"))


class Resampler(nn.Module):
    """Any number of image features ``[N, L, D]`` -> ``tokens`` context tokens ``[N, tokens, C]``."""

    def __init__(
        self, feature_width: int, width: int, tokens: int, depth: int = 4, heads: int = 12, head_width: int = 64
    ) -> None:
        super().__init__()
        self.latents = nn.Parameter(torch.randn(1, tokens, width) / width**0.5)
        self.proj_in = nn.Linear(feature_width, width)
        self.proj_out = nn.Linear(width, width)
        self.norm_out = nn.LayerNorm(width)
        self.layers = nn.ModuleList(
            nn.ModuleList(
                [
                    ResamplerAttention(width, heads, head_width),
                    nn.Sequential(
                        nn.LayerNorm(width),
                        nn.Linear(width, 4 * width, bias=False),
                        nn.GELU(),
                        nn.Linear(4 * width, width, bias=False),
                    ),
                ]
            )
            for _ in range(depth)
        )

    def forward(self, features: Tensor) -> Tensor:
        features = self.proj_in(features)
        tokens = self.latents.expand(len(features), -1, -1)
        for attend, feed_forward in self.layers:
            tokens = tokens + attend(features, tokens)
            tokens = tokens + feed_forward(tokens)
        return self.norm_out(self.proj_out(tokens))
