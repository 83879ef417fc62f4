"""From a clip as it comes to a clip as the networks want it: which frames, which matte, which crop."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from core.errors import UserError
from core.images import on_white
from core.matting.crop import CropPath, box_of, crop_path, cut, is_framed, touches
from core.matting.cutout import GRID, cutouts, locate
from core.matting.pictures import Clip
from core.matting.saliency import Finder, load_finder
from core.matting.track import Tracker
from core.media import Video, read_video, select_frames, write_video
from core.multiview.background import foreground, is_white
from core.options.input import InputOptions

Item = TypeVar("Item")
Shown = Callable[[Iterable[Any], int, str], Iterable[Any]]
Kind = Literal["none", "alpha", "white", "rembg"]

LARGEST = 512  # pixels a side of a crop; the networks take 256 or less
_SMALLEST = 64
_TRANSPARENT, _OPAQUE = 100, 0.5  # levels below which a pixel is transparent; alpha above which it is the object's
_SEEN = 0.3  # share of the frames in which an object must be seen

_log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Prepared:
    """A clip for the networks.

    Attributes:
        video: the file that holds the frames: the original one, or one that was written.
        indices: of the frames that are used.
        rate: of these, per second.
        matte: what told the object from the background; none: the frames stayed as they are.
        path: where it was cropped, in pixels of the original, one place for each frame of ``video``; None: nowhere.
        sources: which frame of the original each frame of ``video`` is; empty where it is the original.
    """

    video: Video
    indices: range
    rate: Fraction
    matte: Kind
    path: CropPath | None = None
    sources: Sequence[int] = ()


def prepare(
    clip: Clip,
    options: InputOptions,
    target: Path,
    *,
    every: bool = False,
    always: bool = False,
    find: Finder | None = None,
    progress: Shown | None = None,
) -> Prepared:
    """Choose the frames of a clip, cut its object out and crop it.

    A video that needs none of it is not touched: no file is written, and its frames come from itself.

    Args:
        clip: a video (`core.media.read_video`) or pictures (`core.matting.pictures.read_pictures`).
        options: which matte and which frames.
        target: the file to write: .mov keeps the alpha channel, .mp4 is on white.
        every: keep all frames in the used part of the clip, also those that a lower rate passes over.
        always: write a file in any case.
        find: finds the object in a picture; None: ``options.matte_model``.
        progress: takes a stream, its length and what it is for, and gives its items; None: a bar on a terminal.

    Raises:
        UserError: no frame lies in the chosen time, the matte that is asked for is not there, no object is found, rembg
            or its model is missing, a file cannot be read or written.
    """
    shown = progress or _bar
    used, step, rate = chosen_frames(clip, options)
    kind = choose_matte(clip, options)
    find = find or (_finder(clip, options.matte_model) if kind == "rembg" else None)
    all_used = used if step == 1 or not every else range(used[0], used[-1] + 1)
    stride = step if all_used is not used else 1
    boxes, tracker = _boxes(clip, all_used, kind, find, shown)
    framed = options.matte == "auto" and kind == "alpha" and is_framed(boxes, clip.size)
    plain = kind == "none" or framed
    if plain and isinstance(clip, Video) and not clip.times and not always:
        return Prepared(clip, used, rate, "none")
    path = None if plain else crop_path(boxes, float(rate * stride))
    frames = _whole(clip, all_used) if path is None else _cropped(clip, all_used, kind, path, boxes, find, tracker)
    _write(shown(frames, len(all_used), f"{clip.path.name}: cropping"), target, rate * stride)
    video = read_video(target)
    return Prepared(video, range(0, video.num_frames, stride), rate, "none" if plain else kind, path, all_used)


def chosen_frames(clip: Clip, options: InputOptions) -> tuple[Sequence[int], int, Fraction]:
    """Indices of the frames that are used, their distance (1 where it is uneven), and their rate per second.

    Where the clip's times are uneven, these are the frames shown at even times; one may come more than once.

    Raises:
        UserError: none lies in the chosen time.
    """
    first = math.ceil(options.start * clip.fps - 1e-6)
    count = clip.num_frames if options.duration is None else max(1, math.ceil(options.duration * clip.fps - 1e-6))
    if first >= clip.num_frames:
        raise UserError(
            f"--start {options.start:g} lies behind the end of {clip.path}, which has "
            f"{float(clip.num_frames / clip.fps):.2f} seconds; choose an earlier one"
        )
    last = min(clip.num_frames, first + count)
    picked, rate = select_frames(last - first, clip.fps, options.fps)
    if not clip.times:
        return range(first, last, picked.step), picked.step, rate
    times = (np.arange(first, last) / float(clip.fps))[:: picked.step]
    shown = np.searchsorted(np.asarray(clip.times), times + 1e-6, side="right") - 1
    return shown.clip(0).tolist(), 1, rate


def choose_matte(clip: Clip, options: InputOptions) -> Kind:
    """What tells the object from the background; none: everything stays as it is. Looks at the first used frame.

    Raises:
        UserError: the alpha channel is asked for and there is none; no frame lies in the chosen time.
    """
    first = chosen_frames(clip, options)[0][:1]
    if options.allow_background or options.matte == "none":
        return "none"
    frame = next(iter(clip.pixels(first)))
    has_alpha = clip.may_have_alpha and bool((frame[..., 3] < _TRANSPARENT).any())
    if options.matte == "alpha" and not has_alpha:
        raise UserError(f"--matte alpha: nothing in {clip.path} is transparent; try --matte auto")
    if options.matte != "auto":
        return options.matte
    return "alpha" if has_alpha else "none" if is_white(on_white(frame)) else "rembg"


def _boxes(
    clip: Clip, used: Sequence[int], kind: Kind, find: Finder | None, shown: Shown
) -> tuple[np.ndarray, Tracker | None]:
    """Where the object is in every frame, ``[T, 4]`` source pixels, and for rembg its tracker."""
    if kind == "none":
        return np.full((len(used), 4), np.nan), None
    what = f"{clip.path.name}: finding the object"
    if kind != "rembg":
        alphas = (_planes(frame, kind, clip.path)[3] for frame in clip.pixels(used))
        boxes = np.stack([box_of(alpha, _OPAQUE) for alpha in shown(alphas, len(used), what)])
        _check(clip, boxes, 0)
        return boxes, None
    factor = min(1.0, 2 * GRID / max(clip.size))
    small = _reduced(clip.size, factor)
    frames = shown(clip.pixels(used, small), len(used), what)
    boxes, tracker = locate(frames, find, clip.size[0] / (small or clip.size)[0])
    _check(clip, boxes, tracker.others())
    return boxes, tracker


def _check(clip: Clip, boxes: np.ndarray, others: int) -> None:
    seen = int((~np.isnan(boxes[:, 0])).sum())
    if seen <= _SEEN * len(boxes):
        raise UserError(
            f"no object is found in {clip.path}: something stands out from the background in {seen} of {len(boxes)} "
            f"frames; choose another part with --start and --duration, or cut it out yourself and save it with alpha"
        )
    if others:
        _log.warning("%s: %d more objects beside the largest one are left out", clip.path.name, others)
    cut_off = touches(boxes[~np.isnan(boxes[:, 0])], clip.size)
    if cut_off:
        _log.warning(
            "%s: the object reaches the edge of the picture in %d of %d frames; what lies outside is missing",
            clip.path.name, cut_off, len(boxes),
        )  # fmt: skip


def _cropped(
    clip: Clip,
    used: Sequence[int],
    kind: Kind,
    path: CropPath,
    boxes: np.ndarray,
    find: Finder | None,
    tracker: Tracker | None,
) -> Iterator[Tensor]:
    """The object in every frame, ``[4, S, S]``, colours premultiplied."""
    size = 2 * round(min(LARGEST, max(_SMALLEST, path.side)) / 2)
    if kind != "rembg":
        for k, frame in enumerate(clip.pixels(used)):
            yield cut(_planes(frame, kind, clip.path), *path.window(k), path.side, size)
        return
    small = _reduced(clip.size, min(1.0, 2 * size / path.side))
    factor = (small or clip.size)[0] / clip.size[0]
    yield from cutouts(clip.pixels(used, small), find, path.scaled(factor), boxes * factor, tracker, size)


def _planes(frame: np.ndarray, kind: Kind, path: Path) -> Tensor:
    """uint8 RGBA ``[H, W, 4]`` -> ``[4, H, W]``, premultiplied; of a picture on white the object's alpha is one."""
    if kind == "white":
        picture = on_white(frame)
        mask = foreground(picture, f"a frame of {path}", may_be_empty=True)[None].float()
        return torch.cat([picture * mask, mask])
    planes = torch.from_numpy(frame).permute(2, 0, 1).float() / 255
    return torch.cat([planes[:3] * planes[3:], planes[3:]])


def _whole(clip: Clip, used: Sequence[int]) -> Iterator[Tensor]:
    return (_planes(frame, "alpha", clip.path) for frame in clip.pixels(used))


def _write(frames: Iterable[Tensor], target: Path, rate: Fraction) -> None:
    """Write premultiplied ``[4, H, W]``, with alpha or on white as the file's suffix says."""
    stream = iter(frames)
    first = next(stream)
    alpha = target.suffix == ".mov"
    with write_video(target, rate, tuple(first.shape[-2:]), crf=12, alpha=alpha) as video:
        for planes in chain([first], stream):
            video.write_pixels(_straight(planes) if alpha else _levels(planes[:3] + 1 - planes[3:]))


def _straight(planes: Tensor) -> np.ndarray:
    """uint8 ``[H, W, 4]`` with straight alpha; what is transparent is white."""
    color, alpha = planes[:3], planes[3:]
    straight = torch.where(alpha > 0.5 / 255, color / alpha.clamp_min(1e-6), 1.0)
    return _levels(torch.cat([straight, alpha]))


def _levels(planes: Tensor) -> np.ndarray:
    return (planes.clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).contiguous().numpy()


def _reduced(size: tuple[int, int], factor: float) -> tuple[int, int] | None:
    """(height, width) times the factor; None where that is not smaller."""
    return None if factor >= 1 else (max(1, round(size[0] * factor)), max(1, round(size[1] * factor)))


def _bar(items: Iterable[Item], count: int, what: str) -> Iterable[Item]:
    return tqdm(items, desc=what, total=count, disable=None, leave=False)


def _finder(clip: Clip, name: str) -> Finder:
    try:
        return load_finder(name)
    except UserError as error:
        raise UserError(f"{clip.path} has a background, and {error}") from error
