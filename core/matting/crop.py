"""One square crop for a whole clip: of constant size, still or following smoothly, and around every box."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

# Training data: the longest side of an object's box over its clip is one world unit, 1.5 from a camera of 49.1 degrees.
OCCUPANCY = 1 / (2 * 1.5 * math.tan(math.radians(49.1 / 2)))
"""Share of the crop's side that the object takes over the whole clip, 0.73."""
_WORTH_FOLLOWING = 1.3  # a crop that follows must be smaller than a still one by this factor
_SMOOTHING = 0.5  # seconds, standard deviation of the Gaussian that the path is smoothed with
_AS_TRAINED = (0.5, 0.9)  # share of the side within which a clip counts as framed already
_TOLERANCE = 1.5  # pixels


@dataclass(frozen=True, eq=False)
class CropPath:
    """Where a clip is cropped.

    Attributes:
        side: of the square, in source pixels, the same in all frames.
        centres: (row, column) of each frame's square, ``[T, 2]``, in source pixels.
    """

    side: float
    centres: np.ndarray

    def scaled(self, factor: float) -> CropPath:
        """The same path in frames that are reduced by ``factor``."""
        return CropPath(self.side * factor, self.centres * factor)

    def window(self, index: int) -> tuple[float, float]:
        """Top and left edge of a frame's square."""
        top, left = self.centres[index] - self.side / 2
        return float(top), float(left)


def box_of(alpha: Tensor, threshold: float = 0.5) -> np.ndarray:
    """Top, left, bottom, right of what is above the threshold in ``[H, W]``, in pixels; NaN where nothing is."""
    mask = alpha > threshold
    rows, columns = mask.any(dim=1).nonzero()[:, 0], mask.any(dim=0).nonzero()[:, 0]
    if not len(rows):
        return np.full(4, np.nan)
    return np.array([int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1], np.float64)


def crop_path(boxes: np.ndarray, rate: float) -> CropPath:
    """The crop for the boxes of a clip.

    It stands still in the middle of their union, as in the training data, unless following the object makes it much
    smaller: then its centre is the boxes', smoothed over time. Its side leaves the training data's border around every
    box, so that none is cut.

    Args:
        boxes: ``[T, 4]`` top, left, bottom, right in pixels; NaN where the object is not seen.
        rate: frames per second.

    Raises:
        ValueError: no frame has a box.
    """
    seen = ~np.isnan(boxes[:, 0])
    if not seen.any():
        raise ValueError("no frame has a box")
    low, high = boxes[seen, :2].min(axis=0), boxes[seen, 2:].max(axis=0)
    still = np.repeat((low + high)[None] / 2, len(boxes), axis=0)
    times = np.arange(len(boxes))
    middles = (boxes[:, :2] + boxes[:, 2:]) / 2
    filled = np.stack([np.interp(times, times[seen], middles[seen, axis]) for axis in (0, 1)], axis=1)
    following = _smoothed(filled, _SMOOTHING * rate)
    sides = [2 * _reach(boxes[seen], centres[seen]) / OCCUPANCY for centres in (still, following)]
    return CropPath(sides[0], still) if sides[0] <= _WORTH_FOLLOWING * sides[1] else CropPath(sides[1], following)


def is_framed(boxes: np.ndarray, size: tuple[int, int]) -> bool:
    """Whether a clip is framed as the training data are: square, nothing cut, the object neither tiny nor too large.

    Args:
        boxes: ``[T, 4]`` of its frames in pixels.
        size: (height, width) of the frames.
    """
    if size[0] != size[1] or np.isnan(boxes).all():
        return False
    low, high = np.nanmin(boxes[:, :2], axis=0), np.nanmax(boxes[:, 2:], axis=0)
    inside = bool((low > 0).all() and (high < size[0]).all())
    return inside and _AS_TRAINED[0] <= float((high - low).max()) / size[0] <= _AS_TRAINED[1]


def touches(boxes: np.ndarray, size: tuple[int, int]) -> int:
    """In how many frames the box reaches the edge of the frame, where the object may be cut."""
    low = (boxes[:, :2] <= _TOLERANCE).any(axis=1)
    return int((low | (boxes[:, 2:] >= np.array(size) - _TOLERANCE).any(axis=1)).sum())


def cut(planes: Tensor, top: float, left: float, side: float, size: int) -> Tensor:
    """A square of ``[C, H, W]``, at any fraction of a pixel, as ``[C, size, size]``: the mean over each new pixel.

    What lies outside is zero: with premultiplied alpha, nothing.
    """
    height, width = planes.shape[-2:]
    rows, y = _window_weights(height, top, side, size)
    columns, x = _window_weights(width, left, side, size)
    return rows @ planes[..., y, x] @ columns.T


def _window_weights(old: int, start: float, length: float, new: int) -> tuple[Tensor, slice]:
    """Weights ``[new, n]`` of the n old pixels that a window covers, and which these are."""
    used = slice(min(old - 1, max(0, math.floor(start))), max(1, min(old, math.ceil(start + length))))
    edges = start + torch.arange(new + 1, dtype=torch.float64) * length / new
    pixels = torch.arange(old, dtype=torch.float64)[used]
    overlap = torch.minimum(edges[1:, None], pixels + 1) - torch.maximum(edges[:-1, None], pixels)
    return (overlap.clamp_min(0) * new / length).float(), used


def _reach(boxes: np.ndarray, centres: np.ndarray) -> float:
    """The farthest that a box's edge is from its centre, along rows or columns."""
    return float(max((centres - boxes[:, :2]).max(), (boxes[:, 2:] - centres).max()))


def _smoothed(path: np.ndarray, sigma: float) -> np.ndarray:
    """``[T, 2]``: for each time the value of the straight line that fits best, under a Gaussian around that time."""
    times = np.arange(len(path), dtype=np.float64)
    reach = math.ceil(3 * sigma)
    smooth = np.empty_like(path)
    for now in range(len(path)):
        near = slice(max(0, now - reach), now + reach + 1)
        away = times[near] - now
        weights = np.exp(-0.5 * (away / sigma) ** 2)
        weights /= weights.sum()
        middle = (weights * away).sum()
        spread = (weights * (away - middle) ** 2).sum()
        slope = (weights * (away - middle)) @ path[near] / spread if spread > 0 else np.zeros(2)
        smooth[now] = weights @ path[near] - slope * middle
    return smooth
