"""Every training option does what it says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from accelerate.utils import DistributedType
from torch import Tensor
from torch.utils.data import DataLoader

from core.cameras import input_cameras
from core.checkpoint import read_tensors
from core.cli import parse_options
from core.data.batch import ClipBatch
from core.errors import UserError
from core.gaussians import Gaussians
from core.options import Options, RunOptions, TrainOptions
from core.rendering import make_renderer
from core.training.build import (
    make_accelerator,
    make_average,
    make_dataset,
    make_model,
    tracker_name,
)
from core.training.rollout import predict_in_turn
from core.training.run import Training
from core.view_grid import ViewGrid
from tests.tiny_training import command_line, losses, options_for, start_main

pytestmark = pytest.mark.usefixtures("one_thread")


def test_temporal_layers_get_their_own_rate(training_clips: Path, tmp_path: Path) -> None:
    training = Training(options_for(training_clips, tmp_path, temporal_lr_factor=5.0))
    assert list(training.groups) == ["lr", "lr_temporal"]
    backbone, temporal = training.step.schedule.get_last_lr()
    assert temporal == pytest.approx(5 * backbone)
    names = {id(parameter): name for name, parameter in training.model.named_parameters()}
    for group, temporal in zip(training.groups.values(), (False, True), strict=True):
        assert {"t_attns" in names[id(parameter)] for parameter in group["params"]} == {temporal}
    assert sum(len(group["params"]) for group in training.groups.values()) == len(names)


def test_with_a_frozen_backbone_only_temporal_layers_change(training_clips: Path, tmp_path: Path) -> None:
    training = Training(options_for(training_clips, tmp_path, max_steps=2, freeze_backbone=True))
    before = {name: value.detach().clone() for name, value in training.model.named_parameters()}
    training.run()
    moved = {name for name, value in training.model.named_parameters() if not torch.equal(value, before[name])}
    assert moved and all("t_attns" in name for name in moved)
    still = options_for(training_clips, tmp_path, freeze_backbone=True, model={"use_temp_attn": False})
    with pytest.raises(UserError, match="no-use_temp_attn leaves none"):
        make_model(still)


def test_the_average_is_the_exponential_mean_of_the_weights(training_clips: Path, tmp_path: Path) -> None:
    decay, history = 0.7, []
    training = Training(options_for(training_clips, tmp_path, max_steps=3, ema_decay=decay))
    weight = next(training.model.parameters())
    step = training.step.optimizer.step
    training.step.optimizer.step = lambda: (step(), history.append(weight.detach().clone()))
    training.run()
    expected = history[0]  # the average starts as the weights after the first step
    for value in history[1:]:
        expected = decay * expected + (1 - decay) * value
    kept = read_tensors(tmp_path / "model.safetensors")[0]
    torch.testing.assert_close(kept["unet.conv_in.weight"], expected)
    assert not torch.equal(kept["unet.conv_in.weight"], weight)


def test_the_average_is_on_the_device_of_the_run(training_clips: Path, tmp_path: Path) -> None:
    """The model itself moves later, in `Accelerator.prepare`. The device "meta" stands for a GPU."""
    options = options_for(training_clips, tmp_path, ema_decay=0.9)
    accelerator = SimpleNamespace(device=torch.device("meta"), distributed_type=DistributedType.NO)
    model = make_model(options)
    average = make_average(model, accelerator, 0.9)
    tensors = [*average.parameters(), *average.buffers()]
    assert {tensor.device.type for tensor in tensors} == {"meta"}


def gradients(options: Callable, folder: Path, **train: object) -> tuple[dict[str, Tensor], int]:
    """Gradients of one backward pass, and the bytes that autograd kept for it outside recomputed layers."""
    torch.manual_seed(0)
    model = make_model(options(folder, **train))
    kept = 0

    def count(tensor: Tensor) -> Tensor:
        nonlocal kept
        kept += tensor.nbytes
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
        images = torch.rand(1, 2, 4, 3, 32, 32, generator=torch.Generator().manual_seed(1))
        raw = model.raw_channels(ViewGrid.of(images, input_cameras(size=32).expand(1, 2, 4)))
    raw.square().mean().backward()
    return {name: value.grad for name, value in model.named_parameters()}, kept


def test_activation_checkpointing_stores_less_and_gives_the_same_gradients(tmp_path: Path) -> None:
    def options(folder: Path, **train: object) -> object:
        return options_for(folder, folder, **train)

    plain, much = gradients(options, tmp_path)
    recomputed, little = gradients(options, tmp_path, activation_checkpointing=True)
    assert little < much / 3
    for name, gradient in plain.items():
        torch.testing.assert_close(recomputed[name], gradient, rtol=0, atol=0)


@pytest.mark.slow
def test_a_compiled_run_has_the_losses_of_a_plain_one(training_clips: Path, tmp_path: Path) -> None:
    for compiled in (False, True):
        Training(options_for(training_clips, tmp_path / f"{compiled}", compile=compiled, max_steps=3)).run()
    plain = losses(tmp_path / "False")
    assert losses(tmp_path / "True") == {step: pytest.approx(loss, rel=1e-3) for step, loss in plain.items()}


@pytest.mark.parametrize("term", ["lpips", "hull"])
def test_a_weighted_term_is_in_the_sum(training_clips: Path, tmp_path: Path, term: str) -> None:
    options = options_for(training_clips, tmp_path, max_steps=1, lambda_hull=0.0)
    weighted = replace(options, train=replace(options.train, **{f"lambda_{term}": 0.5}))
    training = Training(weighted)
    terms = training.step(next(iter(training.loader)), 0).terms
    assert terms[term] > 0
    torch.testing.assert_close(terms["total"], terms["rgb"] + terms["alpha"] + 0.5 * terms[term])


def test_autoregression_shows_the_network_its_own_renders(training_clips: Path, tmp_path: Path) -> None:
    options = options_for(training_clips, tmp_path, data={"num_frames": 3}, side_views={"side_views": "previous"})
    batch = next(iter(DataLoader(make_dataset(options, "test"), collate_fn=ClipBatch.collate)))
    model, seen = make_model(options), []

    def watch(grid: ViewGrid) -> Gaussians:
        seen.append(grid.tensor())
        return model(grid)

    with torch.no_grad():
        result = predict_in_turn(watch, batch.grid, make_renderer("numba"))
    assert result.shape == (1, 3)
    assert [grid.shape[1] for grid in seen] == [1, 1, 1]
    whole = batch.grid.tensor()
    torch.testing.assert_close(seen[0], whole[:, :1])
    for t in (1, 2):
        torch.testing.assert_close(seen[t][:, :, :1], whole[:, t : t + 1, :1])  # the video
        torch.testing.assert_close(seen[t][:, :, 1:, 3:], whole[:, t : t + 1, 1:, 3:])  # the side cameras
        assert not torch.allclose(seen[t][:, :, 1:, :3], whole[:, t : t + 1, 1:, :3], atol=0.1)


def test_side_views_of_every_frame_are_those_of_the_clip(training_clips: Path, tmp_path: Path) -> None:
    first, every = (
        make_dataset(options_for(training_clips, tmp_path, side_views={"side_views": sides}), "test")[0].grid.tensor()
        for sides in ("first", "every")
    )
    torch.testing.assert_close(first[:, :, :1], every[:, :, :1])
    torch.testing.assert_close(first[:, 0], every[:, 0])
    assert torch.equal(first[:, 1, 1:, :3], first[:, 0, 1:, :3])
    assert not torch.equal(every[:, 1, 1:, :3], every[:, 0, 1:, :3])
    own = {"data": {"data_mode": "4d_interp"}, "side_views": {"side_views": "previous"}}
    with pytest.raises(UserError, match="--side_views previous is for reconstruction"):
        make_dataset(options_for(training_clips, tmp_path, **own), "test")


@pytest.mark.parametrize("flags", ["--no-use_temp_attn", "--resume None", "--freeze_backbone", "--side_views previous",
                                   "--input_sides every"])  # fmt: skip
def test_each_ablation_of_the_paper_is_one_flag(training_clips: Path, tmp_path: Path, flags: str) -> None:
    """They start from a network with time, as the preset does, and train."""
    start = tmp_path / "start"
    Training(options_for(training_clips, start, max_steps=1, save_every=0)).run()
    line = command_line(training_clips, tmp_path / "run", max_steps=1, resume=start / "model.safetensors")
    Training(parse_options("", [*line, *flags.split()])).run()
    assert set(losses(tmp_path / "run")) == {1}


def test_published_command_lines_of_both_stages() -> None:
    recon = parse_options(
        "",
        "big --workspace runs/recon --resume pretrained/model_fixrot.safetensors --data_mode 4d --num_epochs 200 "
        "--prob_cam_jitter 0 --datalist data_train/datalist_8fps.txt".split(),
    )
    assert (recon.data.num_frames, recon.data.num_views, recon.data.prob_grid_distortion) == (8, 8, 0.5)
    assert (recon.train.lr, recon.train.mixed_precision, recon.train.gradient_clip) == (4e-4, "bf16", 1.0)
    assert recon.model.architecture == "l4gm" and recon.side_views.side_views == "first"
    interp = parse_options(
        "",
        "big --workspace runs/interp --resume runs/recon/model.safetensors --data_mode 4d_interp --num_frames 4 "
        "--num_epochs 200 --prob_cam_jitter 0 --prob_grid_distortion 0 "
        "--datalist data_train/datalist_24fps.txt".split(),
    )
    assert (interp.data.data_mode, interp.data.num_frames, interp.data.prob_grid_distortion) == ("4d_interp", 4, 0.0)


def test_trackers_are_those_of_accelerate() -> None:
    assert tracker_name("none") is None
    assert tracker_name("tensorboard") == "tensorboard"
    with pytest.raises(UserError, match=r"unknown; choose auto, none or one of .*wandb"):
        tracker_name("notebook")
    with pytest.raises(UserError, match="not installed; pip install clearml"):
        tracker_name("clearml")


def test_half_precision_needs_a_gpu() -> None:
    if torch.accelerator.is_available():
        assert make_accelerator(Options(train=TrainOptions(mixed_precision="fp16"))).scaler is not None
    else:
        with pytest.raises(UserError, match="fp16 needs a GPU"):
            make_accelerator(Options(train=TrainOptions(mixed_precision="fp16")))


def test_gpus_of_a_training_are_chosen_by_accelerate() -> None:
    with pytest.raises(UserError, match="--device cuda:1: which GPUs train is chosen by CUDA_VISIBLE_DEVICES"):
        make_accelerator(Options(run=RunOptions(device="cuda:1")))


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_trains_on_a_gpu(training_clips: Path, tmp_path: Path, precision: str) -> None:
    line = command_line(training_clips, tmp_path, mixed_precision=precision, max_steps=8, renderer="auto")
    process = start_main(line)
    _, errors = process.communicate(timeout=600)
    assert process.returncode == 0, errors
    assert set(losses(tmp_path)) == set(range(1, 9))
