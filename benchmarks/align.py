"""The search for the frame's azimuth, before and after: one render a degree, all in one call, coarse to fine.

python -m benchmarks.align            # a minute or two on a CPU

The published search draws 360 single images of 512 pixels and compares them at 256. Each search runs once; on a busy
machine the processor's seconds tell more than the clock's.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.measure import Floors, machine
from benchmarks.report import table, write_json
from core.gaussians import Gaussians
from core.images import resize_area
from core.inference.align import find_pose
from core.inference.network import choose_device
from core.options import CameraOptions
from core.rendering.orbit import OrbitRenderer

ROOT = Path(__file__).resolve().parents[1]
TRUE_AZIMUTH = 33


def main() -> None:
    """Time the searches on one set and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gaussians", type=int, default=65536, help="as many as the preset big makes")
    parser.add_argument("--out", default=str(ROOT / "results" / "bench" / "align.json"))
    args = parser.parse_args()
    device = choose_device()
    orbit = OrbitRenderer(CameraOptions(), 512, device)
    gaussians = _object(args.gaussians).to(device)
    frame = orbit(gaussians, [TRUE_AZIMUTH], size=256)[0, 0]
    searches: dict[str, Callable[[], object]] = {
        "published: 360 calls at 512": lambda: _every_degree(gaussians, frame, orbit, 512, 256, 1),
        "360 calls at 128": lambda: _every_degree(gaussians, frame, orbit, 128, 128, 1),
        "one call of 360 at 128": lambda: _every_degree(gaussians, frame, orbit, 128, 128, 360),
        "coarse to fine": lambda: find_pose(gaussians, frame, orbit).pose.azimuth,
        "and elevation": lambda: find_pose(gaussians, frame, orbit, elevation=True).pose.azimuth,
        "elevation and size": lambda: find_pose(gaussians, frame, orbit, elevation=True, scale=True).pose.azimuth,
    }
    find_pose(gaussians, frame, orbit)  # warm up: kernels are compiled
    product = Floors.measured(device).product
    rows = []
    for name, search in searches.items():
        clock, processor = time.perf_counter(), time.process_time()
        found = search()
        row = {"search": name, "s": time.perf_counter() - clock, "processor s": time.process_time() - processor}
        rows.append({**row, "in products": row["s"] / product, "found": found})
        print(rows[-1], file=sys.stderr)
    title = f"Azimuth of {args.gaussians} Gaussians, true azimuth {TRUE_AZIMUTH}, renderer {orbit.name}"
    print(f"{title}\n\n{table(rows)}")
    write_json(Path(args.out), {"machine": machine(device), "tables": {title: rows}})


def _object(count: int) -> Gaussians:
    """A lumpy coloured ball that looks different from every side."""
    generator = torch.Generator().manual_seed(0)
    points = torch.nn.functional.normalize(torch.randn(count, 3, generator=generator), dim=-1)
    lumps = 0.35 + 0.15 * torch.sin(3 * points[:, :1] + 1) + 0.1 * torch.sin(5 * points[:, 2:] + 2 * points[:, 1:2])
    return Gaussians(
        means=points * lumps,
        opacities=torch.full((count,), 0.9),
        scales=torch.full((count, 3), 0.006),
        quats=torch.tensor([1.0, 0.0, 0.0, 0.0]).repeat(count, 1),
        colors=(points.sin() + 1) / 2,
    )[None]


def _every_degree(
    gaussians: Gaussians, frame: Tensor, orbit: OrbitRenderer, size: int, compared: int, at_once: int
) -> float:
    """The azimuth of the least error among all whole degrees."""
    target = resize_area(frame, (compared, compared))
    errors = []
    for start in range(-180, 180, at_once):
        images = resize_area(orbit(gaussians, range(start, start + at_once), size=size)[0], (compared, compared))
        errors.append(((images - target) ** 2).mean(dim=(1, 2, 3)))
    return float(torch.cat(errors).argmin()) - 180


if __name__ == "__main__":
    main()
