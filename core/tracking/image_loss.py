"""How well Gaussians repeat images: what poses, nodes and the canonical set are fitted by."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from core.gaussians import Gaussians
from core.rendering import Renderer
from core.tracking.observations import Views

RGB, ALPHA = 100.0, 50.0  # factors on mean squared errors


def image_loss(
    renderer: Renderer, gaussians: Gaussians, views: Views, weights: Tensor | None = None, coarse: int = 1
) -> Tensor:
    """Weighted squared error of colour and coverage, mean over times and views; pixels are averaged to coarse ones.

    Args:
        renderer: draws.
        gaussians: leading axes ``[B]``.
        views: ``[B, V]``.
        weights: of the times ``[B]``; None: 1.
        coarse: side of a coarse pixel.
    """
    output = renderer(gaussians, views.cameras)
    total = 0.0
    for factor, drawn, target in ((RGB, output.image, views.images), (ALPHA, output.alpha, views.alpha)):
        difference = (drawn - target).flatten(0, 1)
        difference = F.avg_pool2d(difference, coarse) if coarse > 1 else difference
        errors = difference.square().mean((1, 2, 3)).unflatten(0, views.images.shape[:2]).mean(1)
        total = total + factor * (errors if weights is None else weights * errors).mean()
    return total
