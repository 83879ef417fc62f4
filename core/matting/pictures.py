"""Numbered pictures as the frames of a clip."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Protocol

import numpy as np

from core.errors import UserError
from core.images import open_image

_NUMBERED = re.compile(r"(.*?)([0-9]{1,18})")
_FEWEST = 5  # four pictures with numbers are the views of a first frame


class Clip(Protocol):
    """Frames of one size: a `core.media.Video`, or `Pictures`."""

    path: Path
    fps: Fraction
    num_frames: int
    size: tuple[int, int]
    may_have_alpha: bool
    times: tuple[float, ...]

    def pixels(self, indices: Sequence[int] | None = None, size: tuple[int, int] | None = None) -> Iterator[np.ndarray]:
        """Frames at rising indices, uint8 ``[H, W, 4]``, reduced to ``size`` (height, width)."""
        ...


@dataclass(frozen=True)
class Pictures:
    """Picture files as a clip; `read_pictures` makes it.

    Attributes:
        path: their folder.
        files: the pictures in order.
        fps: frames per second.
        size: (height, width) of every picture.
        may_have_alpha: of the first.
    """

    path: Path
    files: tuple[Path, ...]
    fps: Fraction
    size: tuple[int, int]
    may_have_alpha: bool
    times: tuple[float, ...] = ()

    @property
    def num_frames(self) -> int:
        """How many pictures there are."""
        return len(self.files)

    def pixels(self, indices: Sequence[int] | None = None, size: tuple[int, int] | None = None) -> Iterator[np.ndarray]:
        """As `core.media.Video.pixels`. Raises `UserError` where a picture cannot be read or has another size."""
        for index in range(self.num_frames) if indices is None else indices:
            picture = open_image(self.files[index])
            if picture.size[::-1] != self.size:
                raise UserError(
                    f"{self.files[index]} has {picture.width} x {picture.height} pixels and {self.files[0].name} "
                    f"{self.size[1]} x {self.size[0]}; the pictures of one clip need one size"
                )
            picture = picture.convert("RGBA")
            yield np.array(picture.resize(size[::-1], picture.Resampling.BOX) if size else picture)


def read_pictures(files: Sequence[Path], fps: float) -> Pictures:
    """Open numbered pictures as a clip. Raises `UserError` where the first cannot be read."""
    first = open_image(files[0])
    size = (first.height, first.width)
    return Pictures(files[0].parent, tuple(files), Fraction(fps).limit_denominator(1001), size, first.mode == "RGBA")


def numbered_clips(paths: Iterable[Path]) -> list[tuple[str, list[Path]]]:
    """Groups of at least five pictures of a folder whose names differ in a number only: common part, and in order.

    The numbers have one width, at least two digits, or no leading zeros (8, 9, 10). Further pictures are in no group.
    """
    groups: dict[tuple[Path, str], dict[Path, str]] = {}
    for path in paths:
        match = _NUMBERED.fullmatch(path.stem)
        if match:
            groups.setdefault((path.parent, match[1]), {})[path] = match[2]
    return [
        (name.rstrip("_-. "), sorted(clip, key=lambda path, numbers=numbers: int(numbers[path])))
        for (_, name), numbers in groups.items()
        for clip in _of_one_kind(numbers)
        if len(clip) >= _FEWEST
    ]


def _of_one_kind(numbers: Mapping[Path, str]) -> list[list[Path]]:
    """Pictures whose numbers count on from each other: all where none is padded, else those of each width."""
    widths = {len(number) for number in numbers.values()}
    if len(widths) > 1 and not any(number[0] == "0" < number[1:] for number in numbers.values()):
        return [list(numbers)]
    return [[path for path, number in numbers.items() if len(number) == width] for width in sorted(widths) if width > 1]
