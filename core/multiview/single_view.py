"""Four views from one picture, by a reconstruction model that was trained with view dropout."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from core.gaussians import Gaussians
from core.images import resize_area


def views_from_frame(
    frame: Tensor, reconstruct: Callable[[Tensor, Tensor], Gaussians], render: Callable[[Gaussians], Tensor]
) -> Tensor:
    """Reconstruct from view 0 alone and look at the result from four sides.

    Views 1..3 are blank (white) and keep their rays: what the model saw when views were dropped in training.

    Args:
        frame: view 0, ``[3, S, S]`` in [0, 1].
        reconstruct: view 0 ``[1, 3, S, S]`` and views 1..3 ``[3, 3, S, S]`` to Gaussians ``[1]``.
        render: Gaussians ``[1]`` to images at azimuth 0, 90, 180, 270: ``[1, 4, 3, R, R]``.

    Returns:
        ``[4, 3, R, R]``: the frame, as no render of it could be better, and renders at 90, 180, 270 degrees.
    """
    blank = torch.ones(3, *frame.shape)
    renders = render(reconstruct(frame[None], blank))[0]
    front = resize_area(frame, (renders.shape[-2], renders.shape[-1]))
    return torch.cat([front[None].to(renders), renders[1:]])
