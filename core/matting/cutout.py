"""The object of a clip with a background, cut out with a network that finds it in single pictures.

frame, small ─> network ─> parts, linked over time ─> the object's box ─> crop
frame, cropped ─> network again ─> the object alone ─> neighbours in time ─> edges of the picture ─> colours
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from core.matting.crop import CropPath, box_of, cut
from core.matting.saliency import Finder
from core.matting.track import Tracker

Item = TypeVar("Item")

GRID = 320  # longer side of the maps in which the object is sought, U2-Net's own resolution
_SURE = 0.5  # from here on a place belongs to the object
_MARGIN = 0.04  # of the crop's side: how far beyond the first answer the second may go
_SAME_COLOUR = 0.1  # difference of colour at which a neighbour in time counts 1/e
_EDGE_RADIUS, _EDGE_NOISE = 0.01, 1e-3  # of the guided filter: share of the side, variance of the colours


def locate(frames: Iterable[np.ndarray], find: Finder, scale: float) -> tuple[np.ndarray, Tracker]:
    """Boxes ``[T, 4]`` of the object in source pixels, NaN where it is not seen, and where it is in every frame.

    Args:
        frames: uint8 ``[h, w, 4]``, small; the alpha channel is not looked at.
        find: the network.
        scale: source pixels to one of theirs.
    """
    tracker, count, unit = Tracker(), 0, 1.0
    for frame in frames:
        height, width = frame.shape[:2]
        unit = max(height, width) / GRID
        size = (max(1, round(width / unit)), max(1, round(height / unit)))
        tracker.add(_resized(find(frame[..., :3]), size) > _SURE)
        count += 1
    boxes = [box_of(torch.from_numpy(tracker.mask(index))) for index in range(count)]
    return np.stack(boxes) * unit * scale, tracker


def cutouts(
    frames: Iterable[np.ndarray], find: Finder, path: CropPath, tracker: Tracker, size: int
) -> Iterator[Tensor]:
    """The object in every frame, cropped: ``[4, size, size]``, colours and alpha in [0, 1], premultiplied.

    Args:
        frames: uint8 ``[H, W, 4]``.
        find: the network.
        path: the crop, in pixels of these frames.
        tracker: where the object is, of `locate`.
        size: pixels of the result.
    """
    found = (_found_in_crop(frame, k, find, path, tracker, size) for k, frame in enumerate(frames))
    for before, now, after in _with_neighbours(found):
        alpha = _steadied(before, now, after)
        picture = now[0]
        alpha = _to_edges(picture, alpha)
        colours = _foreground(picture, alpha)
        premultiplied = np.concatenate([colours * alpha[..., None], alpha[..., None]], axis=-1)
        yield torch.from_numpy(premultiplied).permute(2, 0, 1).float().clamp(0, 1)


def _found_in_crop(
    frame: np.ndarray, index: int, find: Finder, path: CropPath, tracker: Tracker, size: int
) -> tuple[np.ndarray, np.ndarray]:
    """The crop's picture, floats ``[S, S, 3]``, and how surely its places are the object, ``[S, S]``."""
    import cv2

    top, left = path.window(index)
    planes = torch.from_numpy(frame).permute(2, 0, 1).float() / 255
    planes[3] = 1
    window = cut(planes, top, left, path.side, size).numpy()
    picture = np.ascontiguousarray(window[:3].transpose(1, 2, 0))
    sure = _resized(find((picture * 255).round().astype(np.uint8)), (size, size))
    mask = tracker.mask(index)
    unit = mask.shape[0] / frame.shape[0]
    first = cut(torch.from_numpy(mask)[None].float(), top * unit, left * unit, path.side * unit, size)[0].numpy()
    if not mask.any():  # not seen in the whole picture: the crop, where it should be, decides
        return picture, sure * window[3]
    reach = 1 + 2 * round(_MARGIN * size)
    near = cv2.blur(cv2.dilate(first, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (reach, reach))), (9, 9))
    return picture, sure * near * window[3]


def _with_neighbours(items: Iterable[Item]) -> Iterator[tuple[Item, Item, Item]]:
    """Each item between the ones before and after; at the ends itself takes the missing one's place."""
    stream = iter(items)
    now = next(stream, None)
    before = now
    while now is not None:
        after = next(stream, None)
        yield before, now, now if after is None else after
        before, now = now, after


def _steadied(*three: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """The middle one's matte, averaged with its neighbours' along the motion, where the colours agree."""
    before, now, after = three
    total, weights = now[1] * 2, np.full_like(now[1], 2)
    for other in (before, after):
        if other is now:
            continue
        picture, matte = _moved(other, now[0])
        agree = np.exp(-((picture - now[0]) ** 2).sum(axis=-1) / _SAME_COLOUR**2)
        total, weights = total + agree * matte, weights + agree
    return total / weights


def _moved(other: tuple[np.ndarray, np.ndarray], picture: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A neighbour's picture and matte, moved to where this picture has them."""
    import cv2

    grey = [cv2.cvtColor((p * 255).astype(np.uint8), cv2.COLOR_RGB2GRAY) for p in (picture, other[0])]
    flow = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_FAST).calc(*grey, None)
    rows, columns = np.mgrid[: flow.shape[0], : flow.shape[1]].astype(np.float32)
    places = (columns + flow[..., 0], rows + flow[..., 1])
    return tuple(cv2.remap(p, *places, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE) for p in other)


def _to_edges(picture: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """The matte drawn to the edges of the picture: He et al., Guided Image Filtering, with grey guidance."""
    import cv2

    guide = picture.mean(axis=-1)
    reach = 1 + 2 * max(1, round(_EDGE_RADIUS * len(alpha)))

    def mean(image: np.ndarray) -> np.ndarray:
        return cv2.blur(image, (reach, reach))

    slope = (mean(guide * alpha) - mean(guide) * mean(alpha)) / (mean(guide**2) - mean(guide) ** 2 + _EDGE_NOISE)
    offset = mean(alpha) - slope * mean(guide)
    return np.clip(mean(slope) * guide + mean(offset), 0, 1).astype(np.float32)


def _foreground(picture: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """The object's own colours, without what shines through at its edges."""
    from pymatting import estimate_foreground_ml

    return estimate_foreground_ml(picture.astype(np.float64), alpha.astype(np.float64)).astype(np.float32)


def _resized(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Floats ``[h, w]`` at (width, height), averaged when made smaller."""
    import cv2

    smaller = size[0] <= image.shape[1] and size[1] <= image.shape[0]
    return cv2.resize(image.astype(np.float32), size, interpolation=cv2.INTER_AREA if smaller else cv2.INTER_LINEAR)
