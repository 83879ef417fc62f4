"""A progress bar that names the stage; or lines of JSON, for a program that reads them."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from threading import Event, Lock, Thread
from typing import TypeVar

from torch import nn
from tqdm import tqdm

Item = TypeVar("Item")
LINES = "L4GM_PROGRESS"
"""With this environment variable each change is a line on stderr, `PREFIX` and JSON, instead of a bar."""
PREFIX = "progress: "
_TICK = 1.0  # seconds between updates of the clock


class Progress:
    """One bar per video, on terminals only. Its clock runs during long stages.

    Args:
        name: of the video.
        total: steps of the bar: one for a frame that is drawn, and those given to `over_calls`.
    """

    def __init__(self, name: str, total: int) -> None:
        self.name, self.current, self._total = name, "", total
        # Without a rate: stages differ too much for an estimate.
        form = "{l_bar}{bar}| [{elapsed}]"
        self._lock = Lock()
        self._lines, self._count = bool(os.environ.get(LINES)), 0.0
        self.bar = tqdm(total=total, desc=name, bar_format=form, disable=True if self._lines else None)
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

    def advance(self, steps: float = 1) -> None:
        """Advance the bar; from any thread."""
        with self._lock:
            self.bar.update(min(steps, self.bar.total - self.bar.n))
            self._count += steps
            self._tell()

    def _tell(self) -> None:
        if self._lines:
            row = {"stage": self.current, "done": self._count, "total": self._total}
            sys.stderr.write(f"{PREFIX}{json.dumps(row)}\n")  # in one piece: several threads may write
            sys.stderr.flush()

    @contextmanager
    def over_calls(self, modules: Iterable[nn.Module], calls: int, steps: float) -> Iterator[None]:
        """In this context every call of a module advances the bar; ``calls`` calls advance it by ``steps``."""
        hook = lambda *_: self.advance(steps / calls)  # noqa: E731
        silent = self.bar.disable and not self._lines
        handles = [] if silent else [module.register_forward_hook(hook) for module in modules]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def show(self, stage: str) -> None:
        """Show the current stage."""
        self.current = stage
        self.bar.set_description(f"{self.name}, {stage}" if stage else self.name)
        if stage:
            self._tell()

    @contextmanager
    def stage(self, stage: str) -> Iterator[None]:
        """Show a stage inside the block; afterwards the enclosing stage."""
        around = self.current
        self.show(stage)
        try:
            yield
        finally:
            self.show(around)

    def over(self, items: Iterator[Item], stage: str) -> Iterator[Item]:
        """The items of a stream; the stage is shown while the next item is computed."""
        while True:
            with self.stage(stage):
                try:
                    item = next(items)
                except StopIteration:
                    return
            yield item

    def around(self, call: Callable[[int, Item], None], stage: str) -> Callable[[int, Item], None]:
        """The same call, during which its stage is shown."""

        def staged(index: int, item: Item) -> None:
            with self.stage(stage):
                call(index, item)

        return staged
