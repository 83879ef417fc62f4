"""Time every row and its plain reference, print the tables, write the JSON.

python -m benchmarks                      # all rows of the CPU; about a quarter of an hour on two free cores
python -m benchmarks --rows clips render  # some of them
python -m benchmarks --gpu                # all rows of the GPU
python -m benchmarks --against ../before  # this checkout beside another one; see benchmarks/against.py
"""

from __future__ import annotations

import argparse
import logging
import time
from collections.abc import Callable
from pathlib import Path

import torch

from benchmarks import against
from benchmarks.clips import clips
from benchmarks.gpu import gpu_forward, gpu_render, gpu_training, gpu_video
from benchmarks.measure import Row, machine, table, write_json
from benchmarks.network import big
from benchmarks.novel_views import novel_views
from benchmarks.render import render
from benchmarks.temporal import temporal
from benchmarks.training import training
from benchmarks.video import video
from core.cli import run
from core.devices import choose_device
from core.errors import UserError

Rows = Callable[[int, bool, torch.device], dict[str, list[Row]]]
CPU: dict[str, Rows] = {
    "clips": clips,
    "render": render,
    "training": training,
    "video": video,
    "big": big,
    "novel_views": novel_views,
    "temporal": temporal,
}
GPU: dict[str, Rows] = {
    "forward": gpu_forward,
    "views": gpu_render,
    "video": gpu_video,
    "training": gpu_training,
    "novel_views": novel_views,
    "temporal": temporal,
}


def measure(rows: dict[str, Rows], rounds: int, tiny: bool, device: torch.device, output: Path) -> dict[str, object]:
    """Run the rows; each is printed and written when it is finished. Returns the content of the file."""
    results: dict[str, object] = {"machine": machine(device), "rounds": rounds, "tiny": tiny, "tables": {}}
    start = time.perf_counter()
    for measured in rows.values():
        tables = measured(rounds, tiny, device)
        for title, content in tables.items():
            print(f"\n{title}\n\n{table(content)}", flush=True)
        results["tables"] |= tables
        results["seconds"] = time.perf_counter() - start
        write_json(output, results)
    print(f"\nwritten: {output}")
    return results


def main() -> None:
    """Parse, measure, report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gpu", action="store_true", help="the rows of the GPU instead of those of the CPU")
    parser.add_argument("--rows", nargs="+", default=[], help="which rows; all without it")
    parser.add_argument("--rounds", type=int, default=9, help="repetitions, fewer for slow rows; medians are reported")
    parser.add_argument("--tiny", action="store_true", help="sizes that check the code and say nothing about speed")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--output", type=Path, help="the JSON file; results/bench/cpu.json or gpu.json without it")
    parser.add_argument("--against", type=Path, metavar="FOLDER", help="time another checkout in turn with this one")
    args = parser.parse_args()
    table_of = against.ROWS if args.against else GPU if args.gpu else CPU
    device = choose_device() if args.gpu else torch.device("cpu")
    unknown = [name for name in args.rows if name not in table_of]
    if unknown:
        raise UserError(f"there is no row {unknown[0]}: choose from {', '.join(table_of)}")
    chosen = {name: rows for name, rows in table_of.items() if not args.rows or name in args.rows}
    if args.against:
        print(table(against.compare(args.against, chosen, args.rounds)))
        return
    if args.gpu and device.type == "cpu" and not args.tiny:
        raise UserError("the rows of the GPU need a GPU; --tiny checks their code without one")
    logging.getLogger().setLevel(logging.WARNING)
    torch.set_num_threads(args.threads)
    output = args.output or Path("results/bench") / ("gpu.json" if args.gpu else "cpu.json")
    measure(chosen, args.rounds, args.tiny, device, output)


if __name__ == "__main__":
    run(main)
