"""From a grid to Gaussians: all frames at once, or (the paper's ablation) one after the other."""

from __future__ import annotations

from dataclasses import fields
from typing import Literal

import torch
from torch import Tensor, nn

from core.cameras import cameras_from_pluecker
from core.data.input_grid import build_grid
from core.gaussians import Gaussians
from core.rendering import Renderer

InputSides = Literal["first", "every", "own"]


def predict(model: nn.Module, grid: Tensor, renderer: Renderer, input_sides: InputSides) -> Gaussians:
    """Gaussians ``[B,T]`` of a grid ``[B,T,V,9,H,W]``; ``own`` side views make it autoregressive."""
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
        seen = torch.cat([colors.to(now), now[:, :, 1:, 3:]], dim=3)
        results.append(model(torch.cat([now[:, :, :1], seen], dim=2)))
    columns = ([getattr(result, field.name) for result in results] for field in fields(Gaussians))
    return Gaussians(*(torch.cat(column, dim=1) for column in columns))
