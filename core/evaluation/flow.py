"""Warped error: how much colours change along the true motion, by OpenCV's optical flow (DIS)."""

from __future__ import annotations

import importlib.util

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from core.evaluation.truth import Truth

LEVELS = 255


def has_flow() -> bool:
    """Whether OpenCV is installed."""
    return importlib.util.find_spec("cv2") is not None


class WarpedError:
    """Mean absolute difference, in 1/255, of an image and the next one brought back along the true flow.

    The flow is that of the true images. Compared are pixels of the true foreground where the flow there and back meets
    itself (Sundaram et al. 2010: |f + b|^2 < 0.01 (|f|^2 + |b|^2) + 0.5), so that nothing hidden counts. The truth's
    own value is the floor: what flow and shading leave.

    Args:
        truth: of one object, two frames or more.
    """

    def __init__(self, truth: Truth) -> None:
        frames, views = truth.images.shape[:2]
        self.shape = (frames - 1, views)
        grey = (truth.images.mean(dim=2).cpu() * LEVELS).round().byte().numpy()
        pairs = [(grey[t, v], grey[t + 1, v]) for t in range(frames - 1) for v in range(views)]
        there = torch.from_numpy(np.stack([_flow(first, second) for first, second in pairs]))
        back = torch.from_numpy(np.stack([_flow(second, first) for first, second in pairs]))
        self.grid = _grid(there)
        returned = rearrange(_sample(rearrange(back, "n h w c -> n c h w"), self.grid), "n c h w -> n h w c")
        apart = (there + returned).square().sum(-1)
        sure = apart < 0.01 * (there.square().sum(-1) + returned.square().sum(-1)) + 0.5
        inside = (self.grid.abs() <= 1).all(dim=-1)
        self.mask = sure & inside
        if truth.alpha is not None:
            self.mask &= rearrange(truth.alpha[:-1] > 0.5, "t v 1 h w -> (t v) h w").cpu()

    def __call__(self, images: Tensor) -> Tensor:
        """Errors ``[T - 1, V]`` of images ``[T, V, 3, S, S]``; NaN where no pixel is sure."""
        now, after = (rearrange(part, "t v c h w -> (t v) c h w").cpu() for part in (images[:-1], images[1:]))
        error = (now - _sample(after, self.grid)).abs().mean(dim=1)
        return (LEVELS * (error * self.mask).sum((1, 2)) / self.mask.sum((1, 2))).reshape(self.shape)


def _flow(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Where each pixel of ``first`` goes: ``[H, W, 2]``, x and y in pixels."""
    import cv2

    return cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM).calc(first, second, None)


def _grid(flow: Tensor) -> Tensor:
    """Sampling positions in [-1, 1] of the flow's ends."""
    height, width = flow.shape[1:3]
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    ends = torch.stack([x, y], dim=-1) + 0.5 + flow
    return 2 * ends / ends.new_tensor([width, height]) - 1


def _sample(images: Tensor, grid: Tensor) -> Tensor:
    return F.grid_sample(images, grid, padding_mode="border", align_corners=False)
