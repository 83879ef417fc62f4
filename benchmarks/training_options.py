"""What training options cost and bring: step time, memory, validation PSNR after equal steps of a small network.

    python -m benchmarks.training_options --data_home clips/train --datalist clips/train/datalist_8fps.txt \
        --data_home_val clips/val --datalist_val data_train/datalist_val_8fps.txt

Every variant starts from the shipped network without its temporal attention, as the paper starts from LGM, sees the
same samples in the same order, and is validated on the same clips. `--only` runs some of them; results are merged, and
a variant whose result is there is not run again. Step times are processor time: other jobs do not count.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import torch

from benchmarks.measure import Row, machine
from benchmarks.report import table, write_into, write_json
from core.architectures import build_model
from core.checkpoint import load_weights, read_tensors, save_weights
from core.cli import parse_options
from core.options import PRESETS
from core.training.run import Training

ROOT = Path(__file__).resolve().parents[1]
SIZES = "--num_frames 4 --num_views 6 --batch_size 1 --num_workers 0"
SCHEDULE = "--lr 4e-4 --warmup_steps 10 --lambda_lpips 0 --lambda_hull 0.1 --no-eval_lpips --mixed_precision no"
QUIET = "--tracker none --log_every 5 --save_every 0 --eval_every 0 --preview_every 0"
VARIANTS = {
    "baseline": "",
    "baseline, second seed": "--seed 1",
    "EMA 0.9": "--ema_decay 0.9",
    "activation checkpointing": "--activation_checkpointing",
    "temporal layers at 5 times the rate": "--temporal_lr_factor 5",
    "no temporal attention": "--no-use_temp_attn",
    "frozen backbone": "--freeze_backbone",
    "no pretraining": "--resume None",
    "autoregression": "--side_views previous",
    "true side views of every frame": "--side_views every",
}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("data_home", "datalist", "data_home_val", "datalist_val"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--only", nargs="*", default=list(VARIANTS), choices=list(VARIANTS))
    parser.add_argument("--train", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--size", type=int, default=64, help="pixels, a multiple of 16")
    parser.add_argument("--rounds", type=int, default=5, help="0: no step times")
    parser.add_argument("--page", action="store_true", help="write the table into docs/training.md")
    parser.add_argument("--folder", type=Path, default=ROOT / "results" / "training_options")
    arguments = parser.parse_args()
    start = start_without_time(arguments.folder / "start.safetensors")
    data = [word for name in ("data_home", "datalist", "data_home_val", "datalist_val") for word in
            (f"--{name}", str(getattr(arguments, name)))]  # fmt: skip
    data += ["--input_size", str(arguments.size), "--splat_size", str(arguments.size // 2)]
    data += ["--output_size", str(arguments.size)]
    common = ["nano", "--resume", str(start), *SIZES.split(), *SCHEDULE.split(), *QUIET.split(), *data]
    lines = {name: [*common, "--max_steps", str(arguments.steps), *VARIANTS[name].split()] for name in arguments.only}
    found = arguments.folder / "training_options.json"
    rows = json.loads(found.read_text())["rows"] if found.exists() else {}
    for name, line in lines.items() if arguments.train else ():
        if "psnr_novel" in rows.get(name, {}):
            continue
        rows[name] = rows.get(name, {}) | train(line, arguments.folder / name.replace(" ", "_").replace(",", ""))
        write_json(found, results(rows, arguments))
    if arguments.rounds:
        for name, seconds in step_times(lines, arguments.rounds, arguments.folder).items():
            rows.setdefault(name, {})["processor s/step"] = seconds
    write_json(found, results(rows, arguments))
    print(table(*results(rows, arguments)["tables"].values()))
    if arguments.page:
        write_into(ROOT / "docs" / "training.md", found)


def results(rows: dict[str, dict[str, float]], arguments: argparse.Namespace) -> dict[str, object]:
    """What the file holds: the rows by variant, and the table for the documentation."""
    columns = {
        "processor s a step": "processor s/step",
        "peak memory, MiB": "peak MiB",
        "PSNR, novel views": "psnr_novel",
        "frame 0 frozen": "psnr_novel_frozen",
        "input views": "psnr_input",
        "SSIM": "ssim_novel",
    }

    def cell(row: dict[str, float], key: str) -> str:
        digits = {"peak MiB": 0, "ssim_novel": 3}.get(key, 2)
        return f"{row[key]:.{digits}f}" if key in row else ""

    shown: list[Row] = [
        {"option": name, **{title: cell(row, key) for title, key in columns.items()}} for name, row in rows.items()
    ]
    images = next((round(row["images"]) for row in rows.values() if "images" in row), 0)
    size = arguments.size
    title = f"{arguments.steps} steps of nano at {size} pixels, one clip of 4 frames a step, {images} novel images"
    return {"machine": machine(torch.device("cpu")), "rows": rows, "tables": {title: shown}}


def start_without_time(path: Path) -> Path:
    """The shipped network less its temporal attention: what LGM is to L4GM."""
    tensors, _ = read_tensors(ROOT / PRESETS["nano"].run.resume)
    model = build_model(replace(PRESETS["nano"].model, use_temp_attn=False))
    path.parent.mkdir(parents=True, exist_ok=True)
    save_weights({name: tensor.float() for name, tensor in tensors.items() if "t_attns." not in name}, path)
    load_weights(model, path)
    return path


def train(line: list[str], workspace: Path) -> dict[str, float]:
    """One run in a process of its own: peak memory and validation."""
    done = subprocess.run(
        [sys.executable, "main.py", *line, "--workspace", str(workspace)], cwd=ROOT, capture_output=True, text=True,
        check=False, env={**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())},
    )  # fmt: skip
    if done.returncode:
        sys.exit(done.stderr[-2000:])
    records = [json.loads(text) for text in (workspace / "log.jsonl").read_text().splitlines()]
    (validation,) = (record for record in records if record["kind"] == "validation")
    last = [record for record in records if record["kind"] == "train"][-1]
    keys = ("psnr_novel", "psnr_novel_frozen", "psnr_input", "ssim_novel", "images")
    return {"peak MiB": last["memory_mib"], **{key: validation[key] for key in keys}}


def step_times(lines: dict[str, list[str]], rounds: int, folder: Path) -> dict[str, float]:
    """Median processor seconds of a step, all variants in every round; one batch each, the first of the run."""
    runs = {}
    for name, line in lines.items():
        training = Training(parse_options("", [*line, "--workspace", str(folder / "timing" / name.replace(" ", "_"))]))
        runs[name] = training, next(iter(training.loader))
    times: dict[str, list[float]] = {name: [] for name in runs}
    for name in list(runs) * (rounds + 1):
        training, batch = runs[name]
        clock = time.process_time()
        training.step(batch, 0)
        times[name].append(time.process_time() - clock)
    return {name: statistics.median(values[1:]) for name, values in times.items()}


if __name__ == "__main__":
    main()
