"""What connects frames: fast weights beside temporal attention, at equal numbers of frames."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import torch
from torch import Tensor, nn

from benchmarks.measure import Call, MachineLimits, Row, compared, in_rounds, peak_memory
from benchmarks.network import SMALL, random_grid
from benchmarks.novel_views import operations
from core.architectures import build_model
from core.lact.temporal import TemporalMemory, remembering
from core.model import FastL4GM
from core.options import PRESETS, ModelOptions

MIXERS = ("lact", "attention")
LONG, CHUNK = 1000, 16  # frames of a long video, and of one call


def temporal(rounds: int, tiny: bool, device: torch.device) -> dict[str, list[Row]]:
    """Ours fast weights, the reference attention: ``nano`` on a CPU, ``big`` on a GPU, both float32.

    The layer is the finest that connects frames, for one view. A long video passes it chunk by chunk.
    """
    on_gpu, rounds = device.type != "cpu", min(rounds, 3)
    options = SMALL if tiny else PRESETS["big" if on_gpu else "nano"].model
    networks = {mixer: _network(replace(options, temporal=mixer), device) for mixer in MIXERS}
    limits = MachineLimits.measured(device, side=128 if tiny else 2048)
    layer_rows, network_rows = [], []
    with torch.inference_mode():
        for frames in (2, 4) if tiny else (4, 16, 64, 256):
            calls = {mixer: _layer_call(network, frames, device) for mixer, network in networks.items()}
            times = in_rounds(calls, rounds if frames < 64 else 1, device)
            bound = operations(calls["lact"]) / limits.float32
            layer_rows.append(compared(f"{frames} frames", times["lact"], times["attention"], None, bound))
        for frames in (2,) if tiny else (4, 16, 64):
            grid = random_grid(options, frames, device)
            calls = {mixer: partial(network.raw_channels, grid) for mixer, network in networks.items()}
            times = in_rounds(calls, 1, device)
            row = compared(f"{frames} frames", times["lact"], times["attention"], None)
            memory = {f"{mixer} MB": peak_memory(call, device) / 1e6 for mixer, call in calls.items()}
            network_rows.append({**row, **memory})
        long = _long_video(networks["lact"], 3 * CHUNK if tiny else LONG, device)
    return {
        "temporal layer, one view": layer_rows,
        "network, one call": network_rows,
        "temporal layer of fast weights, chunk by chunk": long,
    }


def _network(options: ModelOptions, device: torch.device) -> FastL4GM:
    torch.manual_seed(0)
    return build_model(options).eval().requires_grad_(False).to(device, memory_format=torch.channels_last)


def _finest(network: FastL4GM) -> tuple[nn.Module, int, int]:
    """The temporal layer of the finest encoder level that has one, its width, and the side of its features."""
    for number, level in enumerate(network.unet.down_blocks):
        for layer in level.t_attns[-1:]:
            return layer, network.options.down_channels[number], network.options.input_size // 2**number
    raise ValueError("no encoder level connects frames")


def _layer_call(network: FastL4GM, frames: int, device: torch.device) -> Call:
    layer, width, side = _finest(network)
    return partial(layer, torch.randn(frames, width, side, side, device=device), frames, 1)


def _long_video(network: FastL4GM, frames: int, device: torch.device) -> list[Row]:
    """Seconds and peak memory of the first chunk, and of the last after all others."""
    layer, width, side = _finest(network)
    memory: TemporalMemory = {}
    rows = []

    def chunk(features: Tensor) -> None:
        with remembering(layer, memory):
            layer(features, len(features), 1)

    for number in range(-(-frames // CHUNK)):
        call = partial(chunk, torch.randn(CHUNK, width, side, side, device=device))
        if number in (1, frames // CHUNK - 1):
            name = f"frames {number * CHUNK} to {(number + 1) * CHUNK - 1}"
            peak, seconds = peak_memory(call, device) / 1e6, in_rounds({"chunk": call}, 3, device)["chunk"]
            kept = sum(weight.nbytes for weights in memory.values() for weight in weights) / 1e6
            rows.append({"row": name, "s": seconds, "peak MB": peak, "kept MB": kept})
        else:
            call()
    return rows
