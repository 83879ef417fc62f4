"""The published network at its full size: time and peak memory of a forward pass beside the plain float32 one."""

from __future__ import annotations

import math
from functools import partial

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.measure import MachineLimits, Row, compared, in_rounds, peak_memory, timed
from benchmarks.reference import PlainModel
from core.architectures import build_model
from core.cameras import input_cameras
from core.data.side_views import side_view_grid
from core.inference.network import choose_dtype
from core.model import FastL4GM
from core.options import PRESETS, ModelOptions
from core.view_grid import ViewGrid

SMALL = ModelOptions(
    input_size=32, down_channels=(32, 64), down_attention=(False, True), up_channels=(64,), up_attention=(True,),
    splat_size=16, num_heads=2,
)  # fmt: skip


def random_grid(options: ModelOptions, frames: int, device: torch.device) -> ViewGrid:
    """One sample of noise with the cameras of inference; views 1 to 3 stay as in frame 0, as a video gives them."""
    size = options.input_size
    generator = torch.Generator().manual_seed(frames)
    images = torch.rand(1, frames, 4, 3, size, size, generator=generator)
    cameras = input_cameras(size=size).expand(1, frames, 4)
    return side_view_grid(images[:, :, 0], images[:, 0, 1:], cameras, "first").to(device)


def network_pair(options: ModelOptions, device: torch.device) -> tuple[FastL4GM, PlainModel]:
    """The same random weights as inference keeps them, and as the reference does: float32, on a GPU float16."""
    torch.manual_seed(0)
    model = build_model(options).requires_grad_(False).eval()
    for name, parameter in model.named_parameters():  # so that every block counts, as in a trained network
        if "weight" in name and parameter.ndim > 1:
            nn.init.kaiming_normal_(parameter, nonlinearity="linear")
    half = torch.float32 if device.type == "cpu" else torch.float16
    ours = build_model(options).requires_grad_(False).eval().to(choose_dtype("auto", device))
    ours.load_state_dict(model.state_dict())
    for last in (ours.unet.norm_out, ours.unet.conv_out, ours.conv):
        last.float()
    ours.to(device, memory_format=torch.channels_last)
    return ours, PlainModel(model.to(device, half), None if device.type == "cpu" else half)


def operations(options: ModelOptions, frames: int) -> int:
    """Of one forward pass: two for a multiplication and an addition; attention's products included."""
    with torch.device("meta"):
        model = PlainModel(build_model(options))
    with FlopCounterMode(display=False) as counter:
        model.raw_channels(random_grid(options, frames, torch.device("meta")))
    return counter.get_total_flops()


def big(rounds: int, tiny: bool, device: torch.device) -> dict[str, list[Row]]:
    """T = 1, 2, 4 beside the reference, T = 16 alone."""
    options = SMALL if tiny else PRESETS["big"].model
    networks = dict(zip(("ours", "reference"), network_pair(options, device), strict=True))
    limits = MachineLimits.measured(device, side=256 if tiny else 2048)
    times, memory = [], []
    weights = {name: sum(p.nbytes for p in network.parameters()) for name, network in networks.items()}
    raw: dict[str, Tensor] = {}

    def run(name: str, grid: ViewGrid, seconds: dict[str, float] | None = None) -> None:
        def call() -> None:
            raw[name] = networks[name].raw_channels(grid)

        if seconds is None:
            call()
        else:
            seconds[name] = timed(call, device)

    with torch.inference_mode():
        for frames, bar in {1: None, 2: 3.5, 4: 3.5}.items():
            grid = random_grid(options, frames, device)
            first: dict[str, float] = {}
            peaks = {name: weights[name] + peak_memory(partial(run, name, grid, first), device) for name in networks}
            calls = {name: partial(run, name, grid) for name in networks}
            more = rounds // (3 * frames)  # a pass of the reference takes minutes: its first one has to do for T = 4
            seconds = in_rounds(calls, more, device, warm_up=False) if more else first
            lower_bound = operations(options, frames) / limits.half
            name = f"big forward, T = {frames}"
            error = (raw["ours"] - raw["reference"]).norm() / raw["reference"].norm()
            times.append(
                compared(name, seconds["ours"], seconds["reference"], bar, lower_bound) | {"error": error.item()}
            )
            memory.append(_memory_row(name, peaks["ours"], peaks["reference"], "half" if frames == 4 else ""))
        del networks["reference"]
        raw.clear()
        frames, seconds = 2 if tiny else 16, 0.0
        grid = random_grid(options, frames, device)

        def alone() -> None:
            nonlocal seconds
            seconds = timed(partial(run, "ours", grid), device)

        peak = weights["ours"] + peak_memory(alone, device)
        lower_bound = operations(options, frames) / limits.half
    row = compared(f"big forward, T = {frames}", seconds, math.nan, None, lower_bound)
    times.append(row | {"reference s": "", "times faster": "", "error": ""})
    memory.append(
        _memory_row(f"big forward, T = {frames}", peak, math.nan, "12 GB") | {"reference GB": "", "share": ""}
    )
    return {"machine limits": [limits.row()], "big forward": times, "big forward, peak memory with weights": memory}


def _memory_row(name: str, ours: float, reference: float, bar: str) -> Row:
    return {"row": name, "ours GB": ours / 1e9, "reference GB": reference / 1e9, "share": ours / reference, "bar": bar}
