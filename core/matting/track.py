"""Which of the things that stand out in a clip is its object: the largest that persists."""

from __future__ import annotations

import zlib

import numpy as np

_SMALLEST = 0.001  # share of the picture below which a part is noise
_JOINED = 0.02  # of the longer side: parts nearer than this are one thing
_BESIDE = 0.25  # of the object's area that another thing must have to be worth a word


class Tracker:
    """Links the connected parts of masks from frame to frame, each to the one that it overlaps most.

    Frames are kept compressed: ten thousand take some ten megabytes.
    """

    def __init__(self) -> None:
        self._frames: list[bytes] = []  # of each frame, the thing of every pixel; 0: none
        self._shape = (0, 0)
        self._last = np.zeros((0, 0), np.int32)  # where each thing was when it was last seen
        self._areas: list[list[int]] = [[]]  # of each thing, in the frames that have it

    def add(self, mask: np.ndarray) -> None:
        """Take the next frame's mask, bool ``[h, w]``."""
        import cv2

        self._shape = mask.shape
        if not self._last.size:
            self._last = np.zeros(mask.shape, np.int32)
        reach = 1 + 2 * max(1, round(_JOINED * max(mask.shape) / 2))
        joined = cv2.dilate(mask.astype(np.uint8), np.ones((reach, reach), np.uint8))
        count, parts = cv2.connectedComponents(joined)
        parts[~mask] = 0
        things = np.zeros_like(parts)
        areas = np.bincount(parts.ravel(), minlength=count)
        taken: set[int] = set()
        for part in sorted(range(1, count), key=lambda k: -areas[k]):
            if areas[part] < _SMALLEST * mask.size:
                continue
            where = parts == part
            thing = self._overlapped(where, taken)
            taken.add(thing)
            things[where] = thing
            self._areas[thing].append(int(areas[part]))
        self._last = np.where(things > 0, things, self._last)
        self._frames.append(zlib.compress(things.astype(np.int32).tobytes(), 1))

    def _overlapped(self, where: np.ndarray, taken: set[int]) -> int:
        """The thing that a part overlaps most and that no larger part took; a new one if there is none."""
        overlaps = np.bincount(self._last[where], minlength=1)
        overlaps[[0, *(thing for thing in taken if thing < len(overlaps))]] = 0
        if overlaps.any():
            return int(overlaps.argmax())
        self._areas.append([])
        return len(self._areas) - 1

    @property
    def object(self) -> int:
        """The thing with the largest area over the clip; 0 where nothing stands out."""
        sums = [sum(areas) for areas in self._areas]
        return int(np.argmax(sums))

    @property
    def seen(self) -> int:
        """In how many frames the object is seen."""
        return len(self._areas[self.object])

    def others(self) -> int:
        """How many other things are seen in half of the object's frames or more, and are not small beside it."""
        main = self._areas[self.object]
        lasting = (areas for k, areas in enumerate(self._areas) if k != self.object and 2 * len(areas) >= len(main) > 0)
        return sum(int(np.median(areas) >= _BESIDE * np.median(main)) for areas in lasting)

    def masks(self, index: int) -> np.ndarray:
        """Where the object is in a frame, and where other things are: bool ``[2, h, w]``."""
        things = np.frombuffer(zlib.decompress(self._frames[index]), np.int32).reshape(self._shape)
        main = (things == self.object) & (things > 0)
        return np.stack([main, (things > 0) & ~main])
