"""The log of a run: JSON lines, the same numbers in a tracker, means and timings between log lines."""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import Tensor

from core.data.batch import ClipBatch
from core.errors import UserError
from core.files import parse_table, read_text

LOG_FILE = "log.jsonl"
UNITS = {
    "step": "optimiser steps done",
    "epoch": "passes over the groups",
    "seconds_per_step": "s",
    "samples_per_second": "1/s, all processes",
    "data_wait_fraction": "fraction of the time, main process",
    "memory_mib": "MiB, peak of the main process (its GPU where there is one)",
    "skipped": "optimiser steps since the start",
    "lr": "learning rate",
    "lr_temporal": "learning rate of the temporal attention",
    "psnr": "dB, mean over images",
    "rgb": "mean squared error, colours in [0, 1]",
    "alpha": "mean squared error, opacity in [0, 1]",
    "lpips": "LPIPS distance (VGG16)",
    "hull": "world units",
    "total": "weighted sum of the terms",
}
"""Names in the log, without their prefixes, and what they mean."""


class RunLog:
    """One JSON object a line in ``<workspace>/log.jsonl``, and the same numbers in the tracker; main process only."""

    def __init__(self, accelerator: Accelerator, workspace: Path) -> None:
        """
        Raises:
            UserError: the workspace cannot be made.
        """
        self.accelerator, self.path = accelerator, workspace / LOG_FILE
        try:
            workspace.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"cannot make the workspace {workspace}: {error.strerror}; choose another") from error

    def begin(self, step: int, **values: object) -> None:
        """Record a start, on a new line even after a truncated one."""
        if self.accelerator.is_main_process and self.path.exists() and not self.path.read_bytes().endswith(b"\n"):
            with self.path.open("a") as file:
                file.write("\n")
        now = datetime.now(UTC).isoformat(timespec="seconds")
        self.write("start", step, time=now, **values, units=UNITS)

    def write(self, kind: str, step: int, **values: object) -> None:
        """Append one record; its numbers go to the tracker as ``<kind>/<name>``."""
        if not self.accelerator.is_main_process:
            return
        with self.path.open("a") as file:
            file.write(json.dumps({"kind": kind, "step": step, **values}) + "\n")
        numbers = {f"{kind}/{name}": value for name, value in values.items() if isinstance(value, int | float)}
        self.accelerator.log(numbers, step=step)


def read_log(workspace: Path) -> list[dict]:
    """The records of a run in order, as if it had never been interrupted.

    A run resumed from a saved state repeats the steps since then; the later record counts. Truncated lines of a killed
    run are skipped.

    Raises:
        UserError: there is no log, or a line is not a record.
    """
    path = workspace / LOG_FILE
    if not path.is_file():
        raise UserError(f"{workspace} holds no {LOG_FILE}; give the workspace of a training run")
    records: list[dict] = []
    cut = 0
    for number, line in enumerate(read_text(path, "the log", limit=1 << 32).splitlines(), 1):
        try:
            record = parse_table(line)
        except ValueError:
            cut = cut or number
            continue
        if cut and record["kind"] != "start":
            raise UserError(f"{path}, line {cut} is not a record, and no new start follows it: the file is damaged")
        if record["kind"] == "start":
            records, cut = [old for old in records if old["step"] <= record["step"] or old["kind"] == "start"], 0
        records.append(record)
    return records


class Meter:
    """Means of the loss terms and where the time went, from one log line to the next."""

    def __init__(self) -> None:
        self._clear()

    def _clear(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._batches, self._waited, self._started = 0, 0.0, time.perf_counter()

    def add(self, terms: dict[str, Tensor], finite: bool) -> None:
        """Add one batch; batches without a finite loss are skipped."""
        for name, value in terms.items():
            self._sums[name] = self._sums.get(name, 0.0) + (value.detach() if finite else torch.zeros_like(value))
        self._batches += finite

    def timed(self, loader: Iterable[ClipBatch]) -> Iterator[ClipBatch]:
        """The loader's batches; the time until each arrives counts as waiting for data."""
        clock = time.perf_counter()
        for batch in loader:
            self._waited += time.perf_counter() - clock
            yield batch
            clock = time.perf_counter()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Exclude previews, validation and saving from the time of a step."""
        clock = time.perf_counter()
        yield
        self._started += time.perf_counter() - clock

    def read(self, accelerator: Accelerator, steps: int, samples: int) -> dict[str, float]:
        """The means over all processes since the last call, and the time; a collective call.

        Args:
            steps: optimiser steps since the last call.
            samples: their samples, over all processes.
        """
        elapsed = time.perf_counter() - self._started
        timing = {
            "seconds_per_step": elapsed / steps,
            "samples_per_second": samples / elapsed,
            "data_wait_fraction": self._waited / elapsed,
            "memory_mib": peak_memory(),
        }
        sums = torch.stack([*self._sums.values(), torch.tensor(float(self._batches)).to(accelerator.device)])
        *sums, batches = accelerator.reduce(sums.double(), "sum").tolist()
        means = {name: value / batches for name, value in zip(self._sums, sums, strict=True)} if batches else {}
        self._clear()
        return {**timing, **means}


def peak_memory() -> float:
    """The most memory used so far in MiB: of the accelerator where there is one, else of this process."""
    if torch.accelerator.is_available():
        return torch.accelerator.max_memory_allocated() / 2**20
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10  # bytes there, kilobytes elsewhere
