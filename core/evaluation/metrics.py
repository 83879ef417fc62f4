"""What a predicted image, or a predicted sequence, is worth beside the true one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from core.evaluation.truth import Truth
from core.losses import psnr, ssim
from core.lpips import load_lpips

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


class Judge:
    """Compares predictions with one truth; what depends on the truth alone is computed once.

    Args:
        truth: of one object.
        compared: frames, as positions, whose images are compared one by one.
        lpips_images: how many of these LPIPS looks at, evenly spread; 0: all.
        device: where it computes.
    """

    def __init__(self, truth: Truth, compared: Sequence[int], lpips_images: int, device: torch.device) -> None:
        self.at = torch.tensor(compared)
        self.images, self.alpha = truth.images.to(device), truth.alpha.to(device)
        self.chosen = spread(lpips_images, len(compared) * len(truth.views))
        self.features = [self._features(self.images, i) for i in self.chosen]

    def __call__(self, prediction: Prediction) -> dict[str, Tensor]:
        """All that needs no further weights or packages.

        Returns:
            by name ``[T', V]`` on the CPU, NaN where an image was left out: ``psnr`` (dB), ``ssim``, ``lpips``,
            ``iou``; and ``flicker`` ``[T - 1, V]``, see `flicker`.
        """
        every = prediction.images.to(self.images.device)
        images, targets = every[self.at], self.images[self.at]
        found = {"psnr": psnr(images, targets), "ssim": ssim(images, targets), "lpips": self._lpips(every)}
        if prediction.alpha is not None:
            found["iou"] = iou(prediction.alpha.to(self.alpha.device)[self.at], self.alpha[self.at])
        if len(every) > 1:
            found["flicker"] = flicker(every, self.images)
        return {name: value.cpu() for name, value in found.items()}

    def _lpips(self, images: Tensor) -> Tensor:
        found = images.new_full((len(self.at) * images.shape[1],), float("nan"))
        for i, features in zip(self.chosen, self.features, strict=True):
            found[i] = load_lpips().between(self._features(images, i), features)
        return found.reshape(len(self.at), -1)

    @torch.no_grad()
    def _features(self, images: Tensor, index: Tensor) -> list[Tensor]:
        """Of image number ``index``, counted over the compared frames and their views; one a call is fastest."""
        frame, view = divmod(int(index), images.shape[1])
        return load_lpips().features(images[self.at[frame], view][None])


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
