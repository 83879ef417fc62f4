"""Where a run starts: the rules of `core.training.start`, and that going on is exact."""

from __future__ import annotations

import json
import logging
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from core.checkpoint import read_tensors
from core.errors import UserError
from core.training.run import Training
from core.training.start import decide
from core.training.state import saved_states
from tests.tiny_training import log_of, losses, options_for

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def finished(one_thread: None, training_clips: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of six steps from fresh weights with averaged weights, with states of steps 3 and 6."""
    workspace = tmp_path_factory.mktemp("finished")
    Training(options_for(training_clips, workspace, ema_decay=0.9)).run()
    return workspace


def killed(finished: Path, workspace: Path) -> Path:
    """As if that run had been killed after step 3 and before the next save."""
    shutil.copytree(finished, workspace)
    shutil.rmtree(workspace / "state" / "00000006")
    return workspace


def test_a_fresh_workspace(tmp_path: Path) -> None:
    for resume, weights, message in (
        (None, None, "fresh"),
        ("auto", None, "fresh"),
        ("x.safetensors", "x.safetensors", "x"),
    ):
        start = decide(options_for(tmp_path, tmp_path / "new", resume=resume))
        assert (start.weights, start.state) == (weights, None)
        assert message in start.message


def test_a_workspace_with_a_run_resumes_by_auto_or_by_the_same_command(finished: Path, tmp_path: Path) -> None:
    workspace = killed(finished, tmp_path / "killed")
    for resume in ("auto", None):
        start = decide(options_for(tmp_path, workspace, resume=resume))
        assert start.state == workspace / "state" / "00000003"
        assert start.weights is None and "00000003" in start.message


def test_a_workspace_with_a_run_refuses_another_start(finished: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"started from None, and --resume x.safetensors asks.*--resume auto"):
        decide(options_for(tmp_path, finished, resume="x.safetensors"))
    with pytest.raises(UserError, match="not a saved state"):
        decide(options_for(tmp_path, tmp_path / "new", resume=str(finished)))


def test_the_origin_is_remembered_over_auto(training_clips: Path, finished: Path, tmp_path: Path) -> None:
    start = str(finished / "model.safetensors")
    Training(options_for(training_clips, tmp_path, max_steps=1, resume=start)).run()
    Training(options_for(training_clips, tmp_path, max_steps=1, resume="auto")).run()
    assert decide(options_for(training_clips, tmp_path, resume=start)).origin == start


def test_a_resumed_run_gives_bit_identical_losses_and_weights(
    training_clips: Path, finished: Path, tmp_path: Path
) -> None:
    workspace = killed(finished, tmp_path / "killed")
    options = options_for(training_clips, workspace, ema_decay=0.9, resume="auto")
    Training(replace(options, data=replace(options.data, num_workers=1))).run()
    assert losses(workspace) == losses(finished)
    assert [record["step"] for record in log_of(workspace, "start")] == [0, 3]
    again, first = (read_tensors(place / "model.safetensors")[0] for place in (workspace, finished))
    assert all(torch.equal(again[name], tensor) for name, tensor in first.items())


def test_another_workspace_resumes_from_a_named_state(training_clips: Path, finished: Path, tmp_path: Path) -> None:
    state = finished / "state" / "00000003"
    Training(options_for(training_clips, tmp_path / "branch", ema_decay=0.9, resume=str(state))).run()
    assert losses(tmp_path / "branch") == {step: loss for step, loss in losses(finished).items() if step > 3}
    assert [path.name for path in saved_states(finished)] == ["00000003", "00000006"]


def test_changed_options_are_reported_and_a_changed_learning_rate_is_used(
    training_clips: Path, finished: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    workspace = killed(finished, tmp_path / "killed")
    with caplog.at_level(logging.INFO):
        Training(options_for(training_clips, workspace, ema_decay=0.9, lr=1e-4, resume="auto")).run()
    assert "--lr is 0.0001 from here on; it was 0.0004" in caplog.text
    assert log_of(workspace, "start")[-1]["changed"]["lr"] == [4e-4, 1e-4]
    for before, now in zip(log_of(finished)[3:], log_of(workspace)[3:], strict=True):
        assert now["lr"] == pytest.approx(before["lr"] / 4)


def test_changes_that_a_saved_state_cannot_take_are_refused(training_clips: Path, finished: Path) -> None:
    for changes, reason in (
        ({"max_steps": 4}, "has 6 steps, this would be one of 4"),
        ({"batch_size": 1}, "has 2 samples a step, this would be one of 1"),
        ({"model": {"use_temp_attn": False}}, "use_temp_attn differ"),
    ):
        with pytest.raises(UserError, match=reason):
            Training(options_for(training_clips, finished, ema_decay=0.9, **changes))


def test_batch_size_and_accumulation_may_change_on_resume(training_clips: Path, finished: Path, tmp_path: Path) -> None:
    workspace = killed(finished, tmp_path / "killed")
    Training(options_for(training_clips, workspace, ema_decay=0.9, batch_size=1, gradient_accumulation_steps=2)).run()
    for step, loss in losses(workspace).items():
        assert loss == pytest.approx(losses(finished)[step], rel=1e-4)


def test_a_run_without_options_is_refused(finished: Path, tmp_path: Path) -> None:
    workspace = killed(finished, tmp_path / "killed")
    (workspace / "options.json").write_text(json.dumps({})[:1])
    with pytest.raises(UserError, match=r"options.json cannot be read"):
        decide(options_for(tmp_path, workspace))
    (workspace / "options.json").write_text('{"model": 3}')
    with pytest.raises(UserError, match=r"options.json does not hold options of a run"):
        decide(options_for(tmp_path, workspace))


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.bin", "custom_checkpoint_0.pkl"])
@pytest.mark.parametrize("content", [None, b"", b"half"])
def test_a_damaged_state_is_one_line(
    training_clips: Path, finished: Path, tmp_path: Path, name: str, content: bytes | None
) -> None:
    workspace = killed(finished, tmp_path / "killed")
    spoilt = workspace / "state" / "00000003" / name
    spoilt.unlink() if content is None else spoilt.write_bytes(content)
    with pytest.raises(UserError, match=r"the saved state .*00000003 cannot be read \(.*remove it"):
        Training(options_for(training_clips, workspace, ema_decay=0.9))
