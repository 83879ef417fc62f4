"""One Blender process that renders file after file, watched from outside: a hang or a crash costs that file alone."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

SCRIPT = Path(__file__).resolve().parent / "render_objaverse.py"
REFRESH = 50
"""Files after which Blender is started anew: it keeps some memory of every file."""


def blender_command(blender: str, options: list[str]) -> list[str]:
    """How to start the renderer: a Python with the `bpy` package, or a `blender` program."""
    program = [blender, "-b", "-P", str(SCRIPT), "--"] if "blender" in Path(blender).name else [blender, str(SCRIPT)]
    return [*program, "--obj", "-", *options]


class Worker:
    """Feeds one Blender process.

    Args:
        command: starts a process that reads a file name a line and prints JSON rows, the last of a file with the
            status ``done``.
        time_limit: seconds in which a file must bring forth its next row.
    """

    def __init__(self, command: list[str], time_limit: float) -> None:
        self.command, self.time_limit = command, time_limit
        self._process: subprocess.Popen | None = None
        self._files = 0

    def render(self, path: Path) -> Iterator[dict]:
        """The rows of a file as they come; the last has the status ``done``, ``timeout`` or ``crash``."""
        process = self._start()
        try:
            process.stdin.write(f"{path}\n")
            process.stdin.flush()
            while True:
                row = self._next(process)
                yield row
                if row["status"] in ("done", "timeout", "crash"):
                    break
        except BrokenPipeError:
            row = {"status": "crash", "reason": self._last_words(process)}
            yield row
        if row["status"] != "done":
            self.close()
        self._files += 1
        if self._files >= REFRESH:
            self.close()

    def _start(self) -> subprocess.Popen:
        if self._process is None:
            self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 (closed with the process)
            self._files = 0
            self._process = subprocess.Popen(
                self.command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                text=True,
                start_new_session=True,  # a group of its own, so that all of it can be ended
            )
        return self._process

    def _next(self, process: subprocess.Popen) -> dict:
        """The next row; lines that are none, Blender's own chatter, are passed over."""
        late = threading.Event()

        def end() -> None:
            late.set()
            os.killpg(process.pid, signal.SIGKILL)

        timer = threading.Timer(self.time_limit, end)
        timer.start()
        try:
            for line in process.stdout:
                if line.startswith("{"):
                    return json.loads(line)
        finally:
            timer.cancel()
        process.wait()
        if late.is_set():
            return {"status": "timeout", "reason": f"no progress for {self.time_limit:g} seconds"}
        return {"status": "crash", "reason": self._last_words(process)}

    def _last_words(self, process: subprocess.Popen) -> str:
        code = process.wait()
        how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit status {code}"
        self._errors.seek(0)
        lines = [line.strip() for line in self._errors if line.strip() and not line.startswith("{")]
        return f"Blender ended with {how}" + (f": {lines[-1][:200]}" if lines else "")

    def close(self) -> None:
        """End the process."""
        process, self._process = self._process, None
        if process is not None:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            process.stdin.close()
            process.stdout.close()
            self._errors.close()
