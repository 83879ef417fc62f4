"""The multi-view diffusion U-Net of MVDream (from a text) and ImageDream (from an image).

    latents [B,F,4,h,w] -> input_blocks -> middle_block -> output_blocks -> out -> noise [B,F,4,h,w]
        time + camera of each frame ─┴──── in every residual block ────┘
        text and image tokens ───────┴──── in every transformer ───────┘

Frames of a group share one self-attention. ImageDream has one more frame than views: the latent of the picture itself.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields

import torch
from einops import rearrange
from torch import Tensor, nn

from core.files import is_like
from core.multiview.blocks import (
    Downsample,
    MultiViewTransformer,
    Resampler,
    Resblock,
    Upsample,
    norm_silu,
)


@dataclass(frozen=True)
class UNetConfig:
    """Sizes of the U-Net, under the published names of ``unet/config.json``. Defaults: MVDream."""

    image_size: int = 32
    in_channels: int = 4
    out_channels: int = 4
    model_channels: int = 320
    num_res_blocks: int = 2
    attention_resolutions: tuple[int, ...] = (4, 2, 1)
    """Factors of downsampling at which there are transformers."""
    channel_mult: tuple[int, ...] = (1, 2, 4, 4)
    num_head_channels: int = 64
    transformer_depth: int = 1
    context_dim: int = 1024
    camera_dim: int = 16
    ip_dim: int = 0
    """Image tokens; ImageDream has 16."""
    image_dim: int = 1280
    """Width of the image features. Not in the published file, where it is always this."""

    @classmethod
    def from_json(cls, content: Mapping[str, object]) -> UNetConfig:
        """The fields of this class, lists as tuples; other entries of the file are ignored.

        Raises:
            ValueError: a field has another type than here, or a number that no network has.
        """
        known = {field.name for field in fields(cls)} & content.keys()
        for name in sorted(known):
            value = content[name]
            numbers = value if isinstance(value, list) else [value]
            if not is_like(value, getattr(cls, name)) or len(numbers) > 16 or not all(0 <= n <= 8192 for n in numbers):
                raise ValueError(f"{name} is {str(value)[:60]}")
        return cls(**{name: tuple(value) if isinstance(value := content[name], list) else value for name in known})


IMAGEDREAM = UNetConfig(ip_dim=16)
MVDREAM = UNetConfig()


def timestep_embedding(timesteps: Tensor, width: int) -> Tensor:
    """``[N]`` -> ``[N, width]`` float32: cosines, then sines, of frequencies 10000^(-2k / width)."""
    half = width // 2
    frequencies = torch.exp(-math.log(10000) * torch.arange(half, device=timesteps.device, dtype=torch.float32) / half)
    angles = timesteps[:, None].float() * frequencies
    return torch.cat([angles.cos(), angles.sin()], dim=-1)


def _embedder(width_in: int, width: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(width_in, width), nn.SiLU(), nn.Linear(width, width))


class MultiViewUNet(nn.Module):
    """Predicts the noise in the latents of all views of an object at once.

    Args:
        config: sizes.
    """

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        self.config = config
        base = config.model_channels
        widths = [base * factor for factor in config.channel_mult]
        self.embed_width = 4 * base
        self.time_embed = _embedder(base, self.embed_width)
        self.camera_embed = _embedder(config.camera_dim, self.embed_width)
        if config.ip_dim:
            self.image_embed = Resampler(config.image_dim, config.context_dim, config.ip_dim)

        width, skips = base, [base]
        self.input_blocks = nn.ModuleList([nn.ModuleList([nn.Conv2d(config.in_channels, base, 3, padding=1)])])
        for level, out in enumerate(widths):
            for _ in range(config.num_res_blocks):
                self.input_blocks.append(self._block(width, out, level))
                width = out
                skips.append(width)
            if level < len(widths) - 1:
                self.input_blocks.append(nn.ModuleList([Downsample(width)]))
                skips.append(width)

        self.middle_block = nn.ModuleList([self._residual(width), self._transformer(width), self._residual(width)])

        self.output_blocks = nn.ModuleList()
        for level, out in reversed(list(enumerate(widths))):
            for _ in range(config.num_res_blocks + 1):
                self.output_blocks.append(self._block(width + skips.pop(), out, level))
                width = out
            if level:
                self.output_blocks[-1].append(Upsample(width))
        self.out = nn.Sequential(*norm_silu(width), nn.Conv2d(width, config.out_channels, 3, padding=1))

    @property
    def dtype(self) -> torch.dtype:
        """Of the weights."""
        return self.out[-1].weight.dtype

    def _residual(self, width_in: int, width: int | None = None) -> Resblock:
        return Resblock(width_in, width or width_in, self.embed_width)

    def _transformer(self, width: int) -> MultiViewTransformer:
        c = self.config
        return MultiViewTransformer(width, c.num_head_channels, c.context_dim, c.ip_dim, c.transformer_depth)

    def _block(self, width_in: int, width: int, level: int) -> nn.ModuleList:
        attends = 2**level in self.config.attention_resolutions
        return nn.ModuleList([self._residual(width_in, width), *([self._transformer(width)] if attends else [])])

    def forward(self, latents: Tensor, timesteps: Tensor, context: Tensor, cameras: Tensor) -> Tensor:
        """Predict noise.

        Args:
            latents: ``[B, F, 4, h, w]``, h and w multiples of 2 to the number of levels minus one.
            timesteps: ``[B]``.
            context: text tokens followed by ``ip_dim`` image tokens (of `image_embed`): ``[B, L, C]`` for all frames
                of a group, or ``[B * F, L, C]`` for each.
            cameras: ``[B, F, 16]``, see `core.multiview.poses`.

        Returns:
            ``[B, F, 4, h, w]``.
        """
        groups, frames = latents.shape[:2]
        times = timestep_embedding(timesteps, self.config.model_channels).to(latents)
        embedding = self.time_embed(times)[:, None] + self.camera_embed(cameras.to(latents))
        embedding = rearrange(embedding, "b f c -> (b f) c")

        def run(block: nn.ModuleList, x: Tensor) -> Tensor:
            for layer in block:
                if isinstance(layer, Resblock):
                    x = layer(x, embedding)
                elif isinstance(layer, MultiViewTransformer):
                    x = layer(x, context, frames)
                else:
                    x = layer(x)
            return x

        x = rearrange(latents, "b f c h w -> (b f) c h w")
        skips = []
        for block in self.input_blocks:
            x = run(block, x)
            skips.append(x)
        x = run(self.middle_block, x)
        for block in self.output_blocks:
            x = run(block, torch.cat([x, skips.pop()], dim=1))
        return rearrange(self.out(x), "(b f) c h w -> b f c h w", b=groups)
