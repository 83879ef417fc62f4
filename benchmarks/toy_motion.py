"""Can `nano` learn motion that is out of sight? A toy whose hidden part moves by a fixed function of a visible one.

python -m benchmarks.toy_motion                                        # both networks
python -m benchmarks.toy_motion --carriers code --steps 100 --blur 10  # 1.1 processor seconds a step

A hand on the body's front turns by an angle, which the front camera sees. Behind the body, hidden from that camera, a
tail is raised by the same angle. Shapes and colours are random, and so is the angle at every time step: the tail cannot
be guessed without the hand. The network sees the front at every time and the side views of the first frame. It starts
from the shipped weights; its last decoder level and its outputs learn, and what is to carry the motion to the sides.

Reported, of objects that it never saw, for the views 90, 180 and 270 degrees from the front after the first frame and
for a random one: PSNR, and that of the network's own Gaussians of the first frame (`frozen`). Bar: 3 dB above frozen.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from torch import Generator, Tensor, nn

from benchmarks.measure import Row, machine, write_json
from core.cameras import concatenate, input_cameras, orbit_cameras
from core.checkpoint import load_weights
from core.cli import run
from core.data.batch import ClipBatch
from core.data.side_views import side_view_grid
from core.gaussians import Gaussians
from core.losses import psnr
from core.options import PRESETS, Options
from core.places import find
from core.rendering import Renderer, configured_renderer
from core.training.build import make_model, make_optimizer, make_schedule, parameter_groups
from core.training.objective import Objective

FRAMES = 4
_VIEWS = 5  # four inputs and a random one
_LARGEST = math.radians(75)
_HELD_OUT = 8
CARRIERS = {"attention": ("attns.",), "code": ("motion.",)}
"""What is to carry the motion from the front to the sides -> parts of the names of its tensors."""
_PAINTS = ("up_blocks.2.upsample", "up_blocks.3", "norm_out", "conv_out", "coarse_outs", "conv.")
_LIMB = 8, 12  # Gaussians across and along a limb


def toy(count: int, frames: int, generator: Generator) -> Gaussians:
    """Random objects, each with a random angle at every frame: leading axes ``[count, frames]``."""

    def drawn(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(count, *shape, generator=generator)

    angles = _LARGEST * drawn(-1, 1, frames, 1)
    radii = drawn(0.22, 0.32, 1, 1, 3)
    surface = _box() * (1 - drawn(0.0, 0.5, 1, 1, 1) * (_box()[:, 1:2] + 1) / 2 * torch.tensor([1.0, 0.0, 1.0]))
    _, height, depth = radii.unbind(-1)
    across, along = torch.meshgrid(
        *(torch.linspace(-x, 1, n) for x, n in zip((1, 0), _LIMB, strict=True)), indexing="ij"
    )
    across, along = across.flatten(), along.flatten()

    def limb(length: Tensor, width: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Its points before it turns: across; along, times the sine and the cosine of the angle."""
        return width * across, length * along * angles.sin(), length * along * angles.cos()

    aside, sine, cosine = limb(drawn(0.8, 1.0, 1, 1) * height, drawn(0.02, 0.05, 1, 1))
    hand = _points(sine + aside * angles.cos(), cosine - aside * angles.sin(), depth + 0.03)
    aside, sine, cosine = limb(drawn(1.1, 1.3, 1, 1) * height, drawn(0.08, 0.2, 1, 1))
    tail = _points(aside, sine, -depth - cosine)
    means = torch.cat([(radii * surface).expand(-1, frames, -1, -1), hand, tail], dim=2)
    means = means + torch.tensor([0.0, 0.0, 0.12])  # all of it in all views
    counts = torch.tensor([len(_box()), len(along), len(along)])
    colors = torch.cat([drawn(0.3, 0.75, 1, 3), drawn(0.0, 0.15, 1, 3), drawn(0.0, 0.75, 1, 3)], dim=1)
    colors = colors.repeat_interleave(counts, dim=1) + 0.12 * drawn(-1, 1, int(counts.sum()), 1)
    return Gaussians(
        means=means,
        opacities=torch.full(means.shape[:3], 0.95),
        scales=torch.full(means.shape, 0.035),
        quats=torch.tensor([1.0, 0.0, 0.0, 0.0]).expand(*means.shape[:3], 4),
        colors=colors.clamp(0, 0.9)[:, None].expand(-1, frames, -1, -1),
    )


def _points(*coordinates: Tensor) -> Tensor:
    return torch.stack(torch.broadcast_tensors(*coordinates), dim=-1)


def _box() -> Tensor:
    """Points ``[N, 3]`` on the faces of the cube [-1, 1]^3."""
    x, y = (grid.flatten() for grid in torch.meshgrid(*2 * [torch.linspace(-1, 1, 7)], indexing="ij"))
    face = torch.stack([x, y, torch.ones_like(x)], dim=-1)
    return torch.cat([side * face.roll(turn, dims=-1) for turn in range(3) for side in (1, -1)])


@torch.no_grad()
def samples(count: int, size: int, renderer: Renderer, generator: Generator) -> ClipBatch:
    """A batch as the loader of clips makes it."""
    truth = toy(count, FRAMES, generator)
    azimuths = 360 * torch.rand(count, 1, generator=generator)
    elevations = -5 + 35 * torch.rand(count, 1, generator=generator)
    inputs = input_cameras(size=size).expand(count, 4)
    views = concatenate([inputs, orbit_cameras(azimuths, elevations, size=(size, size))], dim=1)
    cameras = views.reshape(count, 1, _VIEWS).expand(count, FRAMES, _VIEWS)
    render = renderer(truth, cameras)
    images = render.image.clamp(0, 1)
    grid = side_view_grid(images[:, :, 0], images[:, 0, 1:4], cameras[:, :, :4], "first")
    numbers = torch.arange(FRAMES).expand(count, -1), torch.arange(_VIEWS).expand(count, -1)
    return ClipBatch(grid, images, render.alpha.clamp(0, 1), cameras, *numbers, ("toy",) * count)


def network(carrier: str, size: int, blur: float = 0.0) -> Options:
    """The preset `nano` for images of ``size`` pixels, set up to learn fast."""
    nano = PRESETS["nano"]
    model = replace(nano.model, input_size=size, splat_size=size // 2, motion_code=64 if carrier == "code" else 0)
    train = replace(
        nano.train, batch_size=2, lambda_lpips=0.0, mixed_precision="no", lr=4e-4, warmup_steps=10,
        temporal_lr_factor=5.0 if carrier == "code" else 1.0, lambda_blur=blur,
    )  # fmt: skip
    return replace(nano, model=model, train=train)


def learn(carrier: str, steps: int, size: int, blur: float, report: Callable[[Row], None]) -> None:
    """Train one network on fresh toys at every step; ``report`` gets its scores ten times."""
    torch.manual_seed(0)
    options = network(carrier, size, blur)
    model, train = make_model(options), options.train
    load_weights(model, find(options.run.resume), strict=False)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(any(part in name for part in (*CARRIERS[carrier], *_PAINTS)))
    renderer, objective = configured_renderer(options.camera), Objective(train)
    groups = parameter_groups(model, train)
    optimizer = make_optimizer(groups)
    schedule = make_schedule(optimizer, [group["lr"] for group in groups.values()], train, steps)
    held_out = samples(_HELD_OUT, size, renderer, Generator().manual_seed(1))
    generator, start = Generator().manual_seed(2), time.process_time()
    for step in range(steps + 1):
        if step % max(1, steps // 10) == 0:
            seconds = time.process_time() - start
            report({"carrier": carrier, "step": step, "cpu s": seconds, **scores(model, held_out, renderer)})
        if step == steps:
            break
        batch = samples(train.batch_size, size, renderer, generator)
        gaussians = model(batch.grid)
        objective(gaussians, renderer(gaussians, batch.cameras), batch, step)["total"].backward()
        nn.utils.clip_grad_norm_(model.parameters(), train.gradient_clip)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()


@torch.no_grad()
def scores(model: nn.Module, batch: ClipBatch, renderer: Renderer) -> Row:
    """PSNR in dB of the unseen views, and above frozen."""
    gaussians = model(batch.grid)
    frozen = gaussians.map(lambda field: field[:, :1].expand_as(field))
    ours, still = (psnr(renderer(g, batch.cameras).image.clamp(0, 1), batch.images) for g in (gaussians, frozen))
    row: Row = {"frame 0": float(ours[:, 0, 1:4].mean())}
    for name, views in (("sides", slice(1, 4)), ("random view", slice(4, None))):
        moved, stayed = (float(x[:, 1:, views].mean()) for x in (ours, still))
        row |= {name: moved, f"{name}, frozen": stayed, f"{name}, above frozen": moved - stayed}
    return row


def main() -> None:
    """Parse, train, print and write every score."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--carriers", nargs="+", choices=tuple(CARRIERS), default=list(CARRIERS))
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--size", type=int, default=48, help="of the images in pixels, a multiple of 16")
    parser.add_argument("--blur", type=float, default=0.0, help="--lambda_blur of the training")
    parser.add_argument("--output", type=Path, default=Path("results/bench/toy_motion.json"), help="JSON file")
    args = parser.parse_args()
    rows: list[Row] = []

    def report(row: Row) -> None:
        rows.append(row)
        print("  ".join(f"{k} {v:.2f}" if isinstance(v, float) else f"{k} {v}" for k, v in row.items()), flush=True)
        options = {name: value for name, value in vars(args).items() if name != "output"}
        write_json(args.output, {"machine": machine(torch.device("cpu")), "options": options, "rows": rows})

    for carrier in args.carriers:
        learn(carrier, args.steps, args.size, args.blur, report)


if __name__ == "__main__":
    run(main)
