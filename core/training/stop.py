"""Graceful stop: SIGTERM sets a flag that the loop reads between two steps."""

from __future__ import annotations

import signal
from types import FrameType, TracebackType


class StopRequest:
    """Context in which SIGTERM sets ``asked`` instead of ending the process.

    Job systems send SIGTERM some time before SIGKILL; the loop then finishes its step, saves and returns.
    """

    def __init__(self) -> None:
        self.asked = False

    def __enter__(self) -> StopRequest:
        self._before = signal.signal(signal.SIGTERM, self._note)
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        signal.signal(signal.SIGTERM, self._before)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.asked = True
