"""Compare this checkout with another one, in turn: is any row slower?

python -m benchmarks --against ../before [--rows video render_512] [--rounds 5]

Each round runs each row once in either checkout, every time in a new process, so that a busy machine slows both alike.
The first round, which fills the caches of compiled kernels, is not counted. Rows use only what all versions share:
published names and command lines. Printed are medians, the ratio of the medians (below 1: this checkout is faster), and
the smallest and largest ratio of a round, which show the noise of the machine.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from benchmarks.clips import write_clips
from benchmarks.measure import Row
from core.errors import UserError

ROOT = Path(__file__).resolve().parents[1]
Timed = Callable[[Path, Path], float]  # (checkout, empty folder) -> seconds

# In a process of its own at the root of a checkout: one call to warm up, then the median of some more.
_CALLS = """
import statistics, sys, time
import torch
from core.cameras import orbit_cameras
from core.gaussians import Gaussians
from core.model import L4GM
from core.options import PRESETS
from core.rendering import make_renderer
{program}
def seconds():
    start = time.perf_counter()
    call()
    return time.perf_counter() - start
call()
print(statistics.median(seconds() for _ in range({repeats})))
"""
_RENDER = """
torch.manual_seed(0)
means = 0.6 * torch.nn.functional.normalize(torch.randn(1, 1, {num}, 3), dim=-1)
fields = [means, torch.rand(1, 1, {num}), 0.01 * torch.randn(1, 1, {num}, 3).exp(), torch.randn(1, 1, {num}, 4)]
fields = [field.requires_grad_({gradients}) for field in [*fields, torch.rand(1, 1, {num}, 3)]]
cameras = orbit_cameras(torch.arange({views}.0).expand(1, 1, {views}) * 360 / {views}, size=({size}, {size}))
renderer = make_renderer("numba")
def call():
    image = renderer(Gaussians(*fields), cameras).image
    image.sum().backward() if {gradients} else None
"""
_NETWORK = """
from dataclasses import replace
from tempfile import TemporaryDirectory
from core.checkpoint import save_weights
from core.inference.network import Network
torch.manual_seed(0)
options = replace(PRESETS["big"].model, input_size=128, splat_size=64)
with TemporaryDirectory() as folder:
    save_weights(L4GM(options), folder + "/random.safetensors")
    network = Network(folder + "/random.safetensors", options, PRESETS["big"].camera)
images = torch.rand(5, 3, 128, 128)
def call():
    network.reconstruct(images[:2], images[2:])
"""


def calls(program: str, repeats: int, checkout: Path, folder: Path) -> float:
    """Seconds of ``call()`` as the program defines it."""
    done = _run(["-c", _CALLS.format(program=program, repeats=repeats)], checkout)
    return float(done.splitlines()[-1])


def video(checkout: Path, folder: Path) -> float:
    """Seconds of ``infer_4d.py nano`` on a sample video, from start to exit; pictures of 128 pixels."""
    start = time.perf_counter()
    clip = ["--test_path", str(ROOT / "data_test/mech.mp4"), "--output_size", "128"]
    _run(["infer_4d.py", "nano", *clip, "--workspace", str(folder)], checkout)
    return time.perf_counter() - start


def training(checkout: Path, folder: Path) -> float:
    """Seconds of a training step of ``nano`` on one clip of 512 pixels: the median of the last four of five."""
    names = write_clips(folder, count=1, size=512, frames=4)
    (folder / "list.txt").write_text("\n".join(names))
    data = f"--data_home {folder} --datalist {folder}/list.txt --datalist_val {folder}/list.txt --num_workers 0"
    steps = "--batch_size 1 --num_frames 4 --max_steps 5 --log_every 1 --save_every 0 --eval_every 0 --preview_every 0"
    rest = f"--no-eval_lpips --tracker none --workspace {folder}/run"
    _run(["main.py", "nano", *f"{data} {steps} {rest}".split()], checkout)
    records = map(json.loads, (folder / "run" / "log.jsonl").read_text().splitlines())
    return median([record["seconds_per_step"] for record in records if record["kind"] == "train"][1:])


ROWS: dict[str, Timed] = {
    "render_512": partial(calls, _RENDER.format(num=65536, views=1, size=512, gradients=False), 15),
    "render_views": partial(calls, _RENDER.format(num=16384, views=64, size=128, gradients=False), 7),
    "gradients": partial(calls, _RENDER.format(num=16384, views=8, size=128, gradients=True), 9),
    "published_network": partial(calls, _NETWORK, 3),
    "video": video,
    "training": training,
}


def compare(other: Path, rows: Mapping[str, Timed], rounds: int) -> list[Row]:
    """Time rows in this checkout and in ``other``; one table row each.

    Raises:
        UserError: ``other`` is no checkout, or a row fails in one of the two.
    """
    if not (other / "core" / "__init__.py").is_file():
        raise UserError(f"--against {other} is no checkout of this project: it has no core/__init__.py")
    checkouts = {"ours": ROOT, "theirs": other.resolve()}
    seconds: dict[str, list[dict[str, float]]] = {name: [] for name in rows}
    for number in range(rounds + 1):
        for name, timed in rows.items():
            found = {}
            for which in ("ours", "theirs") if number % 2 else ("theirs", "ours"):
                with TemporaryDirectory() as folder:
                    found[which] = timed(checkouts[which], Path(folder))
            seconds[name].append(found)
            print(f"round {number}, {name}: {found['ours']:.3g} s, {found['theirs']:.3g} s", file=sys.stderr)
    return [_row(name, found[1:]) for name, found in seconds.items()]


def _row(name: str, rounds: list[dict[str, float]]) -> Row:
    ours, theirs = (median(found[which] for found in rounds) for which in ("ours", "theirs"))
    ratios = [found["ours"] / found["theirs"] for found in rounds]
    return {
        "row": name,
        "ours s": ours,
        "theirs s": theirs,
        "ours / theirs": ours / theirs,
        "min": min(ratios),
        "max": max(ratios),
    }


def _run(arguments: list[str], checkout: Path) -> str:
    """Run Python at the root of a checkout, so that its ``core`` is imported; returns what it prints."""
    done = subprocess.run([sys.executable, *arguments], cwd=checkout, capture_output=True, text=True, check=False)
    if done.returncode:
        raise UserError(f"a row fails in {checkout}:\n{done.stderr[-2000:]}")
    return done.stdout
