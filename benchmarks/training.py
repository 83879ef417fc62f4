"""A training step of `nano` by its parts, beside the first version's: float32, one render call a view, plain layout."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from unittest.mock import patch

import torch
from torch import nn

from benchmarks.clips import PlainClip, write_clips
from benchmarks.measure import Row, compared
from benchmarks.reference import PlainModel, ViewByView
from core.data.batch import ClipBatch
from core.data.clips import Clip
from core.data.dataset import ClipDataset
from core.lpips import plain_distance
from core.options import PRESETS, Options
from core.rendering import Renderer, make_renderer
from core.training.build import make_model
from core.training.objective import Objective

PARTS = ("data", "forward", "render", "loss", "backward", "optimiser")


@dataclass
class Step:
    """One training step that records the seconds of its parts."""

    model: nn.Module
    renderer: Renderer
    objective: Objective
    read: Callable[[], ClipBatch]
    autocast: bool

    def __post_init__(self) -> None:
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-5, betas=(0.9, 0.95), weight_decay=0.05)
        self.seconds: list[list[float]] = []
        self.losses: list[float] = []

    def __call__(self) -> None:
        """Data, forward, render, loss, backward, optimiser."""
        marks = [time.perf_counter()]
        batch = self.read()
        marks.append(time.perf_counter())
        with torch.autocast("cpu", torch.bfloat16, enabled=self.autocast):
            gaussians = self.model(batch.grid)
        marks.append(time.perf_counter())
        render = self.renderer(gaussians, batch.cameras)
        marks.append(time.perf_counter())
        terms = self.objective(gaussians, render, batch, 0)
        marks.append(time.perf_counter())
        terms["total"].backward()
        marks.append(time.perf_counter())
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()
        marks.append(time.perf_counter())
        self.seconds.append([after - before for before, after in pairwise(marks)])
        self.losses.append(terms["total"].item())

    def parts(self) -> list[float]:
        """Median seconds of every part, the first step left out."""
        return [median(values) for values in zip(*self.seconds[1:], strict=True)]


class PlainStep(Step):
    """As the first version did: LPIPS compares whole feature maps in torch."""

    def __call__(self) -> None:
        """As `Step`."""
        with patch("core.lpips._distance", plain_distance):
            super().__call__()


def options_of(tiny: bool, home: Path) -> Options:
    """`nano` as in docs/training.md: four frames, six views, one sample a step."""
    nano = PRESETS["nano"]
    model = nano.model
    if tiny:
        model = replace(
            model, input_size=32, splat_size=16, down_channels=(16, 32), down_attention=(False, True),
            up_channels=(32,), up_attention=(True,),
        )  # fmt: skip
    return replace(
        nano,
        model=model,
        data=replace(
            nano.data, num_frames=2 if tiny else 4, output_size=model.input_size, num_workers=0,
            datalist=str(home / "list.txt"), data_home=str(home), prob_view_dropout=0.0,
        ),
        train=replace(nano.train, batch_size=1, lambda_lpips=nano.train.lambda_lpips if not tiny else 0.0),
    )  # fmt: skip


def steps_of(tiny: bool, home: Path) -> dict[str, Step]:
    """Ours, ours with LPIPS on one view of a sample, and the first version's, with the same weights; clips in home."""
    names = write_clips(home, count=2, size=32 if tiny else 512, frames=2 if tiny else 4)
    (home / "list.txt").write_text("".join(f"{name}\n" for name in names))
    options = options_of(tiny, home)
    whole = replace(options, train=replace(options.train, mixed_precision="no"))
    one_view = replace(options, train=replace(options.train, lpips_views=1))
    renderer = make_renderer("numba")
    torch.manual_seed(0)
    model = make_model(options)
    plain, second = make_model(options), make_model(options)
    for other in (plain, second):
        other.load_state_dict(model.state_dict())
    return {
        "ours": Step(model, renderer, Objective(options.train), _reader(options, Clip), True),
        "ours, LPIPS on one view": Step(second, renderer, Objective(one_view.train), _reader(options, Clip), True),
        "reference": PlainStep(
            PlainModel(plain), ViewByView(renderer), Objective(whole.train), _reader(options, PlainClip), False
        ),
    }


def training(rounds: int, tiny: bool, device: torch.device) -> dict[str, list[Row]]:
    """The parts of a step with the same objective: LPIPS on all views; and ours with LPIPS on one view of a sample."""
    with TemporaryDirectory() as folder:
        steps = steps_of(tiny, Path(folder))
        for _ in range(1 + rounds):
            for step in steps.values():
                step()
    parts = {name: step.parts() for name, step in steps.items()}
    rows = [
        {"part": part, **{f"{name} s": seconds[k] for name, seconds in parts.items()}} for k, part in enumerate(PARTS)
    ]
    total = {name: sum(seconds) for name, seconds in parts.items()}
    row = compared("nano training step, T = 4", total["ours"], total["reference"], 2.0)
    row |= {"loss": steps["ours"].losses[0], "reference loss": steps["reference"].losses[0]}
    return {"training step": [row], "training step by part": rows}


def _reader(options: Options, clip: type[Clip]) -> Callable[[], ClipBatch]:
    dataset = ClipDataset(
        options.data, options.camera, options.side_views, input_size=options.model.input_size, split="train"
    )

    def read() -> ClipBatch:
        with patch("core.data.dataset.Clip", clip):
            return dataset[0]

    return read
