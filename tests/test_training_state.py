"""A run survives: killed at random times and during a save, terminated, on a full disk."""

from __future__ import annotations

import os
import random
import resource
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from core.errors import UserError
from core.training.run import Training
from core.training.state import saved_states
from tests.tiny_training import command_line, log_of, losses, options_for, start_main

pytestmark = pytest.mark.usefixtures("one_thread")


def survive(clips: Path, workspace: Path, steps: int, kills: int, seed: int) -> dict[str, int]:
    """Start the same command again and again and SIGKILL it; then let it finish.

    Every other life is killed as soon as a save is under way, the others some steps and a fraction of a second after
    the start. Returns the kills, how many of them left an unfinished save behind, and the lives that ended by a kill
    before their first step.
    """
    dice, counts = random.Random(seed), {"kills": 0, "during a save": 0, "before the first step": 0}
    arguments = command_line(clips, workspace, max_steps=steps, save_every=2, prob_grid_distortion=0.5, ema_decay=0.9)
    log = workspace / "log.jsonl"
    while counts["kills"] < kills:
        process, begun = start_main(arguments), log.stat().st_size if log.exists() else 0
        in_a_save, lines = counts["kills"] % 2 == 0, dice.randint(0, 4)
        while process.poll() is None:
            written = log.read_bytes()[begun:].count(b"\n") if log.exists() else 0
            if saving(workspace) if in_a_save else written > lines:
                break
            time.sleep(0.001)
        if not in_a_save:
            time.sleep(dice.uniform(0, 0.2))
        process.kill()
        assert process.wait() == -signal.SIGKILL, process.stderr.read()
        counts["kills"] += 1
        counts["during a save"] += saving(workspace)
        counts["before the first step"] += lines == 0 and not in_a_save
    process = start_main(arguments)
    _, errors = process.communicate(timeout=600)
    assert process.returncode == 0, errors
    return counts


def saving(workspace: Path) -> bool:
    return any((workspace / "state").glob(".*.part"))


def check_survival(clips: Path, folder: Path, steps: int, kills: int) -> None:
    whole, parts = folder / "whole", folder / "parts"
    same = {"prob_grid_distortion": 0.5}
    Training(options_for(clips, whole, max_steps=steps, save_every=2, ema_decay=0.9, data=same)).run()
    counts = survive(clips, parts, steps, kills, seed=0)
    print(counts, "over", steps, "steps")
    assert counts["kills"] == kills and counts["during a save"] >= kills // 4
    assert losses(parts) == losses(whole)
    assert set(losses(parts)) == set(range(1, steps + 1))
    assert (parts / "model.safetensors").read_bytes()[-4096:] == (whole / "model.safetensors").read_bytes()[-4096:]
    assert not list(parts.rglob("*.part*"))


def test_a_killed_run_resumes_bit_exactly(training_clips: Path, tmp_path: Path) -> None:
    check_survival(training_clips, tmp_path, steps=8, kills=2)


@pytest.mark.slow
def test_a_run_killed_twenty_times_resumes_bit_exactly(training_clips: Path, tmp_path: Path) -> None:
    check_survival(training_clips, tmp_path, steps=60, kills=20)


def terminate_in_step(training: Training, step: int) -> None:
    """Have the process ask itself to end in the middle of this step."""
    intact = training.step.objective

    def interrupted(*args: object) -> dict:
        if args[-1] == step - 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return intact(*args)

    training.step.objective = interrupted


def test_sigterm_saves_and_exits_cleanly(training_clips: Path, tmp_path: Path) -> None:
    """And nothing else changes: the losses are those of a run that ends itself after as many steps."""
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    process = start_main(command_line(training_clips, parts, max_steps=100_000, save_every=0))
    log = parts / "log.jsonl"
    while process.poll() is None and not (log.exists() and log.read_text().count('"train"') >= 2):
        time.sleep(0.05)
    process.terminate()
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    (state,) = saved_states(parts)
    last = int(state.name)
    assert f"SIGTERM: saved at step {last}" in errors
    assert list(losses(parts)) == list(range(1, last + 1))
    training = Training(options_for(training_clips, whole, max_steps=100_000, save_every=0))
    terminate_in_step(training, last)
    training.run()
    assert losses(parts) == losses(whole)
    tensors = [(place / "model.safetensors").read_bytes()[-4096:] for place in (parts, whole)]
    assert tensors[0] == tensors[1]


def test_sigterm_loses_no_step(training_clips: Path, tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    Training(options_for(training_clips, whole, save_every=0)).run()
    training = Training(options_for(training_clips, parts, save_every=0))
    terminate_in_step(training, 2)
    before = signal.getsignal(signal.SIGTERM)
    training.run()
    assert signal.getsignal(signal.SIGTERM) == before
    assert [path.name for path in saved_states(parts)] == ["00000002"]
    assert set(losses(parts)) == {1, 2}
    Training(options_for(training_clips, parts, save_every=0)).run()
    assert losses(parts) == losses(whole)


def test_the_newest_states_and_the_best_weights_stay(training_clips: Path, tmp_path: Path) -> None:
    training = Training(options_for(training_clips, tmp_path, save_every=1, eval_every=2, keep_states=3))
    training.progress.best = -1000.0
    training.run()
    assert [path.name for path in saved_states(tmp_path)] == ["00000004", "00000005", "00000006"]
    scores = {record["step"]: record["psnr_novel"] for record in log_of(tmp_path, "validation")}
    assert set(scores) == {2, 4, 6} and training.progress.best == max(scores.values())
    assert (tmp_path / "best.safetensors").is_file()


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """Writes beyond this many bytes of a file fail, as they do on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_leaves_the_last_state_and_says_so(training_clips: Path, tmp_path: Path) -> None:
    training = Training(options_for(training_clips, tmp_path, save_every=2))
    save = training.accelerator.save_state

    def save_on_a_full_disk(folder: str) -> None:
        with files_of_at_most(2**30 if "00000002" in folder else 20_000):
            save(folder)

    training.accelerator.save_state = save_on_a_full_disk
    with pytest.raises(UserError, match=r"cannot save the run to .*00000004.*states saved before are whole"):
        training.run()
    assert [path.name for path in (tmp_path / "state").iterdir()] == ["00000002"]
    Training(options_for(training_clips, tmp_path, save_every=2)).run()
    assert set(losses(tmp_path)) == set(range(1, 7))
