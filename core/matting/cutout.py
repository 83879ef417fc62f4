"""The object of a clip with a background, cut out with a network that finds it in single pictures.

frame, small ─> network ─> parts, linked over time ─> the object's box ─> crop
frame, close up ─> network again ─> the object alone ─> neighbours in time ─> colours
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeVar

import numpy as np
import torch
from numpy.lib.stride_tricks import sliding_window_view
from torch import Tensor

from core.matting.crop import CropPath, box_of, cut
from core.matting.saliency import Finder
from core.matting.track import Tracker

Item = TypeVar("Item")

GRID = 320  # longer side of the maps in which the object is sought
_SURE = 0.5  # from here on a place belongs to the object
_FAINT = 0.1  # from here on places are connected
_CLEAN = 0.04  # what is less sure is background altogether, what is surer than 1 less this the object altogether
_NEAR = 2  # frames before and after, whose boxes count for what is looked at closely
_OWN, _OWN_SURE = 2.0, 6.0  # weight of a frame's own matte beside its two neighbours' where unsure; more where sure
_SAME_COLOUR = 0.06  # difference of colour at which a neighbour in time counts 1/e
_CLOSE = 0.7  # share of the square that the network sees the second time, which the object takes
_LEAST = 0.6  # of the clip's longest box: shorter ones are of an object that is seen in part


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
    boxes = [box_of(torch.from_numpy(tracker.masks(index)[0])) for index in range(count)]
    return np.stack(boxes) * unit * scale, tracker


def cutouts(
    frames: Iterable[np.ndarray], find: Finder, path: CropPath, boxes: np.ndarray, tracker: Tracker, size: int
) -> Iterator[Tensor]:
    """The object in every frame, cropped: ``[4, size, size]``, colours and alpha in [0, 1], premultiplied.

    Args:
        frames: uint8 ``[H, W, 4]``.
        find: the network.
        path: the crop, in pixels of these frames.
        boxes: ``[T, 4]`` of the object in these frames.
        tracker: where the object is, of `locate`.
        size: pixels of the result.
    """
    near = close_windows(boxes)
    found = (
        _found_in_crop(frame, tracker.masks(k), find, path.window(k), path.side, near[k], size)
        for k, frame in enumerate(frames)
    )
    for before, now, after in _with_neighbours(found):
        alpha = ((_steadied(before, now, after) - _CLEAN) / (1 - 2 * _CLEAN)).clip(0, 1)
        colours = _foreground(now[0], alpha)
        premultiplied = np.concatenate([colours * alpha[..., None], alpha[..., None]], axis=-1)
        yield torch.from_numpy(premultiplied).permute(2, 0, 1).float().clamp(0, 1)


def close_windows(boxes: np.ndarray) -> np.ndarray:
    """Top, left and side ``[T, 3]`` of squares close around boxes ``[T, 4]``, where the network sees most.

    Around the boxes of a few frames before and after too, for in one the object may be seen in part only. A box that is
    much smaller than the clip's largest gets a larger square.
    """
    seen, times = ~np.isnan(boxes[:, 0]), np.arange(len(boxes))
    single = np.stack([np.interp(times, times[seen], boxes[seen, k]) for k in range(4)], axis=1)
    around = sliding_window_view(np.pad(single, ((_NEAR, _NEAR), (0, 0)), mode="edge"), 2 * _NEAR + 1, axis=0)
    values = np.concatenate([around[:, :2].min(axis=-1), around[:, 2:].max(axis=-1)], axis=1)
    longest = (values[:, 2:] - values[:, :2]).max(axis=1)
    sides = np.maximum(longest, _LEAST * longest.max()) / _CLOSE
    return np.column_stack([(values[:, :2] + values[:, 2:]) / 2 - sides[:, None] / 2, sides])


def _found_in_crop(
    frame: np.ndarray,
    masks: np.ndarray,
    find: Finder,
    corner: tuple[float, float],
    side: float,
    near: np.ndarray,
    size: int,
) -> tuple[np.ndarray, np.ndarray]:
    """The crop's picture, floats ``[S, S, 3]``, and how surely its places are the object, ``[S, S]``."""
    planes = torch.from_numpy(frame[..., :3]).permute(2, 0, 1).float() / 255
    top, left, close = near.tolist()
    seen = cut(planes, top, left, close, find.side).permute(1, 2, 0)
    fine = max(find.side, round(size * close / side))
    sure = torch.from_numpy(_resized(find((seen * 255).round().byte().numpy()), (fine, fine)))
    unit = fine / close
    sure = cut(sure[None], (corner[0] - top) * unit, (corner[1] - left) * unit, side * unit, size)[0].numpy()
    picture = cut(planes, *corner, side, size).permute(1, 2, 0).contiguous().numpy()
    unit = masks.shape[1] / frame.shape[0]
    things = cut(torch.from_numpy(masks).float(), corner[0] * unit, corner[1] * unit, side * unit, size).numpy()
    return picture, _connected(sure, things)


def _connected(sure: np.ndarray, things: np.ndarray) -> np.ndarray:
    """What a map ``[S, S]`` has of the object: the parts that are connected with where it was found, no other thing.

    Args:
        sure: how surely each place is part of some object.
        things: ``[2, S, S]``, where the object and where other things were found in the whole frame. Where the object
            was not, all of the map counts.
    """
    import cv2

    others = cv2.dilate((things[1] > things[0]).astype(np.uint8), np.ones((5, 5), np.uint8))
    sure = sure * (1 - others * (things[0] < 0.5))
    if not (things[0] > 0.5).any():
        return sure
    _, parts = cv2.connectedComponents((sure > _FAINT).astype(np.uint8))
    kept = np.unique(parts[(things[0] > 0.5) & (parts > 0)])
    return sure * cv2.blur(np.isin(parts, kept).astype(np.float32), (3, 3))


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
    weights = _OWN + _OWN_SURE * (2 * now[1] - 1) ** 2
    total = weights * now[1]
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


def _foreground(picture: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """The object's own colours, without what shines through at its edges."""
    from pymatting import estimate_foreground_ml

    return estimate_foreground_ml(picture.astype(np.float64), alpha.astype(np.float64)).astype(np.float32)


def _resized(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Floats ``[h, w]`` at (width, height), averaged when made smaller."""
    import cv2

    smaller = size[0] <= image.shape[1] and size[1] <= image.shape[0]
    return cv2.resize(image.astype(np.float32), size, interpolation=cv2.INTER_AREA if smaller else cv2.INTER_LINEAR)
