"""One supervised Blender process that renders file after file; a hang or crash affects only the current file."""

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
FILES_PER_PROCESS = 50
"""Restart Blender after this number of files: it leaks some memory with every file."""


def blender_command(blender: str, options: list[str]) -> list[str]:
    """Command that starts the renderer in a Python with `bpy`, or in a `blender` program."""
    program = [blender, "-b", "-P", str(SCRIPT), "--"] if "blender" in Path(blender).name else [blender, str(SCRIPT)]
    return [*program, "--obj", "-", *options]


class Worker:
    """Runs one Blender process.

    Args:
        command: starts a process that reads one file name per line and prints JSON rows; the last row of a file has
            the status ``done``.
        time_limit: seconds until the next row of a file.
    """

    def __init__(self, command: list[str], time_limit: float) -> None:
        self.command, self.time_limit = command, time_limit
        self._process: subprocess.Popen | None = None
        self._files = 0

    def render(self, path: Path) -> Iterator[dict]:
        """Yield the rows of a file as they arrive; the last has the status ``done``, ``timeout`` or ``crash``."""
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
            row = {"status": "crash", "reason": self._exit_reason(process)}
            yield row
        if row["status"] != "done":
            self.close()
        self._files += 1
        if self._files >= FILES_PER_PROCESS:
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
                start_new_session=True,  # a process group, so that children end with it
            )
        return self._process

    def _next(self, process: subprocess.Popen) -> dict:
        """The next row; other output of Blender is skipped."""
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
        return {"status": "crash", "reason": self._exit_reason(process)}

    def _exit_reason(self, process: subprocess.Popen) -> str:
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
