"""Quality against the number of inputs: every system on the same targets, the floors right, rows of all counts."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from benchmarks import view_curves
from benchmarks.measure import MachineLimits
from benchmarks.view_curves import COUNTS, TARGETS, mean_input, nearest_input, split
from core.errors import UserError
from core.losses import psnr
from core.nvs.scenes import open_scenes
from core.options.lact import LACT_PRESETS, LactOptions
from tests.nvs_place import write_lact, write_list, write_scene

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two scenes with views for all numbers of inputs."""
    return write_list(tmp_path_factory.mktemp("balls"), 2, views=max(COUNTS) + TARGETS, size=(16, 16))


def test_more_inputs_contain_the_fewer_and_no_target(scenes: Path) -> None:
    inputs, targets = split(open_scenes(scenes)[0], 16, seed=3)
    assert len(inputs.images) == max(COUNTS) and len(targets.images) == TARGETS
    distances = torch.cdist(inputs.cameras.positions, targets.cameras.positions)
    assert distances.min() > 1e-3


def test_a_scene_with_too_few_views_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"opencv_cameras\.json has 6 views and must have 32"):
        split(open_scenes(write_scene(tmp_path, views=6))[0], 16, seed=0)


def test_the_floors_are_the_mean_and_the_nearest_input(scenes: Path) -> None:
    inputs, _ = split(open_scenes(scenes)[0], 16, seed=0)
    assert torch.equal(nearest_input(inputs, inputs[[5, 2]]), inputs.images[[5, 2]])
    torch.testing.assert_close(mean_input(inputs, inputs[:3])[2], inputs.images.mean(0))


def test_the_program_writes_all_rows(scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nano = LactOptions(8, 8, 1, head_dim=8, fast_head_dim=8)
    monkeypatch.setitem(LACT_PRESETS, "nano", nano)
    monkeypatch.setattr(view_curves, "load_lpips", lambda: lambda a, b: (a - b).abs().mean((1, 2, 3)))
    monkeypatch.setattr(MachineLimits, "measured", staticmethod(lambda device: MachineLimits(1e9, 1e9, 1e9, 1.0)))
    weights = {
        mixer: write_lact(tmp_path / f"{mixer}.safetensors", replace(nano, mixer=mixer))
        for mixer in ("lact", "attention")
    }
    words = f"view_curves --scenes {scenes} --lact {weights['lact']} --attention {weights['attention']}"
    monkeypatch.setattr(sys, "argv", f"{words} --size 16 --rounds 1 --out {tmp_path / 'out.json'}".split())
    view_curves.main()
    tables = json.loads((tmp_path / "out.json").read_text())["tables"]
    systems = ["lact", "attention", "mean of inputs", "nearest input"]
    assert [(row["inputs"], row["system"]) for row in tables["quality"]] == [(n, s) for n in COUNTS for s in systems]
    floors = [row for row in tables["quality"] if row["inputs"] == 1 and "input" in row["system"]]
    assert floors[0]["psnr"] == floors[1]["psnr"]  # one input is its own mean and the nearest
    pairs = [split(scene, 16, number) for number, scene in enumerate(open_scenes(scenes))]
    expected = torch.cat([psnr(i.images[:1].expand_as(t.images), t.images) for i, t in pairs]).mean()
    assert floors[0]["psnr"] == pytest.approx(expected.item(), abs=1e-3)
    assert len(tables["novel views, state of a scene"]) == len(COUNTS)
    assert Image.open(tmp_path / "out.png").width == TARGETS * 128
