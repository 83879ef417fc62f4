"""Training: it learns, logs, resumes to the bit, refuses what it cannot do, and runs on two processes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError

from core.checkpoint import read_tensors
from core.errors import UserError
from core.options import PRESETS, Options
from core.training.run import Training
from core.training.state import saved_states
from tests.clip_factory import write_clip

ROOT = Path(__file__).resolve().parents[1]
TINY = (
    "--input_size 32 --down_channels 16 16 --down_attention False True --up_channels 16 --up_attention True "
    "--splat_size 16 --num_heads 2 --output_size 32"
)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Steps of a tiny network are thousands of tiny operations: a second thread only waits for the first."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("clips")
    names = [f"pack-object{i}-000-00.tar" for i in range(5)]
    for name in names:
        write_clip(home, name)
    (home / "train.txt").write_text("\n".join(names[:4]))
    (home / "val.txt").write_text(names[4])
    return home


def options_for(clips: Path, workspace: Path, **train: object) -> Options:
    nano = PRESETS["nano"]
    model = replace(
        nano.model,
        input_size=32,
        down_channels=(16, 16),
        down_attention=(False, True),
        up_channels=(16,),
        up_attention=(True,),
        splat_size=16,
        num_heads=2,
    )
    data = replace(
        nano.data,
        num_frames=2,
        output_size=32,
        num_workers=0,
        datalist=str(clips / "train.txt"),
        datalist_val=str(clips / "val.txt"),
        data_home=str(clips),
    )
    defaults = {"batch_size": 2, "max_steps": 6, "lambda_lpips": 0.0, "mixed_precision": "no", "log_every": 1}
    defaults |= {"eval_lpips": False, "tracker": "none"}
    settings = {**defaults, "resume": None, "save_every": 3, "eval_every": 0, "preview_every": 0, **train}
    return replace(nano, model=model, data=data, train=replace(nano.train, workspace=str(workspace), **settings))


def log_of(workspace: Path, kind: str = "train") -> list[dict]:
    records = map(json.loads, (workspace / "log.jsonl").read_text().splitlines())
    return [record for record in records if record["kind"] == kind]


def test_a_run_learns_and_leaves_its_files(clips: Path, tmp_path: Path) -> None:
    Training(options_for(clips, tmp_path, max_steps=40, lr=3e-3, preview_every=20, tracker="tensorboard")).run()
    log = log_of(tmp_path)
    assert [record["step"] for record in log] == list(range(1, 41))
    assert sum(r["total"] for r in log[-5:]) < 0.8 * sum(r["total"] for r in log[:5])
    (validation,) = log_of(tmp_path, "validation")
    assert validation["clips"] == 1
    assert {path.name for path in tmp_path.glob("*.mp4")} == {
        f"{kind}_{what}_images_{epoch}_{step}.mp4"
        for kind, epoch, step in (("train", 9, 20), ("train", 19, 40), ("eval", 19, 40))
        for what in ("gt", "pred")
    }
    assert len(list(tmp_path.glob("*_sheet_*.png"))) == 3
    tensors, metadata = read_tensors(tmp_path / "best.safetensors")
    assert json.loads(metadata["validation"])["psnr_novel"] == validation["psnr_novel"]
    assert not any("lpips" in name for name in tensors)
    assert len(saved_states(tmp_path)) == 2
    assert any((tmp_path / "tensorboard").iterdir())


@pytest.mark.parametrize("ema", [0.0, 0.9])
def test_a_resumed_run_gives_the_same_losses_to_the_bit(clips: Path, tmp_path: Path, ema: float) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    Training(options_for(clips, whole, ema_decay=ema)).run()
    shutil.copytree(whole, parts)
    shutil.rmtree(parts / "state" / "00000006")  # as if it had been killed after step 3
    Training(options_for(clips, parts, ema_decay=ema)).run()
    again = log_of(parts)[6:]
    assert [r["step"] for r in again] == [4, 5, 6]
    for first, second in zip(log_of(whole)[3:], again, strict=True):
        assert first["total"] == second["total"]
    for name, tensor in read_tensors(whole / "model.safetensors")[0].items():
        torch.testing.assert_close(read_tensors(parts / "model.safetensors")[0][name], tensor, rtol=0, atol=0)


def test_a_start_checkpoint_without_time_is_accepted(clips: Path, tmp_path: Path) -> None:
    still = options_for(clips, tmp_path / "still", max_steps=1)
    Training(replace(still, model=replace(still.model, use_temp_attn=False))).run()
    start = tmp_path / "still" / "model.safetensors"
    Training(options_for(clips, tmp_path / "timed", max_steps=1, resume=str(start))).run()
    assert any("t_attns" in name for name in read_tensors(tmp_path / "timed" / "model.safetensors")[0])


def test_zero_epochs_only_validate(clips: Path, tmp_path: Path) -> None:
    Training(options_for(clips, tmp_path / "run", max_steps=2)).run()
    best = tmp_path / "run" / "best.safetensors"
    Training(options_for(clips, tmp_path / "eval", num_epochs=0, resume=str(best))).run()
    (trained,), (validated,) = (log_of(tmp_path / name, "validation") for name in ("run", "eval"))
    assert validated["psnr_novel"] == pytest.approx(trained["psnr_novel"], abs=1e-6)
    assert not (tmp_path / "eval" / "state").exists()


def test_validation_in_the_workspace_of_a_run_scores_the_named_checkpoint(clips: Path, tmp_path: Path) -> None:
    Training(options_for(clips, tmp_path, max_steps=2)).run()
    Training(options_for(clips, tmp_path, num_epochs=0, resume=str(tmp_path / "best.safetensors"))).run()
    first, second = log_of(tmp_path, "validation")
    assert second["psnr_novel"] == pytest.approx(first["psnr_novel"], abs=1e-6)
    with pytest.raises(UserError, match="--resume"):
        Training(options_for(clips, tmp_path, num_epochs=0))


def test_a_workspace_of_a_run_of_another_length_is_refused(clips: Path, tmp_path: Path) -> None:
    Training(options_for(clips, tmp_path, max_steps=1)).run()
    with pytest.raises(UserError, match="has 1 steps, this would be one of 4"):
        Training(options_for(clips, tmp_path, max_steps=4))


def test_a_full_disk_keeps_the_states_before(clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    training = Training(options_for(clips, tmp_path, max_steps=6, save_every=2))
    save = training.accelerator.save_state

    def full(folder: str) -> None:
        if "00000004" in folder:
            raise SafetensorError("I/O error: No space left on device")
        save(folder)

    monkeypatch.setattr(training.accelerator, "save_state", full)
    with pytest.raises(UserError, match="No space left"):
        training.run()
    assert [path.name for path in (tmp_path / "state").iterdir()] == ["00000002"]


def test_steps_without_a_finite_loss_are_left_out(clips: Path, tmp_path: Path) -> None:
    training = Training(options_for(clips, tmp_path, max_steps=3))
    before = {name: value.clone() for name, value in training.model.named_parameters()}
    intact, calls = training.step.objective, []

    def sometimes_nan(*args: object) -> dict[str, torch.Tensor]:
        terms = intact(*args)
        calls.append(1)
        return {**terms, "total": terms["total"] * float("nan")} if len(calls) == 2 else terms

    training.step.objective = sometimes_nan
    training.run()
    assert training.progress.skipped == 1
    assert all(torch.isfinite(value).all() for value in training.model.parameters())
    assert any(not torch.equal(value, before[name]) for name, value in training.model.named_parameters())


def test_a_diverged_run_stops(clips: Path, tmp_path: Path) -> None:
    training = Training(options_for(clips, tmp_path, max_steps=100))
    intact = training.step.objective
    training.step.objective = lambda *args: {**(terms := intact(*args)), "total": terms["total"] * float("nan")}
    with pytest.raises(UserError, match=r"20 steps in a row had no finite loss.*object"):
        training.run()


def test_a_workspace_of_another_network_is_refused(clips: Path, tmp_path: Path) -> None:
    Training(options_for(clips, tmp_path, max_steps=1)).run()
    other = options_for(clips, tmp_path)
    with pytest.raises(UserError, match="use_temp_attn differ"):
        Training(replace(other, model=replace(other.model, use_temp_attn=False)))


def test_too_many_broken_clips_stop_the_run(clips: Path, tmp_path: Path) -> None:
    home = tmp_path / "clips"
    shutil.copytree(clips, home)
    for path in home.glob("fixed*object[01]*"):
        path.write_bytes(path.read_bytes()[:700])
    with pytest.raises(UserError, match=r"2 of 5 clips could not be used.*object0.*object1|object1.*object0"):
        Training(options_for(home, tmp_path / "run", max_steps=20)).run()


def test_two_processes_train_on_the_cpu(clips: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", "acc_configs/cpu2.yaml", "main.py"]
    command += [
        "nano",
        *TINY.split(),
        "--batch_size",
        "1",
        "--max_steps",
        "2",
        "--num_frames",
        "2",
        "--lambda_lpips",
        "0",
    ]
    command += ["--resume", "None", "--num_workers", "0", "--mixed_precision", "no", "--log_every", "1"]
    command += ["--datalist", str(clips / "train.txt"), "--datalist_val", str(clips / "val.txt")]
    command += ["--data_home", str(clips), "--workspace", str(tmp_path)]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False, env=env)
    assert done.returncode == 0, done.stderr[-2000:]
    assert [record["step"] for record in log_of(tmp_path)] == [1, 2]
    assert len(log_of(tmp_path, "validation")) == 1
