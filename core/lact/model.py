"""LaCT for novel views: posed images in, images from other cameras out, no 3D representation between.

    inputs  -> rays + colours -> tokens -> blocks: write, read -> scene state (fast weights of each block)
    targets -> rays           -> tokens -> blocks: read        -> decoder -> images

Input tokens write all at once, so the order of the views does not matter; target tokens only read, so target views
do not see each other.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from core.cameras import Cameras, cross
from core.errors import UserError
from core.lact.block import Block, Memory
from core.lact.layer import FastWeightLayer, Operation
from core.lact.ray_features import ray_features
from core.options.lact import LactOptions

SceneState = tuple[Memory, ...]
"""What each block remembers of the inputs: for LaCT its fast weights, whatever the number of inputs."""

PIXEL_CHANNELS = 12  # ray origin, direction, their cross product, colour in [-1, 1]


class LaCT(nn.Module):
    """The network. It has no positional encoding: rays tell where a token is.

    Args:
        options: sizes.

    Attributes:
        recompute: save memory in training by computing the blocks again in the backward pass.
    """

    def __init__(self, options: LactOptions) -> None:
        super().__init__()
        self.options = options
        dim, pixels = options.dim, options.patch_size**2
        self.input_linear = nn.Linear(PIXEL_CHANNELS * pixels, dim, bias=False)
        if options.ray_frequencies:
            self.ray_linear = nn.Linear(2 * options.ray_frequencies, dim, bias=False)
        self.input_layernorm = nn.LayerNorm(dim, bias=False)
        self.blocks = nn.ModuleList(Block(options) for _ in range(options.layers))
        self.image_token_decoder = nn.Sequential(nn.LayerNorm(dim, bias=False), nn.Linear(dim, 3 * pixels, bias=False))
        self.recompute = False
        self.reset()

    def reset(self) -> None:
        """Fresh weights, at 768 channels as published: normal of 0.02, smaller where a residual branch ends."""
        std = 0.02 * math.sqrt(768 / self.options.dim)
        for name, module in self.named_modules():
            if isinstance(module, nn.Linear):
                last = name.endswith("c_proj")
                nn.init.normal_(module.weight, std=std / math.sqrt(3 * self.options.layers) if last else std)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            elif isinstance(module, FastWeightLayer):
                module.reset_fast_weights()
        if self.options.ray_frequencies:
            nn.init.normal_(self.ray_linear.weight, std=2 * std)

    def forward(self, images: Tensor, cameras: Cameras, targets: Cameras) -> Tensor:
        """Inputs and targets in one sequence; equals `render` of `reconstruct`.

        Args:
            images: inputs ``[b, v, 3, height, width]`` in [0, 1].
            cameras: theirs, leading axes ``[b, v]``.
            targets: cameras of the same image size, leading axes ``[b, t]``.

        Returns:
            images ``[b, t, 3, height, width]`` in [0, 1].
        """
        known, asked = self._embed(cameras, images), self._embed(targets)
        count, both = known.shape[1], known.shape[1] + asked.shape[1]
        x = torch.cat([known, asked], dim=1)
        write, read = Operation(0, count, update=True, apply=False), Operation(0, both, update=False, apply=True)
        x, _ = self._run(x, cameras.size, (write, read))
        return self._decode(x[:, count:], targets)

    def reconstruct(
        self, images: Tensor, cameras: Cameras, state: SceneState | None = None, chunks: int = 1
    ) -> SceneState:
        """Write input views into the fast weights of every block.

        Args:
            images, cameras: inputs as for `forward`.
            state: of views seen before, which these add to; None: a new scene.
            chunks: number of updates that the views are divided into, one after the other; published: 1. With several
                each view reads after its own chunk, so the order of the views matters.
        """
        x = self._embed(cameras, images)
        views = cameras.shape[1]
        ends = [views * (i + 1) // chunks * (x.shape[1] // views) for i in range(chunks)]
        parts = zip([0, *ends[:-1]], ends, strict=True)
        operations = [Operation(start, end, update=True, apply=True) for start, end in parts]
        return self._run(x, cameras.size, operations, state)[1]

    def render(self, state: SceneState, targets: Cameras) -> Tensor:
        """Images ``[b, t, 3, height, width]`` in [0, 1] from cameras with leading axes ``[b, t]``."""
        x = self._embed(targets)
        read = Operation(0, x.shape[1], update=False, apply=True)
        return self._decode(self._run(x, targets.size, [read], state)[0], targets)

    def _run(
        self, x: Tensor, size: tuple[int, int], operations: Sequence[Operation], state: SceneState | None = None
    ) -> tuple[Tensor, SceneState]:
        view_tokens, memories = math.prod(size) // self.options.patch_size**2, []
        for block, memory in zip(self.blocks, state or [None] * len(self.blocks), strict=True):
            x, memory = self._call(block)(x, view_tokens, operations, memory)
            memories.append(memory)
        return x, tuple(memories)

    def _call(self, block: Block) -> Callable[..., tuple[Tensor, Memory]]:
        if not (self.recompute and torch.is_grad_enabled()):
            return block
        return lambda *arguments: checkpoint(block, *arguments, use_reentrant=False)

    def _embed(self, cameras: Cameras, images: Tensor | None = None) -> Tensor:
        """Tokens ``[b, v rows columns, dim]`` of rays and colours; colours are zero where there is no image."""
        patch = self.options.patch_size
        if any(side % patch for side in cameras.size):
            height, width = cameras.size
            raise UserError(f"images of {height} x {width} pixels do not divide into patches of {patch} x {patch}")
        origins, directions = cameras.rays()
        colors = torch.zeros_like(directions) if images is None else rearrange(images * 2 - 1, "b v c h w -> b v h w c")
        pixels = torch.cat([origins, directions, cross(origins, directions), colors], dim=-1)
        x = self.input_linear(rearrange(pixels, "b v (h p) (w q) c -> b (v h w) (p q c)", p=patch, q=patch))
        if self.options.ray_frequencies:
            x = x + self.ray_linear(ray_features(origins, directions, patch, self.options.ray_frequencies))
        return self.input_layernorm(x)

    def _decode(self, x: Tensor, targets: Cameras) -> Tensor:
        patch, (height, width) = self.options.patch_size, targets.size
        patches = self.image_token_decoder(x).sigmoid()
        return rearrange(
            patches,
            "b (v h w) (p q c) -> b v c (h p) (w q)",
            v=targets.shape[1],
            h=height // patch,
            w=width // patch,
            p=patch,
            q=patch,
        )
