"""From a grid to Gaussians: all frames at once, or (the paper's ablation) one after the other."""

from __future__ import annotations

from functools import partial

import torch
from torch import nn

from core.data.side_views import side_view_grid
from core.gaussians import Gaussians, combine
from core.options.side_views import SideViews
from core.rendering import Renderer
from core.view_grid import ViewGrid


def predict(model: nn.Module, grid: ViewGrid, renderer: Renderer, side_views: SideViews) -> Gaussians:
    """Gaussians ``[B,T]`` of a grid; side views ``previous`` make it autoregressive."""
    return predict_in_turn(model, grid, renderer) if side_views == "previous" else model(grid)


def predict_in_turn(model: nn.Module, grid: ViewGrid, renderer: Renderer) -> Gaussians:
    """Autoregression: frame t sees its own view 0 and, from the side, renders of the Gaussians of frame t - 1.

    No gradient flows through those renders: each frame learns from the network's own output, as at inference.

    Args:
        model: sees one frame at a time, so temporal attention is limited to that frame.
        grid: of the side views of frames 1, 2, ... only the cameras are used.
        renderer: draws the side views on white.
    """
    images, cameras = grid.view_images, grid.view_cameras
    sides, results = images[:, 0, 1:], []
    for t in range(grid.shape[1]):
        now = cameras[:, t : t + 1]
        if t:
            with torch.no_grad(), torch.autocast(images.device.type, enabled=False):
                sides = renderer(results[-1].detach(), now[:, :, 1:]).image[:, 0].clamp(0, 1).to(images)
        results.append(model(side_view_grid(images[:, t : t + 1, 0], sides, now, "previous")))
    return combine(results, partial(torch.cat, dim=1))
