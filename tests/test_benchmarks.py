"""The benchmarks' code at sizes that say nothing about speed: every row runs, ours and the reference agree."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from benchmarks import against
from benchmarks.__main__ import CPU, GPU, measure
from benchmarks.clips import PlainClip, write_clips
from benchmarks.measure import compared, table
from benchmarks.network import SMALL, network_pair, operations, random_grid
from benchmarks.reference import PlainModel, ViewByView
from benchmarks.render import around
from benchmarks.video import Stopwatch
from core.architectures import build_model
from core.data.clips import Clip
from core.errors import UserError
from core.options import PRESETS
from core.rendering import make_renderer
from tests.tiny import lopsided_gaussians

DEVICE = torch.device("cpu")


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """On a busy machine threads that wait for each other after every small operation take minutes."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


QUICK = {
    "clips": CPU["clips"],
    "big": CPU["big"],
    "novel views": CPU["novel_views"],
    "temporal": CPU["temporal"],
    "GPU forward": GPU["forward"],
    "GPU views": GPU["views"],
}
SLOW = {"render": CPU["render"], "training": CPU["training"], "video": CPU["video"]}
SLOW |= {f"GPU {name}": GPU[name] for name in ("video", "training")}


@pytest.mark.parametrize("name", [*QUICK, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)])
def test_rows_run_and_are_written(name: str, tmp_path: Path) -> None:
    output = tmp_path / "out.json"
    measure({name: (QUICK | SLOW)[name]}, 1, True, DEVICE, output)
    results = json.loads(output.read_text())
    assert results["machine"]["threads"] and results["machine"]["versions"]["torch"] == torch.__version__
    rows = [row for rows in results["tables"].values() for row in rows if row.get("times faster")]
    assert rows or name == "render"
    for row in rows:
        assert 0 < row["ours s"] < 60 and 0 < row["reference s"] < 60


def test_a_row_compares_seconds_with_the_reference_and_the_lower_bound() -> None:
    row = compared("x", ours=2.0, reference=5.0, bar=None, lower_bound=0.5)
    assert (row["times faster"], row["lower bound / ours"], row["bar"]) == (2.5, 0.25, "")
    lines = table([{"row": "a", "s": 0.123456}, {"row": "longer", "s": 12345.0}]).splitlines()
    assert lines[2:] == ["| a      | 0.123 |", "| longer | 12345 |"]


def test_two_checkouts_are_timed_in_turn_each_with_its_own_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, seconds in (("ours", 0.1), ("theirs", 0.4)):
        (tmp_path / name / "core").mkdir(parents=True)
        (tmp_path / name / "core" / "__init__.py").write_text(f"SECONDS = {seconds}\n")
    monkeypatch.setattr(against, "ROOT", tmp_path / "ours")
    program = "import core; print(core.SECONDS)"
    rows = {"sleep": lambda checkout, folder: float(against._run(["-c", program], checkout))}
    assert against.compare(tmp_path / "theirs", rows, 2) == [
        {"row": "sleep", "ours s": 0.1, "theirs s": 0.4, "ours / theirs": 0.25, "min": 0.25, "max": 0.25}
    ]
    with pytest.raises(UserError, match="is no checkout"):
        against.compare(tmp_path / "elsewhere", rows, 2)
    with pytest.raises(UserError, match=r"a row fails in .*theirs"):
        against.compare(tmp_path / "theirs", {"x": lambda checkout, _: against.calls("1 / 0", 1, checkout, _)}, 1)


def test_the_rows_of_a_comparison_run(tmp_path: Path) -> None:
    small = against._RENDER.format(num=50, views=2, size=16, gradients=True)
    assert 0 < against.calls(small, 2, against.ROOT, tmp_path) < 60


def test_the_stopwatch_counts_overlapping_calls_once(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = iter(range(10))
    monkeypatch.setattr("benchmarks.video.time.perf_counter", lambda: next(seconds))
    watch = Stopwatch()
    inner = watch.around(lambda: None)
    watch.around(inner)()  # from 0 to 3, and in it from 1 to 2
    inner()  # from 4 to 5
    assert watch.seconds == 4


@torch.inference_mode()
def test_the_reference_network_gives_the_same_values() -> None:
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
