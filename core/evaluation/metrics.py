"""Metrics of one object: PSNR, SSIM, LPIPS, alpha IoU, flicker, warped error.

The warped error needs OpenCV, for its optical flow (DIS).
"""

from __future__ import annotations

import importlib.util
from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from core.evaluation.ground_truth import GroundTruth, Prediction
from core.evaluation.perceptual import ClipImages
from core.evaluation.protocol import Protocol
from core.losses import psnr, ssim
from core.lpips import load_lpips

LEVELS = 255
_AT_ONCE = 16  # frames
MAX_CACHED = 64  # images whose LPIPS features are cached: 30 MB each at 256 pixels


class Metrics:
    """Compares predictions with one ground truth, for which everything is computed once.

    Args:
        ground_truth: one object.
        protocol: says which frames are compared.
        lpips_images: on how many of their images LPIPS is measured, evenly spread; 0: all.
        device: where it computes.
        clip: for CLIP similarity.
        with_flow: whether to measure the warped error, for which OpenCV is needed.
    """

    def __init__(
        self,
        ground_truth: GroundTruth,
        protocol: Protocol,
        lpips_images: int,
        device: torch.device,
        clip: ClipImages | None = None,
        with_flow: bool = False,
    ) -> None:
        self.protocol, self.clip = protocol, clip
        self.at = torch.tensor(protocol.compared())
        self.images = ground_truth.images.to(device)
        self.alpha = None if ground_truth.alpha is None else ground_truth.alpha.to(device)
        self.chosen = spread(lpips_images, len(self.at) * len(ground_truth.views))
        self.features: dict[int, list[Tensor]] = {}
        self.warped = WarpedError(ground_truth) if with_flow and len(ground_truth.frames) > 1 else None

    def __call__(self, prediction: Prediction) -> dict[str, Tensor]:
        """All metrics by name, ``[T', V]`` on the CPU, NaN where an image was not measured.

        ``psnr`` (dB), ``ssim``, ``lpips``, ``iou``, ``clip`` of the compared images; ``flicker`` and ``warp`` of
        neighbouring frames; under autoregression ``psnr_01``, ... of every chunk and ``psnr_lost`` from the first to
        the last; for a still ``flicker_worst``, the largest of all pairs.
        """
        every = prediction.images.to(self.images.device)
        images, targets = every[self.at], self.images[self.at]
        parts = zip(images.split(_AT_ONCE), targets.split(_AT_ONCE), strict=True)  # SSIM takes ten times their memory
        found = {"psnr": psnr(images, targets), "ssim": torch.cat([ssim(*part) for part in parts])}
        found["lpips"] = self._lpips(every)
        if prediction.alpha is not None and self.alpha is not None:
            found["iou"] = iou(prediction.alpha.to(self.alpha.device)[self.at], self.alpha[self.at])
        if self.clip:
            found["clip"] = self.clip.similarity(images, targets)
        if len(every) > 1:
            found["flicker"] = flicker(every, self.images)
        if self.protocol.task == "still":  # the mean would hide a jump between two chunks
            found["flicker_worst"] = found["flicker"].amax(dim=0, keepdim=True)
        if self.warped:
            found["warp"] = self.warped(every)
        if self.protocol.task == "autoregress":
            found |= _by_chunk(found["psnr"], self.protocol.chunk)
        return {name: value.cpu() for name, value in found.items()}

    def of_ground_truth(self) -> dict[str, Tensor]:
        """The warped error of the true images, a lower bound for predictions."""
        return {"warp": self.warped(self.images)} if self.warped else {}

    @torch.no_grad()
    def _lpips(self, images: Tensor) -> Tensor:
        lpips, views = load_lpips(), images.shape[1]
        found = images.new_full((len(self.at) * views,), float("nan"))
        for number in self.chosen.tolist():  # one image per call is fastest on a CPU
            frame, view = divmod(number, views)
            position = self.at[frame]
            target = self.features.get(number) or lpips.features(self.images[position, view][None])
            if len(self.chosen) <= MAX_CACHED:
                self.features[number] = target
            found[number] = lpips.between(lpips.features(images[position, view][None]), target)
        return found.reshape(-1, views)


def _by_chunk(values: Tensor, chunk: int) -> dict[str, Tensor]:
    means = chunk_means(values, chunk)
    found = {f"psnr_{number + 1:02d}": row[None] for number, row in enumerate(means)}
    return {**found, "psnr_first": means[:1], "psnr_last": means[-1:], "psnr_lost": means[:1] - means[-1:]}


def iou(alpha: Tensor, target: Tensor) -> Tensor:
    """Intersection over union ``[...]`` of the pixels with alpha ``[..., 1, H, W]`` above 0.5; 1 if both are empty."""
    own, other = alpha > 0.5, target > 0.5
    union = (own | other).sum((-3, -2, -1))
    return torch.where(union > 0, (own & other).sum((-3, -2, -1)) / union.clamp_min(1), 1.0)


def flicker(images: Tensor, targets: Tensor) -> Tensor:
    """Difference of predicted and true changes from frame to frame, in 1/255: ``[T, V, ...]`` to ``[T - 1, V]``.

    Mean of |(x[t+1] - x[t]) - (y[t+1] - y[t])| over the image. For a still object, the mean absolute change.
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


def has_flow() -> bool:
    """Whether OpenCV is installed."""
    return importlib.util.find_spec("cv2") is not None


class WarpedError:
    """Mean absolute difference, in 1/255, of an image and the next one warped back along the true optical flow.

    The flow is that of the true images. Compared are foreground pixels where the forward and the backward flow agree
    (Sundaram et al. 2010: |f + b|^2 < 0.01 (|f|^2 + |b|^2) + 0.5), so that occlusions do not count. The value of the
    true images themselves is a lower bound: errors of the flow, and shading.

    Args:
        ground_truth: one object, two frames or more.
    """

    def __init__(self, ground_truth: GroundTruth) -> None:
        grey = (ground_truth.images.mean(dim=2).cpu() * LEVELS).round().byte().numpy()
        alpha = None if ground_truth.alpha is None else ground_truth.alpha[:, :, 0].cpu() > 0.5
        self.grids, self.masks = [], []
        for t, (first, second) in enumerate(pairwise(grey)):
            forward, backward = (
                torch.from_numpy(np.stack([_flow(*pair) for pair in zip(*both, strict=True)]))
                for both in ((first, second), (second, first))
            )
            grid = _grid(forward)
            backward = rearrange(_sample(rearrange(backward, "v h w c -> v c h w"), grid), "v c h w -> v h w c")
            difference = (forward + backward).square().sum(-1)
            consistent = difference < 0.01 * (forward.square().sum(-1) + backward.square().sum(-1)) + 0.5
            mask = consistent & (grid.abs() <= 1).all(dim=-1)
            self.grids.append(grid)
            self.masks.append(mask if alpha is None else mask & alpha[t])

    def __call__(self, images: Tensor) -> Tensor:
        """Errors ``[T - 1, V]`` of images ``[T, V, 3, S, S]``; NaN where no pixel is compared."""
        found = []
        for (now, after), grid, mask in zip(pairwise(images.cpu()), self.grids, self.masks, strict=True):
            error = (now - _sample(after, grid)).abs().mean(dim=1)
            found.append(LEVELS * (error * mask).sum((1, 2)) / mask.sum((1, 2)))
        return torch.stack(found)


def _flow(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Displacement of each pixel of ``first``: ``[H, W, 2]``, x and y in pixels."""
    import cv2

    return cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM).calc(first, second, None)


def _grid(flow: Tensor) -> Tensor:
    """Sampling positions in [-1, 1] at the ends of the flow."""
    height, width = flow.shape[1:3]
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    ends = torch.stack([x, y], dim=-1) + 0.5 + flow
    return 2 * ends / ends.new_tensor([width, height]) - 1


def _sample(images: Tensor, grid: Tensor) -> Tensor:
    return F.grid_sample(images, grid, padding_mode="border", align_corners=False)
