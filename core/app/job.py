"""One run in a process of its own, so that it can be stopped at any time and takes its memory along."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from core.errors import UserError
from core.inference.progress import LINES, PREFIX
from core.places import HOME

_PATIENCE = 10.0  # seconds from the request to stop to the end by force
_INTERRUPTED = 130


@dataclass(frozen=True)
class Step:
    """Where a run is.

    Attributes:
        stage: in words.
        share: done, 0 to 1.
    """

    stage: str
    share: float


class Stopped(Exception):
    """The run was stopped by its user."""


class Job:
    """A command of ``l4gm`` that runs.

    Args:
        arguments: of the command, one string each.
        folder: where it runs.
    """

    def __init__(self, arguments: list[str], folder: Path) -> None:
        package = HOME / "l4gm" if (HOME / "l4gm").is_dir() else HOME  # a checkout, or an installed copy
        environment = {**os.environ, "PYTHONPATH": str(package.parent), LINES: "1"}
        self._stopped = False
        self._process = subprocess.Popen(
            [sys.executable, "-m", "l4gm", *arguments],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            start_new_session=True,  # children end with it
        )

    def steps(self) -> Iterator[Step]:
        """The run's progress, until it has ended.

        Raises:
            UserError: it failed; with its own message.
            Stopped: `stop` was called.
        """
        last: deque[str] = deque(maxlen=20)
        for line in self._process.stderr:
            if step := _step(line):
                yield step
            elif line.strip():
                last.append(line.strip())
        status = self._process.wait()
        if self._stopped or status == _INTERRUPTED:
            raise Stopped
        if status:
            said = [line.removeprefix("error: ") for line in last if line.startswith("error: ")]
            raise UserError(said[-1] if said else f"the run ended with status {status}: {last[-1] if last else ''}")

    def stop(self) -> None:
        """End the process and its children; first politely, so that no temporary file is left."""
        self._stopped = True
        self._signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_PATIENCE)
        self._signal(signal.SIGKILL)  # children may outlive their parent
        self._process.wait()

    def _signal(self, number: signal.Signals) -> None:
        """To the whole group, which exists as long as one of its processes."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, number)


def _step(line: str) -> Step | None:
    """The step that a line of the run tells; None for other lines, whole or broken."""
    if not line.startswith(PREFIX):
        return None
    with suppress(ValueError, KeyError, TypeError):
        row = json.loads(line.removeprefix(PREFIX))
        return Step(str(row["stage"]), min(1.0, row["done"] / max(row["total"], 1)))
    return None
