"""What a predicted image, or a predicted sequence, is worth beside the true one."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

LEVELS = 255


@dataclass(frozen=True)
class Prediction:
    """What a system shows for one object.

    Attributes:
        images: ``[T, V, 3, S, S]`` in [0, 1], beside `Truth.images`.
        alpha: ``[T, V, 1, S, S]``; None where a system gives none.
    """

    images: Tensor
    alpha: Tensor | None


def iou(alpha: Tensor, target: Tensor) -> Tensor:
    """Intersection over union of where alpha ``[..., 1, H, W]`` is above a half, ``[...]``; 1 if both are empty."""
    own, other = alpha > 0.5, target > 0.5
    union = (own | other).sum((-3, -2, -1))
    return torch.where(union > 0, (own & other).sum((-3, -2, -1)) / union.clamp_min(1), 1.0)


def flicker(images: Tensor, targets: Tensor) -> Tensor:
    """How much the changes from frame to frame differ from the true ones, in 1/255: ``[T, V, ...]`` to ``[T - 1, V]``.

    Mean of |(x[t+1] - x[t]) - (y[t+1] - y[t])| over the image. Of a still object it is the mean absolute change.
    """
    return LEVELS * (images.diff(dim=0) - targets.diff(dim=0)).abs().mean((-3, -2, -1))


def spread(count: int, total: int) -> Tensor:
    """``count`` positions out of ``total``, evenly spread; all of them if ``count`` is 0 or larger."""
    if count == 0 or count >= total:
        return torch.arange(total)
    return torch.linspace(0, total - 1, count).round().long()


def chunk_means(values: Tensor, chunk: int) -> Tensor:
    """Means over chunks that share their border frames: ``[n (chunk - 1) + 1, V]`` to ``[n, V]``."""
    return values.unfold(0, chunk, chunk - 1).mean(-1)
