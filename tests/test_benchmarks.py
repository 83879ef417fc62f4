"""The benchmarks' code at sizes that say nothing about speed: every row runs, ours and the reference agree."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from tiny import lopsided_gaussians

from benchmarks.__main__ import CPU, GPU, measure
from benchmarks.clips import PlainClip, write_clips
from benchmarks.network import SMALL, network_pair, operations, random_grid
from benchmarks.profile import big, kind_of
from benchmarks.reference import PlainModel, ViewByView
from benchmarks.render import around
from benchmarks.report import table, write_into
from benchmarks.video import Stopwatch
from core.architectures import build_model
from core.data.clips import Clip
from core.options import PRESETS
from core.rendering import make_renderer

DEVICE = torch.device("cpu")


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """On a busy machine threads that wait for each other after every small operation take minutes."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


QUICK = {"clips": CPU["clips"], "big": CPU["big"], "GPU forward": GPU["forward"], "GPU views": GPU["views"]}
SLOW = {"render": CPU["render"], "training": CPU["training"], "video": CPU["video"]}
SLOW |= {f"GPU {name}": GPU[name] for name in ("video", "training")}


@pytest.mark.parametrize("name", [*QUICK, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)])
def test_rows_run_and_are_written(name: str, tmp_path: Path) -> None:
    output = tmp_path / "out.json"
    measure({name: (QUICK | SLOW)[name]}, 1, True, DEVICE, output)
    results = json.loads(output.read_text())
    assert results["machine"]["threads"] and results["machine"]["versions"]["torch"] == torch.__version__
    compared = [row for rows in results["tables"].values() for row in rows if row.get("times faster")]
    assert compared or name == "render"
    for row in compared:
        assert row["times faster"] == pytest.approx(row["reference s"] / row["ours s"])


def test_profiles_add_up_and_know_the_kernels() -> None:
    rows = big(tiny=True)
    for name in ("reference, s", "ours, s"):
        seconds = {row["big forward, T = 1"]: row[name] for row in rows}
        total = seconds.pop("all")
        assert sum(seconds.values()) == pytest.approx(total)
        assert seconds["convolutions"] > 0 and seconds["normalisation and SiLU"] > 0
    known = {
        "kernel softmax_rows": "softmax",
        "kernel rasterize": "rasteriser",
        "kernel _enter": "hull and neighbours",
        "kernel feature_distances": "LPIPS distances",
        "convolution.default": "convolutions",
        "add.Tensor": "other operations",
    }
    assert {name: kind_of(name) for name in known} == known


def test_what_runs_at_the_same_time_is_clocked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = iter(range(10))
    monkeypatch.setattr("benchmarks.video.time.perf_counter", lambda: next(seconds))
    watch = Stopwatch()
    inner = watch.around(lambda: None)
    watch.around(inner)()  # from 0 to 3, and in it from 1 to 2
    inner()  # from 4 to 5
    assert watch.seconds == 4


@torch.inference_mode()
def test_the_reference_network_computes_the_same() -> None:
    torch.manual_seed(0)
    model = build_model(SMALL).eval()
    grid = random_grid(SMALL, 2, DEVICE)
    torch.testing.assert_close(PlainModel(model).raw_channels(grid), model.raw_channels(grid), atol=1e-4, rtol=1e-4)
    ours, plain = network_pair(SMALL, DEVICE)
    a, b = ours.raw_channels(grid).float(), plain.raw_channels(grid)
    assert (a - b).norm() < 0.05 * b.norm()


def test_operations_of_the_published_network() -> None:
    """1.93 Tflop for one frame of four views, counted by others."""
    assert operations(PRESETS["big"].model, 1) == pytest.approx(1.93e12, rel=0.02)


def test_view_by_view_draws_the_same() -> None:
    renderer = make_renderer("numba")
    gaussians, cameras = lopsided_gaussians().map(lambda field: field[None]), around(3, 20)
    together, apart = renderer(gaussians, cameras), ViewByView(renderer)(gaussians, cameras)
    for name in ("image", "alpha", "depth"):
        assert torch.equal(getattr(together, name), getattr(apart, name))


def test_the_plain_reader_reads_nearly_the_same(tmp_path: Path) -> None:
    """It composites a second time, which lightens soft edges; inside and outside nothing differs."""
    (name,) = write_clips(tmp_path, count=1, size=32, frames=2)
    ours, plain = (clip(tmp_path, name).read([32, 36, 3], range(2), 32) for clip in (Clip, PlainClip))
    for mine, other in zip(ours, plain, strict=True):
        torch.testing.assert_close(mine, other, atol=0.02, rtol=0)


def test_tables_go_into_the_page(tmp_path: Path) -> None:
    facts = {
        "date": "2026-01-02T03:04",
        "cpu": "X",
        "threads": 2,
        "cores": 2,
        "load before": [0.5],
        "versions": {"torch": "2"},
    }
    tables = {"speed": [{"row": "a", "s": 0.123456}, {"row": "longer", "s": 12345.0}]}
    (tmp_path / "cpu.json").write_text(json.dumps({"machine": facts, "tables": tables}))
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- tables of cpu: begin -->\nold\n<!-- tables of cpu: end -->\nafter\n")
    write_into(page, tmp_path / "cpu.json")
    text = page.read_text()
    assert text.startswith("before\n") and text.endswith("after\n") and "old" not in text
    assert table(tables["speed"]) in text and "| 0.123 |" in text and "| 12345 |" in text
    page.write_text("nothing")
    with pytest.raises(SystemExit, match="has no place"):
        write_into(page, tmp_path / "cpu.json")
