"""Videos with a background for tests of the matte, and what stands for the network that finds the object."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch

from core.images import resize_area
from core.media import Video, read_video, write_video

RED = np.array([220, 40, 30])


def find_red(picture: np.ndarray) -> np.ndarray:
    """How red every place is, at a quarter of the size: the stand-in for U2-Net."""
    values = picture.astype(np.float32)
    red = ((values[..., 0] - values[..., 1:].max(axis=-1)) / 120).clip(0, 1)
    side = [max(1, length // 4) for length in red.shape]
    return resize_area(torch.from_numpy(red)[None], tuple(side))[0].numpy()


find_red.side = 320  # as U2-Net's


def background(height: int, width: int, shift: int = 0) -> np.ndarray:
    """Blue and green waves, uint8 ``[H, W, 3]``."""
    rows, columns = np.mgrid[:height, :width]
    waves = np.stack([0 * rows - 1, np.sin((columns + shift) / 7), np.cos(rows / 9)], axis=-1)
    return (90 + 60 * waves).astype(np.uint8)


def ellipse(height: int, width: int, centre: Sequence[float], radii: Sequence[float]) -> np.ndarray:
    """bool ``[H, W]``."""
    rows, columns = np.mgrid[:height, :width]
    return ((rows - centre[0]) / radii[0]) ** 2 + ((columns - centre[1]) / radii[1]) ** 2 <= 1


def masks_of_a_walk(frames: int, height: int, width: int, step: float = 2.0) -> list[np.ndarray]:
    """An ellipse that walks to the right, shaking by a pixel and breathing."""
    rng = np.random.default_rng(0)
    centres = [(height * 0.5 + rng.normal(), width * 0.3 + step * k + rng.normal()) for k in range(frames)]
    return [ellipse(height, width, c, (height / 5 + 2 * (k % 2), width / 10)) for k, c in enumerate(centres)]


def phone_video(path: Path, masks: Sequence[np.ndarray], fps: Fraction | int = 15) -> Video:
    """Red things before moving waves."""
    with write_video(path, fps, masks[0].shape, crf=12) as video:
        for k, mask in enumerate(masks):
            video.write_pixels(np.where(mask[..., None], RED, background(*mask.shape, 2 * k)).astype(np.uint8))
    return read_video(path)


def alpha_frames(masks: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The same things with alpha and no background, uint8 ``[H, W, 4]``; what is transparent is black."""
    return [np.dstack([np.where(mask[..., None], RED, 0), 255 * mask]).astype(np.uint8) for mask in masks]


def overlap(first: np.ndarray, second: np.ndarray) -> float:
    """Intersection over union."""
    return float((first & second).sum() / (first | second).sum())
