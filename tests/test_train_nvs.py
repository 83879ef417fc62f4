"""Training of LaCT: the published schedule and rules, exact resuming, and a network that learns a scene."""

from __future__ import annotations

import json
import math
import multiprocessing
import re
import sys
from pathlib import Path

import pytest
import torch
from accelerate.state import AcceleratorState

import train_nvs
from core.errors import UserError
from core.lact import LaCT
from core.nvs import training
from core.nvs.training import NvsTraining, make_optimizers, make_schedule
from core.nvs.weights import load_lact
from core.options.lact import LACT_PRESETS, LactOptions, NvsTrainOptions
from core.tensor_files import read_tensors
from core.training.log import read_log
from tests.lact_place import tiny_lact
from tests.nvs_place import write_list

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two scenes of coloured balls."""
    return write_list(tmp_path_factory.mktemp("balls"), 2, views=8, size=(16, 16))


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tiny network, and an engine of its own for each test: within a process its precision is fixed."""
    monkeypatch.setitem(LACT_PRESETS, "nano", LactOptions(4, 16, 1, head_dim=8, fast_head_dim=8))
    AcceleratorState._reset_state(reset_partial_state=True)


def options_for(scenes: Path, out: Path, **changes: object) -> NvsTrainOptions:
    values = {
        "data_path": str(scenes),
        "config": "nano",
        "output_dir": str(out),
        "image_size": (16, 16),
        "num_all_views": 4,
        "num_input_views": 2,
        "num_target_views": 2,
        "bs_per_gpu": 2,
        "steps": 4,
        "warmup": 2,
        "lpips_start": -1,
        "mixed_precision": "no",
        "num_workers": 0,
        "save_every": 2,
        "log_every": 1,
    }
    return NvsTrainOptions(**{**values, **changes})


def weights(out: Path) -> dict[str, torch.Tensor]:
    return read_tensors(out / "nvs/model.safetensors")[0]


def test_a_resumed_run_is_the_uninterrupted_one_to_the_bit(scenes: Path, tmp_path: Path) -> None:
    NvsTraining(options_for(scenes, tmp_path / "whole")).run()
    first = NvsTraining(options_for(scenes, tmp_path / "parts"))
    step = first._step
    first._step = lambda batch: (*step(batch)[:2], first.progress.step == 1)  # as after SIGTERM
    first.run()
    assert first.progress.step == 2
    NvsTraining(options_for(scenes, tmp_path / "parts")).run()
    whole, parts = weights(tmp_path / "whole"), weights(tmp_path / "parts")
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
    assert whole.keys() == LaCT(LACT_PRESETS["nano"]).state_dict().keys()
    rates = [record["lr"] for record in read_log(tmp_path / "parts/nvs") if record["kind"] == "train"]
    assert rates == [record["lr"] for record in read_log(tmp_path / "whole/nvs") if record["kind"] == "train"]


def test_a_run_with_muon_and_any_number_of_inputs_resumes_to_the_bit(
    scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both optimisers' states are kept, and the numbers of inputs depend on the step alone."""
    changes = {"muon_lr": 1e-2, "min_input_views": 1, "mirror": True, "steps": 6, "save_every": 3}
    seen = []
    predict = NvsTraining._predict
    monkeypatch.setattr(
        NvsTraining, "_predict", lambda self, batch, inputs: seen.append(inputs) or predict(self, batch, inputs)
    )
    NvsTraining(options_for(scenes, tmp_path / "whole", **changes)).run()
    first = NvsTraining(options_for(scenes, tmp_path / "parts", **changes))
    step = first._step
    first._step = lambda batch: (*step(batch)[:2], first.progress.step == 2)  # as after SIGTERM
    first.run()
    NvsTraining(options_for(scenes, tmp_path / "parts", **changes)).run()
    whole, parts = weights(tmp_path / "whole"), weights(tmp_path / "parts")
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
    assert set(seen) == {1, 2} and seen[:6] == seen[6:]


def test_muon_takes_the_matrices_of_the_blocks_and_adamw_the_rest() -> None:
    model = tiny_lact()
    adam, muon = make_optimizers(model, NvsTrainOptions(muon_lr=1e-2))
    of = {
        optimizer: {parameter for group in optimizer.param_groups for parameter in group["params"]}
        for optimizer in (adam, muon)
    }
    assert not of[adam] & of[muon] and of[adam] | of[muon] == set(model.parameters())
    assert model.blocks[0].module_list[2].f.c_fc.weight in of[muon]
    assert {model.input_linear.weight, model.blocks[0].module_list[1].f.w0} <= of[adam]


def test_steps_with_a_large_gradient_are_skipped_and_counted(
    scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From ``clip_start`` on; the schedule goes on, the weights stay."""
    monkeypatch.setattr(training, "SKIP_NORM", 0.0)
    run = NvsTraining(options_for(scenes, tmp_path, clip_start=2, steps=4))
    snapshots = []
    step = run._step
    run._step = lambda batch: (step(batch), snapshots.append(run.model.input_linear.weight.detach().clone()))[0]
    run.run()
    assert run.progress.skipped == 2
    assert not torch.equal(snapshots[0], snapshots[1]) and torch.equal(snapshots[1], snapshots[3])
    assert [record["skipped"] for record in read_log(tmp_path / "nvs") if record["kind"] == "train"] == [0, 0, 1, 2]


def test_a_loss_that_is_not_finite_changes_nothing(
    scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = NvsTraining(options_for(scenes, tmp_path, steps=2, clip_start=1000))
    before = {name: tensor.clone() for name, tensor in run.model.state_dict().items()}
    monkeypatch.setattr(training.F, "mse_loss", lambda images, targets: (images - targets).mean() * math.nan)
    run.run()
    assert run.progress.skipped == 2
    assert all(torch.equal(before[name], tensor) for name, tensor in run.model.state_dict().items())


def test_lpips_joins_after_its_first_step(scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "load_lpips", lambda: lambda a, b: (a - b).abs().mean((1, 2, 3)))
    NvsTraining(options_for(scenes, tmp_path, lpips_start=2)).run()
    records = [record for record in read_log(tmp_path / "nvs") if record["kind"] == "train"]
    assert ["lpips" in record for record in records] == [False, False, True, True]
    assert records[3]["total"] == pytest.approx(records[3]["rgb"] + records[3]["lpips"], rel=1e-5)


def test_recomputed_activations_keep_the_names(scenes: Path, tmp_path: Path) -> None:
    run = NvsTraining(options_for(scenes, tmp_path, actckpt=True, steps=1))
    assert run.model.recompute
    run.run()
    model = LaCT(LACT_PRESETS["nano"])
    load_lact(model, tmp_path / "nvs/model.safetensors")
    (state,) = (tmp_path / "nvs/state").iterdir()
    load_lact(model, state / "model.safetensors")


def test_a_run_of_another_network_is_not_continued(scenes: Path, tmp_path: Path) -> None:
    NvsTraining(options_for(scenes, tmp_path, steps=1)).run()
    with pytest.raises(UserError, match=r"another network .*'mixer': 'lact'.*'mixer': 'attention'.* --expname"):
        NvsTraining(options_for(scenes, tmp_path, steps=1, mixer="attention"))
    with pytest.raises(UserError, match="the saved run has 1 steps, this would be one of 9"):
        NvsTraining(options_for(scenes, tmp_path, steps=9))
    run = NvsTraining(options_for(scenes, tmp_path / "b", load=str(tmp_path / "nvs/model.safetensors")))
    assert torch.equal(run.model.state_dict()["input_linear.weight"], weights(tmp_path)["input_linear.weight"])


def test_the_schedule_and_the_decay_are_the_published_ones() -> None:
    model, options = tiny_lact(), NvsTrainOptions(lr=1e-4, warmup=4000, steps=80_000)
    (optimizer,) = make_optimizers(model, options)
    decayed = {parameter for group in optimizer.param_groups if group["weight_decay"] for parameter in group["params"]}
    assert decayed == {parameter for parameter in model.parameters() if parameter.ndim >= 2}
    assert {group["weight_decay"] for group in optimizer.param_groups} == {0.05, 0.0}
    for step, rate in ((0, 2.5e-8), (1999, 5e-5), (3999, 1e-4), (42_000, 5e-5), (80_000, 0)):
        assert make_schedule(make_optimizers(model, options)[0], options, step).get_last_lr()[0] == pytest.approx(
            rate, abs=1e-9
        )


def test_the_command_line_trains_and_the_network_learns(
    scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = f"train_nvs.py --config nano --data_path {scenes} --data_path_val {scenes} --output_dir {tmp_path}"
    words += " --expname a --image_size 16 16 --num_all_views 4 --num_input_views 2 --num_target_views 2 --bs_per_gpu 2"
    words += " --steps 40 --warmup 5 --lr 1e-2 --lpips_start -1 --num_workers 0 --log_every 10 --eval_every 20"
    monkeypatch.setattr(sys, "argv", words.split())
    train_nvs.main()
    records = read_log(tmp_path / "a")
    losses = [record["rgb"] for record in records if record["kind"] == "train"]
    assert losses[-1] < 0.8 * losses[0]
    assert [record["step"] for record in records if record["kind"] == "validation"] == [20, 40]
    assert json.loads((tmp_path / "a/options.json").read_text())["network"]["dim"] == 16


@pytest.mark.parametrize("workers", [0, 1])
def test_too_few_views_are_named(scenes: Path, tmp_path: Path, workers: int) -> None:
    with pytest.raises(UserError) as caught:
        NvsTraining(options_for(scenes, tmp_path, num_all_views=9, num_workers=workers)).run()
    assert not multiprocessing.active_children()
    assert re.fullmatch(r"\S*opencv_cameras\.json has 8 views, and --num_all_views asks for 9", str(caught.value))


@pytest.mark.slow
def test_compiled_blocks_train_and_keep_their_names(scenes: Path, tmp_path: Path) -> None:
    NvsTraining(options_for(scenes, tmp_path / "plain", steps=2)).run()
    NvsTraining(options_for(scenes, tmp_path / "compiled", steps=2, compile=True)).run()
    plain, compiled = weights(tmp_path / "plain"), weights(tmp_path / "compiled")
    assert plain.keys() == compiled.keys()
    for name, tensor in plain.items():
        torch.testing.assert_close(compiled[name], tensor, atol=1e-3, rtol=0)
