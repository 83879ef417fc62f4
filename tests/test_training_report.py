"""The log of a run, read back across restarts, and the page made of it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator

from core.errors import UserError
from core.training.log import UNITS, Meter, RunLog, read_log
from core.training.report import page
from core.training.run import Training
from tests.tiny_training import ROOT, log_of, options_for

pytestmark = pytest.mark.usefixtures("one_thread")


def test_a_killed_and_resumed_run_reads_as_one(tmp_path: Path) -> None:
    log = RunLog(Accelerator(cpu=True), tmp_path)
    log.begin(0)
    for step in (1, 2, 3):
        log.write("train", step, total=float(step))
    with log.path.open("a") as file:
        file.write('{"kind": "train", "step": 4, "to')  # killed while writing
    log.begin(2)
    log.write("train", 3, total=3.5)
    assert [(r["kind"], r["step"], r.get("total")) for r in read_log(tmp_path)] == [
        ("start", 0, None),
        ("train", 1, 1.0),
        ("train", 2, 2.0),
        ("start", 2, None),
        ("train", 3, 3.5),
    ]


def test_a_damaged_log_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"holds no log.jsonl"):
        read_log(tmp_path)
    (tmp_path / "log.jsonl").write_text('{"kind": "start", "step": 0}\nnonsense\n{"kind": "train", "step": 1}\n')
    with pytest.raises(UserError, match="line 2 is not a record"):
        read_log(tmp_path)


class Clock:
    """Waits until it may go on."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now

    def loader(self, seconds: float, batches: int) -> Iterator[int]:
        for number in range(batches):
            self.now += seconds
            yield number


def test_means_skip_batches_that_are_not_finite_and_time_spent_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr("core.training.log.time.perf_counter", clock)
    meter, accelerator = Meter(), Accelerator(cpu=True)
    for value, finite in ((1.0, True), (float("nan"), False), (2.0, True)):
        meter.add({"total": torch.tensor(value)}, finite)
    with meter.paused():
        clock.now += 50
    for _ in meter.timed(clock.loader(seconds=3, batches=2)):
        clock.now += 1
    values = meter.read(accelerator, steps=2, samples=6)
    assert values.pop("memory_mib") > 0
    assert values == {
        "total": 1.5,
        "seconds_per_step": 4.0,
        "samples_per_second": 0.75,
        "data_wait_fraction": 0.75,
    }


def test_a_long_log_is_thinned_to_twenty_lines(tmp_path: Path) -> None:
    text = page(tmp_path, [{"kind": "train", "step": step, "total": 1.0} for step in range(1, 96)])
    shown = [int(step) for step in re.findall(r"<tr><td>(\d+)</td>", text)]
    assert shown == list(range(5, 96, 5))
    assert "95 of ? steps" in text and "options.json is missing" in text


def test_the_report_of_a_run(training_clips: Path, tmp_path: Path) -> None:
    workspace = tmp_path / "run"
    Training(options_for(training_clips, workspace, max_steps=2, preview_every=2)).run()
    numbers = {name for record in log_of(workspace) for name in record} - {"kind"}
    assert numbers <= set(UNITS)
    assert log_of(workspace, "start")[0]["units"]["psnr"] == "dB, mean over images"
    command = [sys.executable, "-m", "core.training.report"]
    subprocess.run([*command, str(workspace)], cwd=ROOT, check=True)
    text = (workspace / "report.html").read_text()
    for expected in (
        "2 of 2 steps",
        "fresh weights",
        "psnr_novel",
        "seconds_per_step",
        "train_sheet_0_2.png",
        "temporal_lr_factor",
    ):
        assert expected in text, expected
    for arguments, said in ([str(tmp_path)], "holds no log.jsonl"), ([], "WORKSPACE is missing"):
        done = subprocess.run([*command, *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 2 and len(done.stderr.splitlines()) == 1 and said in done.stderr
    assert json.loads((workspace / "options.json").read_text())["train"]["max_steps"] == 2
