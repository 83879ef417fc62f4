"""How the benchmarks measure: rounds over all candidates, medians, and one matrix product as the yardstick."""

from __future__ import annotations

import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch


def machine() -> dict[str, object]:
    """What the numbers depend on."""
    return {
        "cpu": _cpu_name(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load before": [round(load, 1) for load in os.getloadavg()],
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


def _cpu_name() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.processor())


def matrix_product() -> Callable[[], object]:
    """The yardstick: one 2048 x 2048 x 2048 float32 product."""
    a, b = torch.randn(2, 2048, 2048)
    return lambda: a @ b


def in_rounds(candidates: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Median seconds of each candidate. All run once to warm up, then once in every round, so that a busy machine
    slows all of them alike."""
    times: dict[str, list[float]] = {name: [] for name in candidates}
    for name in list(candidates) * (rounds + 1):
        start = time.perf_counter()
        candidates[name]()
        times[name].append(time.perf_counter() - start)
    return {name: statistics.median(values[1:]) for name, values in times.items()}


def print_table(title: str, rows: list[dict[str, object]]) -> None:
    """Print rows of equal keys as an aligned table."""
    print(f"\n{title}")
    cells = [list(rows[0])] + [[f"{v:.3g}" if isinstance(v, float) else f"{v}" for v in row.values()] for row in rows]
    widths = [max(len(row[k]) for row in cells) for k in range(len(cells[0]))]
    for row in cells:
        print("  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def write_json(path: Path, results: dict[str, object]) -> None:
    """Write results to ``path``, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(results, indent=1) + "\n")
    partial.replace(path)
    print(f"\nwritten: {path}")
