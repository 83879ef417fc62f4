"""How the benchmarks measure and report: rounds over all candidates, medians, the machine's limits, tables, JSON."""

from __future__ import annotations

import ctypes
import gc
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import torch

from core.files import atomic_path

Call = Callable[[], object]
Row = dict[str, object]


def machine(device: torch.device) -> Row:
    """The hardware and software of a measurement."""
    gpu = {} if device.type == "cpu" else {"gpu": torch.cuda.get_device_name(device)}
    return {
        "cpu": _cpu_name(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        **gpu,
        "load before": [round(load, 1) for load in os.getloadavg()],
        "date": datetime.now(UTC).isoformat(timespec="minutes"),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in ("torch", "numba", "numpy", "pillow")},
    }


def _cpu_name() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.processor())


def timed(call: Call, device: torch.device) -> float:
    """Seconds that ``call`` takes, on the clock of the device that does the work."""
    if device.type == "cpu":
        start = time.perf_counter()
        call()
        return time.perf_counter() - start
    first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize(device)
    first.record()
    call()
    last.record()
    torch.cuda.synchronize(device)
    return first.elapsed_time(last) / 1e3


def in_rounds(candidates: dict[str, Call], rounds: int, device: torch.device, warm_up: bool = True) -> dict[str, float]:
    """Median seconds of each candidate. All run once to warm up, then once in every round, so that a busy machine
    slows all of them alike."""
    times: dict[str, list[float]] = {name: [] for name in candidates}
    for _ in range(rounds + warm_up):
        for name, call in candidates.items():
            times[name].append(timed(call, device))
    return {name: statistics.median(values[warm_up:]) for name, values in times.items()}


@dataclass(frozen=True)
class MachineLimits:
    """Peak rates of the machine, measured together with the rows.

    Attributes:
        float32, half: operations a second of a large matrix product, two for a multiplication and an addition; half is
            bfloat16 on a CPU and float16 on a GPU.
        copy: bytes a second that a large copy reads and writes together.
        product: seconds of one 2048 x 2048 x 2048 float32 product, the unit of the renderer's rows.
    """

    float32: float
    half: float
    copy: float
    product: float

    @staticmethod
    def measured(device: torch.device, rounds: int = 5, side: int = 2048) -> MachineLimits:
        """Measure the rates."""
        half = torch.bfloat16 if device.type == "cpu" else torch.float16
        a, b = torch.randn(2, side, side, device=device)
        low = [a.to(half), b.to(half)]
        source, target = torch.ones(2, 1 << 25 if side >= 2048 else 1 << 20, device=device)
        calls = {"float32": lambda: a @ b, "half": lambda: low[0] @ low[1], "copy": lambda: target.copy_(source)}
        times = in_rounds(calls, rounds, device)
        operations = 2 * side**3
        return MachineLimits(
            operations / times["float32"],
            operations / times["half"],
            2 * source.nbytes / times["copy"],
            times["float32"] * (2048 / side) ** 3,
        )

    def row(self) -> Row:
        """For the table."""
        return {
            "float32 product, Tflop/s": self.float32 / 1e12,
            "half product, Tflop/s": self.half / 1e12,
            "copy, GB/s": self.copy / 1e9,
            "2048^3 float32 product, ms": 1e3 * self.product,
        }


def compared(name: str, ours: float, reference: float, bar: float | None, lower_bound: float | None = None) -> Row:
    """One row: seconds of both, how many times faster, the target, the lower bound and its share of our time."""
    return {
        "row": name,
        "ours s": ours,
        "reference s": reference,
        "times faster": reference / ours,
        "bar": bar or "",
        "lower bound s": lower_bound or "",
        "lower bound / ours": lower_bound / ours if lower_bound else "",
    }


def peak_memory(call: Call, device: torch.device) -> float:
    """Peak memory of ``call`` in bytes, beyond what was allocated before."""
    gc.collect()
    if device.type != "cpu":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        call()
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device) - before
    _give_back_memory()
    try:
        Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    except OSError:
        return float("nan")
    before = _status_bytes("VmRSS")
    call()
    return _status_bytes("VmHWM") - before


def _give_back_memory() -> None:
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        trim(0)


def _status_bytes(field: str) -> int:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(field))
    return 1024 * int(line.split()[1])


def table(rows: list[Row]) -> str:
    """Rows of equal keys as a Markdown table with aligned columns."""
    cells = [list(rows[0]), *([_text(value) for value in row.values()] for row in rows)]
    widths = [max(len(row[k]) for row in cells) for k in range(len(cells[0]))]
    lines = ["| " + " | ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)) + " |" for row in cells]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(lines)


def _text(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return str(value)


def write_json(path: Path, results: dict[str, object]) -> None:
    """Write results to ``path``, atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(results, indent=1) + "\n")
