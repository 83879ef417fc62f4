"""A progress bar that names the stage."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event, Thread
from typing import TypeVar

from tqdm import tqdm

Item = TypeVar("Item")
_TICK = 1.0  # seconds between two looks of the clock


class Progress:
    """One bar for a video, on a terminal only. While a stage takes long its clock runs.

    Args:
        name: of the video.
        total: frames to reconstruct and frames to draw.
    """

    def __init__(self, name: str, total: int) -> None:
        self.name, self.current = name, ""
        # Without a rate: stages differ too much for a forecast.
        form = "{l_bar}{bar}| {n_fmt}/{total_fmt} [{elapsed}]"
        self.bar = tqdm(total=total, desc=name, bar_format=form, disable=None)
        self._done = Event()

    def __enter__(self) -> Progress:
        if not self.bar.disable:
            Thread(target=self._tick, daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self._done.set()
        self.bar.close()

    def _tick(self) -> None:
        while not self._done.wait(_TICK):
            self.bar.refresh()

    def advance(self) -> None:
        """One frame is done."""
        self.bar.update()

    def show(self, stage: str) -> None:
        """Name what runs now."""
        self.current = stage
        self.bar.set_description(f"{self.name}, {stage}" if stage else self.name)

    @contextmanager
    def stage(self, stage: str) -> Iterator[None]:
        """Name what runs inside the block; afterwards the stage around it is named again."""
        around = self.current
        self.show(stage)
        try:
            yield
        finally:
            self.show(around)

    def over(self, items: Iterator[Item], stage: str, count: bool = False) -> Iterator[Item]:
        """The items of a stream; while one is waited for, its stage is named. ``count``: each is a step."""
        while True:
            with self.stage(stage):
                try:
                    item = next(items)
                except StopIteration:
                    return
            if count:
                self.advance()
            yield item

    def around(self, call: Callable[[int, Item], None], stage: str) -> Callable[[int, Item], None]:
        """The same call, during which its stage is named."""

        def staged(index: int, item: Item) -> None:
            with self.stage(stage):
                call(index, item)

        return staged
