"""How a run ends: SIGTERM sets a flag that the loop reads between two steps; after an error no loader is left."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType

from core.errors import UserError


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


@contextmanager
def ending_loaders() -> Iterator[None]:
    """Context of a loop over batches: after an error the processes of its loaders are ended.

    Raises:
        UserError: of a loader's process, without the trace that torch puts before its message.
    """
    try:
        yield
    except BaseException as error:
        _end_loader_processes()
        if isinstance(error, UserError):
            raise UserError(error.args[0].strip().rpartition("UserError: ")[2]) from error
        raise


def _end_loader_processes() -> None:
    """At exit Python sends them SIGTERM, which they ignore, and would wait for them for ever."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # else torch reports their end as another error
    for process in multiprocessing.active_children():
        process.kill()
        process.join()
