"""From a grid to Gaussians: all frames at once, or (the paper's ablation) one after the other.

An interpolation network may first be shown what it gets at inference: `RenderedEnds`.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, fields
from typing import Literal

import torch
from torch import Tensor, nn

from core.cameras import cameras_from_pluecker
from core.data.input_grid import blend_between_ends, build_grid, with_sides
from core.gaussians import Gaussians
from core.images import resize_area
from core.rendering import Renderer

InputSides = Literal["first", "every", "own"]


@dataclass(frozen=True)
class RenderedEnds:
    """Views 1..3 of an interpolation grid as inference has them: renders of a reconstruction, not true views.

    Nothing here is trained, and nothing is random. Samples without side views (`front_alone`) stay meaningful: their
    ends are rendered from what the front video alone gives.

    Attributes:
        network: the reconstruction model, frozen; it sees the two ends with the side views of the first.
        renderer: draws on white.
        size: side of the renders in pixels; they are resized to the grid.
        autocast: the run's precision, entered for the network.
    """

    network: nn.Module
    renderer: Renderer
    size: int
    autocast: Callable[[], AbstractContextManager]

    @torch.no_grad()
    def __call__(self, grid: Tensor) -> Tensor:
        """The grid ``[B,T,V,9,H,W]`` with other colours in views 1..3, blends between the ends; all else stays."""
        sides = grid[:, :1, 1:]
        ends = torch.cat([grid[:, [0, -1], :1], sides.expand(-1, 2, -1, -1, -1, -1)], dim=2)
        with self.autocast():
            gaussians = self.network(ends)
        with torch.autocast(grid.device.type, enabled=False):
            cameras = cameras_from_pluecker(ends[:, :, 1:, 3:].float())
            images = self.renderer(gaussians, cameras.resized((self.size, self.size))).image.clamp(0, 1)
            time = [0] * (grid.shape[1] - 1) + [1]  # what lies between is not read
            colors = build_grid(*blend_between_ends(resize_area(images, cameras.size)[:, time], cameras[:, time]))
        return with_sides(grid, colors[..., :3, :, :])


def predict(
    model: nn.Module, grid: Tensor, renderer: Renderer, input_sides: InputSides, ends: RenderedEnds | None = None
) -> Gaussians:
    """Gaussians ``[B,T]`` of a grid ``[B,T,V,9,H,W]``; ``own`` side views make it autoregressive."""
    grid = ends(grid) if ends else grid
    return predict_in_turn(model, grid, renderer) if input_sides == "own" else model(grid)


def predict_in_turn(model: nn.Module, grid: Tensor, renderer: Renderer) -> Gaussians:
    """Autoregression: frame t sees its own view 0 and, from the side, renders of the Gaussians of frame t - 1.

    No gradient flows through those renders: each frame learns to work from what the network gives, as at inference.

    Args:
        model: sees one frame at a time, so its temporal attention has nothing to attend to but that frame.
        grid: ``[B,T,V,9,H,W]``; the side views of frames 1, 2, ... give their cameras only.
        renderer: draws the side views on white.
    """
    results = [model(grid[:, :1])]
    for t in range(1, grid.shape[1]):
        now = grid[:, t : t + 1]
        with torch.no_grad(), torch.autocast(grid.device.type, enabled=False):
            cameras = cameras_from_pluecker(now[:, :, 1:, 3:].float())
            sides = renderer(results[-1].detach(), cameras).image.clamp(0, 1)
            colors = build_grid(sides, cameras)[..., :3, :, :]
        results.append(model(with_sides(now, colors)))
    columns = ([getattr(result, field.name) for result in results] for field in fields(Gaussians))
    return Gaussians(*(torch.cat(column, dim=1) for column in columns))
