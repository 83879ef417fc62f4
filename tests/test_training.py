"""Training: a run learns, leaves its files, validates, and refuses or skips what it cannot do."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from core.checkpoint import read_tensors
from core.errors import UserError
from core.gaussians import Gaussians
from core.training.run import Training
from core.training.state import saved_states
from tests.tiny_training import log_of, options_for

pytestmark = pytest.mark.usefixtures("one_thread")


def test_a_run_learns_and_leaves_its_files(training_clips: Path, tmp_path: Path) -> None:
    options = options_for(
        training_clips, tmp_path, max_steps=30, lr=3e-3, preview_every=20, tracker="tensorboard", eval_lpips=True
    )
    Training(options).run()
    log = log_of(tmp_path)
    assert [record["step"] for record in log] == list(range(1, 31))
    assert sum(r["total"] for r in log[-5:]) < 0.8 * sum(r["total"] for r in log[:5])
    (validation,) = log_of(tmp_path, "validation")
    # Two frames of the one clip: 2 novel views, 4 inputs.
    assert (validation["clips"], validation["images"], validation["input_images"]) == (1, 4, 8)
    assert 0 < validation["lpips_novel"] < 1 and -1 < validation["ssim_novel"] < 1
    written = {path.name for path in tmp_path.iterdir() if path.suffix in (".mp4", ".png")}
    assert written == {
        f"{kind}_{what}_{epoch}_{step}.{suffix}"
        for kind, epoch, step in (("train", 9, 20), ("eval", 14, 30))
        for what, suffix in (("gt_images", "mp4"), ("pred_images", "mp4"), ("sheet", "png"))
    }
    tensors, metadata = read_tensors(tmp_path / "best.safetensors")
    assert json.loads(metadata["validation"])["psnr_novel"] == validation["psnr_novel"]
    assert not any("lpips" in name for name in tensors)
    assert [path.name for path in saved_states(tmp_path)] == ["00000027", "00000030"]
    assert any((tmp_path / "tensorboard").iterdir())


def test_zero_epochs_only_validate_the_named_checkpoint(training_clips: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    Training(options_for(training_clips, run, max_steps=2)).run()
    best = str(run / "best.safetensors")
    for place in (tmp_path / "elsewhere", run):
        Training(options_for(training_clips, place, num_epochs=0, resume=best)).run()
        trained, validated = log_of(run, "validation")[0], log_of(place, "validation")[-1]
        assert validated["psnr_novel"] == pytest.approx(trained["psnr_novel"], abs=1e-6)
    assert not (tmp_path / "elsewhere" / "state").exists()
    with pytest.raises(UserError, match="--resume"):
        Training(options_for(training_clips, run, num_epochs=0))


def test_both_stages_of_the_paper(training_clips: Path, tmp_path: Path) -> None:
    """From a network without time to reconstruction, and from there to interpolation."""
    lgm, recon, interp = (tmp_path / name for name in ("lgm", "recon", "interp"))
    Training(options_for(training_clips, lgm, max_steps=1, model={"use_temp_attn": False})).run()
    start = str(lgm / "model.safetensors")
    Training(options_for(training_clips, recon, max_steps=1, resume=start, data={"prob_cam_jitter": 0.0})).run()
    assert any("t_attns" in name for name in read_tensors(recon / "model.safetensors")[0])
    second = {"data_mode": "4d_interp", "num_frames": 4, "prob_cam_jitter": 0.0, "prob_grid_distortion": 0.0}
    resume = str(recon / "model.safetensors")
    Training(options_for(training_clips, interp, max_steps=1, resume=resume, data=second)).run()
    assert log_of(interp, "validation")[0]["images"] == 8


class NanAt:
    """Stands for a network or an objective and gives NaN at some calls."""

    def __init__(self, intact: Callable, spoil: Callable, calls: set[int]) -> None:
        self.intact, self.spoil, self.calls, self.count = intact, spoil, calls, 0

    def __call__(self, *args: object) -> object:
        self.count += 1
        result = self.intact(*args)
        return self.spoil(result) if self.count in self.calls else result


def nan_loss(terms: dict[str, Tensor]) -> dict[str, Tensor]:
    return {**terms, "total": terms["total"] * float("nan")}


def nan_gaussians(gaussians: Gaussians) -> Gaussians:
    return replace(gaussians, means=gaussians.means * float("nan"))


@pytest.mark.parametrize("where", ["loss", "network"])
def test_a_step_without_a_finite_number_is_skipped_counted_and_its_clips_named(
    training_clips: Path, tmp_path: Path, where: str
) -> None:
    training = Training(options_for(training_clips, tmp_path, max_steps=3, gradient_accumulation_steps=2, batch_size=1))
    stepper, before, seen = training.step, [], []
    if where == "loss":
        stepper.objective = NanAt(stepper.objective, nan_loss, {3})
    else:
        stepper.model.forward = NanAt(stepper.model.forward, nan_gaussians, {3})

    class Watched:
        def __call__(self, batch: object, step: int) -> object:
            outcome = stepper(batch, step)
            seen.append(batch.names[0])
            before.append([value.detach().clone() for value in training.model.parameters()])
            return outcome

        def __getattr__(self, name: str) -> object:
            return getattr(stepper, name)

    training.step = Watched()
    training.run()
    # Batches 3 and 4 make step 2; batch 3 is to blame.
    assert all(torch.equal(old, new) for old, new in zip(before[1], before[3], strict=True))
    assert any(not torch.equal(old, new) for old, new in zip(before[3], before[5], strict=True))
    assert all(torch.isfinite(value).all() for value in training.model.parameters())
    (skipped,) = log_of(tmp_path, "skipped")
    assert (skipped["step"], skipped["clips"], skipped["so_far"]) == (2, [seen[2]], 1)
    assert [record["skipped"] for record in log_of(tmp_path)] == [0, 1, 1]


def test_a_diverged_run_stops(training_clips: Path, tmp_path: Path) -> None:
    training = Training(options_for(training_clips, tmp_path, max_steps=100, save_every=0))
    training.step.objective = NanAt(training.step.objective, nan_loss, set(range(2, 100)))
    with pytest.raises(UserError, match=r"20 steps in a row had no finite loss.*object"):
        training.run()
    assert training.progress.skipped == 19  # the twentieth ended the run
    assert len(log_of(tmp_path)) == 20


def test_too_many_broken_clips_stop_the_run(training_clips: Path, tmp_path: Path) -> None:
    home = tmp_path / "clips"
    shutil.copytree(training_clips, home)
    for path in home.glob("fixed*object[01]*"):
        path.write_bytes(path.read_bytes()[:700])
    with pytest.raises(UserError, match=r"2 of 5 clips could not be used.*object0.*object1|object1.*object0"):
        Training(options_for(home, tmp_path / "run", max_steps=20)).run()
