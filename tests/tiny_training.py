"""Training runs small enough for tests: five tiny clips, 32 pixels, a network of a few thousand weights."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path

from core.data.clips import TAR_KINDS
from core.options import PRESETS, Options, RunOptions
from core.training.log import read_log
from tests.clip_factory import write_clip

ROOT = Path(__file__).resolve().parents[1]
NETWORK = {
    "input_size": 32,
    "down_channels": (8, 16, 16),
    "down_attention": (False, False, True),
    "up_channels": (16, 16),
    "up_attention": (True, False),
    "splat_size": 16,
    "num_heads": 2,
}
DATA = {"num_frames": 2, "output_size": 32, "num_workers": 0}
TRAIN = {
    "batch_size": 2,
    "max_steps": 6,
    "lambda_lpips": 0.0,
    "mixed_precision": "no",
    "log_every": 1,
    "save_every": 3,
    "eval_every": 0,
    "preview_every": 0,
    "eval_lpips": False,
    "tracker": "none",
}


def write_clips(home: Path) -> Path:
    """Four clips to train on and one to validate, for both stages; ``train.txt`` and ``val.txt`` beside them."""
    names = [f"pack-object{i}-000-00.tar" for i in range(5)]
    for name in names:
        for mode in ("4d", "4d_interp"):
            write_clip(home, name, kinds=TAR_KINDS[mode])
    (home / "train.txt").write_text("\n".join(names[:4]))
    (home / "val.txt").write_text(names[4])
    return home


def options_for(
    clips: Path,
    workspace: Path,
    *,
    data: dict | None = None,
    model: dict | None = None,
    side_views: dict | None = None,
    **train: object,
):
    """Options of such a run; everything may be overridden."""
    nano = PRESETS["nano"]
    run = {"resume": None, "workspace": str(workspace)}
    run |= {field.name: train.pop(field.name) for field in fields(RunOptions) if field.name in train}
    lists = {"datalist": str(clips / "train.txt"), "datalist_val": str(clips / "val.txt"), "data_home": str(clips)}
    return Options(
        model=replace(nano.model, **{**NETWORK, **(model or {})}),
        camera=nano.camera,
        data=replace(nano.data, **{**DATA, **lists, **(data or {})}),
        side_views=replace(nano.side_views, **(side_views or {})),
        train=replace(nano.train, **{**TRAIN, **train}),
        run=replace(nano.run, **run),
    )


def command_line(clips: Path, workspace: Path, **changes: object) -> list[str]:
    """The same run as arguments of main.py."""
    lists = {"datalist": clips / "train.txt", "datalist_val": clips / "val.txt", "data_home": clips}
    words = ["nano"]
    for name, value in {**NETWORK, **DATA, **TRAIN, **lists, "resume": None, "workspace": workspace, **changes}.items():
        if isinstance(value, bool):
            words.append(f"--{name}" if value else f"--no-{name}")
        else:
            words += [f"--{name}", *map(str, value if isinstance(value, tuple) else [value])]
    return words


def start_main(arguments: list[str], *launch: str, script: str = "main.py") -> subprocess.Popen[str]:
    """A script on one thread in a process of its own, or through ``accelerate launch`` with these arguments."""
    launcher = ["-m", "accelerate.commands.launch", *launch] if launch else []
    return subprocess.Popen(
        [sys.executable, *launcher, script, *arguments],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def log_of(workspace: Path, kind: str = "train") -> list[dict]:
    """The records of one kind, as if the run had never been interrupted."""
    return [record for record in read_log(workspace) if record["kind"] == kind]


def losses(workspace: Path) -> dict[int, float]:
    """Step -> loss, to the bit."""
    return {record["step"]: record["total"] for record in log_of(workspace)}
