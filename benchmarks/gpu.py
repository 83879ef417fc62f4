"""The rows that need a GPU; tiny sizes on a CPU only check the code.

Not one of them has been run on a GPU yet.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import nn

from benchmarks.measure import MachineLimits, Row, compared, in_rounds, peak_memory
from benchmarks.network import SMALL, network_pair, operations, random_grid
from benchmarks.reference import PlainModel, ViewByView
from benchmarks.render import around, surface
from benchmarks.video import video
from core.architectures import build_model
from core.losses import LossWeights, training_loss
from core.lpips import load_lpips
from core.model import FastL4GM
from core.options import PRESETS, ModelOptions
from core.rendering import Renderer, make_renderer
from core.training.build import make_model


def gpu_forward(rounds: int, tiny: bool, device: torch.device) -> dict[str, list[Row]]:
    """`big`, T = 16, beside the reference with float16 autocast."""
    options, frames = (SMALL, 2) if tiny else (PRESETS["big"].model, 16)
    ours, reference = network_pair(options, device)
    grid = random_grid(options, frames, device)
    limits = MachineLimits.measured(device, side=256 if tiny else 2048)
    with torch.inference_mode():
        calls = {"ours": lambda: ours(grid), "reference": lambda: reference(grid)}
        seconds = in_rounds(calls, rounds, device)
        peaks = {name: peak_memory(call, device) / 1e9 for name, call in calls.items()}
        grid_of = {count: random_grid(options, count, device) for count in (frames // 2, frames)}
        flat = [peak_memory(lambda count=count: ours(grid_of[count]), device) / 1e9 for count in grid_of]
    lower_bound = operations(options, frames) / limits.half
    row = compared(f"big forward, T = {frames}", seconds["ours"], seconds["reference"], 3.0, lower_bound)
    row |= {"peak GB": peaks["ours"], "reference peak GB": peaks["reference"], "peak GB at half T": flat[0]}
    return {"GPU limits": [limits.row()], "GPU, big forward": [row]}


def gpu_render(rounds: int, tiny: bool, device: torch.device) -> dict[str, list[Row]]:
    """64 views of 65,536 Gaussians at 512x512 in one call, beside one call a view."""
    views, num, size = (4, 100, 32) if tiny else (64, 65536, 512)
    renderer = make_renderer("auto", device=device)
    gaussians, cameras = surface(num).to(device), around(views, size).to(device)
    plain = ViewByView(renderer)
    with torch.inference_mode():
        calls = {"ours": lambda: renderer(gaussians, cameras), "reference": lambda: plain(gaussians, cameras)}
        seconds = in_rounds(calls, rounds, device)
    limits = MachineLimits.measured(device, side=256 if tiny else 2048)
    lower_bound = views * size**2 * 5 * 4 / limits.copy  # colour, alpha and depth are written once
    return {"GPU, 64 views": [compared(f"{views} views, {size}x{size}", *seconds.values(), 3.0, lower_bound)]}


def gpu_video(rounds: int, tiny: bool, device: torch.device) -> dict[str, list[Row]]:
    """60 frames with interpolation through `big`, end to end; on an H200 it is to take less than 1.5 s."""
    tables = video(rounds, tiny, device, "big")
    return {f"GPU, {title}": rows for title, rows in tables.items()}


def gpu_training(rounds: int, tiny: bool, device: torch.device) -> dict[str, list[Row]]:
    """A step of `big`, T = 8, 8 views at 512x512: ours with and without activation checkpointing, and the reference."""
    preset = PRESETS["big"]
    if tiny:
        preset = replace(preset, model=SMALL)
    frames, views, size = (2, 2, 32) if tiny else (8, 8, 512)
    grid = random_grid(preset.model, frames, device)
    cameras = around(views, size, frames).to(device)
    target = torch.rand(1, frames, views, 3, size, size, device=device)
    mask = torch.ones(1, frames, views, 1, size, size, device=device)
    half = torch.bfloat16
    perceptual = None if tiny else {True: load_lpips(half), False: load_lpips()}

    def step(model: nn.Module, renderer: Renderer, ours: bool) -> None:
        with torch.autocast(device.type, half):
            gaussians = model(grid)
        render = renderer(gaussians, cameras)
        weights = LossWeights(lpips=0.0 if perceptual is None else 1.0)
        chosen = None if perceptual is None else perceptual[ours]
        training_loss(render.image, render.alpha, target, mask, weights, chosen)["total"].backward()
        optimizer = optimizers[id(model)]
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()

    renderer, rows, seconds = make_renderer("auto", device=device), [], {}
    optimizers: dict[int, torch.optim.Optimizer] = {}
    for name in ("ours", "ours, activation checkpointing", "reference"):
        train = replace(preset.train, activation_checkpointing="checkpointing" in name)
        plain = name == "reference"
        model = PlainModel(_fresh(preset.model)) if plain else make_model(replace(preset, train=train))
        model = model.to(device)
        optimizers[id(model)] = torch.optim.AdamW(model.parameters(), lr=1e-5)
        draw = ViewByView(renderer) if plain else renderer
        call = {name: lambda model=model, draw=draw, plain=plain: step(model, draw, not plain)}
        seconds |= in_rounds(call, rounds, device)
        rows.append({"row": f"big step, {name}", "s": seconds[name], "peak GB": peak_memory(call[name], device) / 1e9})
        optimizers.clear()
        del model, call
    row = compared(f"big step, T = {frames}, {views} views", seconds["ours"], seconds["reference"], 1.5)
    return {"GPU, big training step": [row], "GPU, big training step, memory beyond weights": rows}


def _fresh(options: ModelOptions) -> FastL4GM:
    torch.manual_seed(0)
    return build_model(options)
