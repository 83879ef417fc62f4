"""The log of a run, read back as one story, and the page made of it."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from xml.etree import ElementTree

import pytest
import torch
from accelerate import Accelerator

from core.errors import UserError
from core.training.curves import chart, ticks
from core.training.log import UNITS, Meter, RunLog, read_log
from core.training.run import Training
from tests.tiny_training import ROOT, log_of, options_for

pytestmark = pytest.mark.usefixtures("one_thread")
SVG = "{http://www.w3.org/2000/svg}"


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
    with pytest.raises(UserError, match="line 2 is no record"):
        read_log(tmp_path)


def test_means_leave_out_what_is_not_finite_and_time_spent_elsewhere() -> None:
    meter, accelerator = Meter(), Accelerator(cpu=True)
    for value, finite in ((1.0, True), (float("nan"), False), (2.0, True)):
        meter.add({"total": torch.tensor(value)}, finite)
    with meter.paused():
        time.sleep(0.2)
    list(meter.timed(time.sleep(0.05) for _ in range(2)))
    values = meter.read(accelerator, steps=2, samples=6)
    assert values["total"] == 1.5
    assert 0.05 <= values["seconds_per_step"] < 0.15
    assert values["samples_per_second"] == pytest.approx(3 / values["seconds_per_step"])
    assert values["data_wait_fraction"] > 0.8
    assert 50 < values["memory_mib"] < 100_000


def test_ticks_are_round_and_inside() -> None:
    assert ticks(0, 100) == [0, 20, 40, 60, 80, 100]
    assert ticks(0.013, 0.031) == [0.015, 0.02, 0.025, 0.03]
    assert ticks(3, 3) == [3]


def test_a_chart_shows_its_lines_within_its_frame() -> None:
    text = chart("loss & <co>", {"a": [(0, 1.0), (10, 3.0)], "b": [(0, 2.0), (5, float("nan")), (10, 2.5)]}, "dB")
    root = ElementTree.fromstring(text)
    lines = [line.get("points").split() for line in root.iter(f"{SVG}polyline")]
    assert [len(points) for points in lines] == [2, 2]
    for points in lines:
        for x, y in (map(float, point.split(",")) for point in points):
            assert 0 <= x <= float(root.get("width")) and 0 <= y <= float(root.get("height"))
    (_, low), (_, high) = (map(float, point.split(",")) for point in lines[0])
    assert high < low  # larger values are further up
    assert {"a", "b", "loss & <co>, dB"} <= {text.text for text in root.iter(f"{SVG}text")}


def test_the_report_of_a_run(training_clips: Path, tmp_path: Path) -> None:
    workspace = tmp_path / "run"
    Training(options_for(training_clips, workspace, max_steps=2, preview_every=2)).run()
    numbers = {name for record in log_of(workspace) for name in record} - {"kind"}
    assert numbers <= set(UNITS)
    assert log_of(workspace, "start")[0]["units"]["psnr"] == "dB, mean over images"
    command = [sys.executable, "-m", "core.training.report"]
    subprocess.run([*command, str(workspace)], cwd=ROOT, check=True)
    page = (workspace / "report.html").read_text()
    for wanted in (
        "2 of 2 steps",
        "fresh weights",
        "psnr_novel",
        "train: total",
        "train_sheet_0_2.png",
        "temporal_lr_factor",
    ):
        assert wanted in page, wanted
    subprocess.run([*command, str(workspace), "--chart", "total"], cwd=ROOT, check=True)
    ElementTree.fromstring((workspace / "total.svg").read_text())
    done = subprocess.run([*command, str(tmp_path)], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1
    assert json.loads((workspace / "options.json").read_text())["train"]["max_steps"] == 2
