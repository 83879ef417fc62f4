"""Fast weights in place of temporal attention: a cost linear in time, and a memory that goes on from chunk to chunk.

    frames of one view: [chunk 0] -> write -> read, [chunk 1] -> write -> read, ...

A frame reads what its own chunk and all chunks before it have written, so a chunk depends on no later one. Not
published: L4GM's temporal attention with the layer of LaCT (arXiv 2505.23884).
"""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager

from einops import rearrange
from torch import Tensor, nn

from core.lact.fast_weights import FastWeights
from core.lact.layer import FastWeightLayer, Operation
from core.model.unet import Level, TemporalAttention

CHUNK = 4
"""Frames that are written at once."""
_WIDTH, _BASE_LR, _MUON_STEPS = 2, 0.01, 5  # as LaCT's defaults

TemporalMemory = MutableMapping[nn.Module, FastWeights]
"""What the layers of a network remember of a video; empty at its start."""


class TemporalFastWeights(nn.Module):
    """Takes the place of a `TemporalAttention`; starts as the identity, up to the layer's scale.

    Attributes:
        memory: of the video that the calls belong to, see `remembering`; None: every call is a video of its own.
    """

    def __init__(self, attention: TemporalAttention) -> None:
        super().__init__()
        width = attention.norm.num_channels
        self.norm, self.scale = attention.norm, attention.scale
        self.layer = FastWeightLayer(width, width // attention.attn.num_heads, _WIDTH, _BASE_LR, _MUON_STEPS)
        nn.init.zeros_(self.layer.c_proj.weight)
        self.memory: TemporalMemory | None = None

    def forward(self, x: Tensor, frames: int, views: int) -> Tensor:
        """Features ``[(b t v), c, h, w]`` to features."""
        sizes = {"t": frames, "v": views, "h": x.shape[-2]}
        tokens = rearrange(self.norm(x), "(b t v) c h w -> (b v) (t h w) c", **sizes)
        ends = [min(t + CHUNK, frames) * (tokens.shape[1] // frames) for t in range(0, frames, CHUNK)]
        chunks = [Operation(start, end, update=True, apply=True) for start, end in zip([0, *ends], ends, strict=False)]
        read, weights = self.layer(tokens, chunks, None if self.memory is None else self.memory.get(self))
        if self.memory is not None:
            self.memory[self] = weights
        return (rearrange(read, "(b v) (t h w) c -> (b t v) c h w", **sizes) + x) * self.scale


def replace_temporal_attention(model: nn.Module) -> None:
    """Put `TemporalFastWeights` where the U-Net has temporal attention."""
    for level in model.modules():
        if isinstance(level, Level):
            level.t_attns = nn.ModuleList(TemporalFastWeights(attention) for attention in level.t_attns)


@contextmanager
def remembering(model: nn.Module, memory: TemporalMemory) -> Iterator[None]:
    """Inside, calls of the model go on from ``memory`` and add to it. Not for several threads at once."""
    layers = [module for module in model.modules() if isinstance(module, TemporalFastWeights)]
    for layer in layers:
        layer.memory = memory
    try:
        yield
    finally:
        for layer in layers:
            layer.memory = None
