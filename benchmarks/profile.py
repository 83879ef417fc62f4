"""Where the time of the three slowest rows goes, in ours and in the reference: processor seconds of one thread by kind.

python -m benchmarks.profile                  # prints the tables; some minutes, most of them for the reference
python -m benchmarks.profile --rows training  # some of them: video training big

One thread's processor time depends little on what else a machine does; threads are measured by the rows themselves.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest.mock import patch

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks.measure import Row
from benchmarks.network import SMALL, network_pair, random_grid
from benchmarks.reference import PlainSession
from benchmarks.report import table
from benchmarks.training import steps_of
from benchmarks.video import options_of, run
from core.cpu import jit
from core.cpu.memory import keep_freed_memory
from core.inference.session import Session
from core.options import PRESETS

KINDS = {
    "convolutions": ("conv",),
    "softmax": ("softmax", "gradient_rows"),
    "matrix products": ("mm", "linear", "matmul", "einsum"),
    "normalisation and SiLU": ("norm", "silu", "channel_sums", "scale_shift", "gradient_sums", "gradient_of_input"),
    "hull and neighbours": ("_enter", "_compare"),
    "LPIPS distances": ("feature_",),
    "rasteriser": ("project", "rasterize", "count", "fill", "sort_"),
    "copies": ("copy", "clone", "cat", "stack", "contiguous", "reshape", "flatten", "to.", "index", "upsample", "pool"),
}
_KERNEL = "kernel "


class ByKind(TorchDispatchMode):
    """Processor seconds of this thread inside the operations of torch and our kernels, by kind."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds: Counter[str] = Counter()

    def __torch_dispatch__(
        self, func: Callable, types: object, args: tuple = (), kwargs: dict[str, object] | None = None
    ) -> object:
        return self.timed(str(func).removeprefix("aten."), func, *args, **(kwargs or {}))

    def kernel(self, function: Callable, units: int, *args: object) -> None:
        """As `core.cpu.jit.run_parallel`."""
        self.timed(_KERNEL + function.__name__, jit.run_parallel, function, units, *args)

    def timed(self, name: str, function: Callable, *args: object, **kwargs: object) -> object:
        """Call the function on the clock."""
        start = time.thread_time()
        result = function(*args, **kwargs)
        self.seconds[kind_of(name)] += time.thread_time() - start
        return result


def kind_of(name: str) -> str:
    """The kind of an operation."""
    own = name.removeprefix(_KERNEL)
    found = next((kind for kind, parts in KINDS.items() if any(part in own for part in parts)), None)
    return found or ("rasteriser" if name.startswith(_KERNEL) else "other operations")


def by_kind(call: Callable[[], object]) -> dict[str, float]:
    """Processor seconds of a second call by kind; between operations (Python, files, freeing); and all."""
    call()
    with ExitStack() as stack:
        mode = stack.enter_context(ByKind())
        for module in (
            "model.attention",
            "lpips",
            "cpu.group_norm",
            "rendering.numba_backend",
            "nano.visual_hull_kernels",
            "nano.cost_volume_kernels",
        ):
            stack.enter_context(patch(f"core.{module}.run_parallel", mode.kernel))
        start = time.thread_time()
        call()
        total = time.thread_time() - start
    inside = {kind: mode.seconds[kind] for kind in (*KINDS, "other operations")}
    return inside | {"between operations": total - sum(inside.values()), "all": total}


def profiles(name: str, calls: dict[str, Callable[[], object]]) -> list[Row]:
    """One row for each kind, a column for each of the candidates."""
    found = {candidate: by_kind(call) for candidate, call in calls.items()}
    kinds = next(iter(found.values()))
    return [{name: kind, **{f"{c}, s": seconds[kind] for c, seconds in found.items()}} for kind in kinds]


def video(tiny: bool) -> list[Row]:
    """One chunk of 16 frames and its 15 pairs, to files."""
    with TemporaryDirectory() as folder:
        options = options_of("nano", Path(folder), 3 if tiny else 16, tiny)
        ours, plain = Session(options), PlainSession(options)
        return profiles("nano, 16 frames to .ply and mp4", {"reference": lambda: run(plain), "ours": lambda: run(ours)})


def training(tiny: bool) -> list[Row]:
    """A step of `nano`."""
    with TemporaryDirectory() as folder:
        steps = steps_of(tiny, Path(folder))
        return profiles("nano training step, T = 4", {name: steps[name] for name in ("reference", "ours")})


@torch.inference_mode()
def big(tiny: bool) -> list[Row]:
    """A forward pass of `big` for one frame."""
    options, device = SMALL if tiny else PRESETS["big"].model, torch.device("cpu")
    ours, plain = network_pair(options, device)
    grid = random_grid(options, 1, device)
    calls = {"reference": lambda: plain.raw_channels(grid), "ours": lambda: ours.raw_channels(grid)}
    return profiles("big forward, T = 1", calls)


ROWS: dict[str, Callable[[bool], list[Row]]] = {"video": video, "training": training, "big": big}


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS), help="which rows; all without it")
    parser.add_argument("--tiny", action="store_true", help="sizes that check the code and say nothing about speed")
    args = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()
    for name in args.rows:
        print(table(ROWS[name](args.tiny)), end="\n\n", flush=True)


if __name__ == "__main__":
    main()
