"""A step depends on its samples alone: not on how processes and accumulated batches share them."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
import torch

from core.training.order import SampleStream
from tests.one_step import main
from tests.tiny_training import command_line, log_of, start_main

pytestmark = pytest.mark.usefixtures("one_thread")

# Everything that draws at random or averages over samples takes part.
EVERYTHING = {
    "max_steps": 1,
    "lambda_lpips": 1.0,
    "lpips_views": 2,
    "lambda_hull": 1.0,
    "prob_grid_distortion": 0.5,
    "prob_cam_jitter": 0.5,
    "prob_view_dropout": 0.5,
    "input_views": "random",
    "save_every": 0,
}


def test_gradients_do_not_depend_on_processes_or_accumulation(training_clips: Path, tmp_path: Path) -> None:
    """One process with a batch of 4, two accumulated batches of 2, two processes (gloo) with batches of 2."""
    shared = {
        "whole": {"batch_size": 4},
        "accumulated": {"batch_size": 2, "gradient_accumulation_steps": 2},
        "two": {"batch_size": 2},
    }
    lines = {
        name: command_line(training_clips, tmp_path / name, **EVERYTHING, **sharing) for name, sharing in shared.items()
    }
    for name in ("whole", "accumulated"):
        main(lines[name], str(tmp_path / f"{name}.pt"))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    launch = ["--config_file", "acc_configs/cpu2.yaml", "--main_process_port", port]
    process = start_main([str(tmp_path / "two.pt"), *lines["two"]], *launch, script="tests/one_step.py")
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    whole, accumulated, two = (torch.load(tmp_path / f"{name}.pt") for name in lines)
    assert len(whole) > 50 and all(bool(gradient.any()) for gradient in list(whole.values())[:10])
    largest = max(float(gradient.abs().max()) for gradient in whole.values())
    for other in (accumulated, two):
        assert other.keys() == whole.keys()
        worst = max(float((other[name] - whole[name]).abs().max()) for name in whole)
        print(f"largest gradient {largest:.3g}, largest difference {worst:.3g}")
        assert worst <= 2e-5 * largest
    (first,), *others = (log_of(tmp_path / name) for name in lines)
    for (record,) in others:
        for term in ("total", "rgb", "alpha", "lpips", "hull", "psnr"):
            assert record[term] == pytest.approx(first[term], rel=1e-5), term
    assert len(log_of(tmp_path / "two", "validation")) == 1


@pytest.mark.parametrize("groups", [3, 7, 12])
def test_a_step_has_the_same_samples_however_they_are_batched(groups: int) -> None:
    by_four = list(SampleStream(groups, 4, seed=5, first=0, last=9))
    by_two = list(SampleStream(groups, 2, seed=5, first=0, last=18))
    assert by_four == [one + two for one, two in zip(by_two[::2], by_two[1::2], strict=True)]
    assert list(SampleStream(groups, 4, seed=5, first=6, last=9)) == by_four[6:]
    assert list(SampleStream(groups, 4, seed=6, first=0, last=9)) != by_four


def test_every_epoch_shows_every_group_once_and_each_in_another_order() -> None:
    (keys,) = SampleStream(5, 20, seed=0, first=0, last=1)
    epochs = [keys[start : start + 5] for start in range(0, 20, 5)]
    assert [sorted(epoch) for epoch in epochs] == [list(range(5 * i, 5 * i + 5)) for i in range(4)]
    assert len({tuple(key % 5 for key in epoch) for epoch in epochs}) > 1
