"""Inference with LaCT: the published command lines with tiny random checkpoints, the files, and what is refused."""

from __future__ import annotations

import json
import math
import pickle
import shlex
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import tyro
from PIL import Image

import infer_nvs
from core.cli import run
from core.errors import UserError
from core.images import load_image
from core.lact import LaCT
from core.losses import psnr
from core.media import read_video
from core.nvs.inference import NovelViews, do_scene, run_inference
from core.nvs.scenes import PictureScene, open_scenes
from core.nvs.views import split_views
from core.nvs.weights import load_lact
from core.options.lact import LACT_PRESETS, NvsOptions, lact_preset
from core.places import HOME
from core.tensor_files import read_tensors
from tests.lact_place import tiny_lact
from tests.nvs_place import TINY_LACT, write_lact, write_list, write_scene

pytestmark = pytest.mark.usefixtures("one_thread")

SHIPPED = HOME / "pretrained/nano_lact.safetensors"
OBJECT = "python infer_nvs.py --load weight/obj_res{0}.pt --data_path data_example/objects.json --image_size {0} {0}"
SCENE = (
    "python infer_nvs.py --config config/lact_l24_d768_{1}.yaml --load weight/scene_res{0}.pt "
    "--data_path data_example/scenes.json --image_size {2} --scene_inference --num_all_views {3} --num_input_views {4}"
)
LINES = [
    OBJECT.format(256) + " --num_all_views 32 --num_input_views 20 --output_dir output/",
    SCENE.format("72x128", "ttt4x", "72 128", 300, 256),
]
SLOW_LINES = [
    OBJECT.format(512),
    OBJECT.format(1024),
    SCENE.format("128x128", "ttt2x", "128 128", 136, 128),
    SCENE.format("256x256", "ttt2x", "256 256", 136, 128),
    SCENE.format("512x512", "ttt2x", "512 512", 40, 32),
    SCENE.format("144x256", "ttt4x", "144 256", 72, 64),
    SCENE.format("288x512", "ttt4x", "288 512", 72, 64),
    SCENE.format("536x960", "ttt4x", "536 960", 52, 48),
]


def tiny_presets(monkeypatch: pytest.MonkeyPatch, patch_size: int = 8) -> None:
    """Every published configuration as a tiny network; the 4x ones are wider than the others."""
    for name, options in LACT_PRESETS.items():
        small = replace(TINY_LACT, patch_size=patch_size, fast_width=options.fast_width)
        monkeypatch.setitem(LACT_PRESETS, name, small)


def run_line(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", shlex.split(line)[1:])
    run(infer_nvs.main)


def check_line(line: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = shlex.split(line)
    at = words.index("--image_size")
    size = tuple(map(int, words[at + 1 : at + 3]))
    count, inputs = (
        int(words[words.index(flag) + 1]) if flag in words else default
        for flag, default in (("--num_all_views", 32), ("--num_input_views", 20))
    )
    tiny_presets(monkeypatch, patch_size=min(32, math.gcd(*size)))
    monkeypatch.chdir(folder)
    config = words[words.index("--config") + 1] if "--config" in words else "l24_d768_ttt2x"
    write_lact(folder / words[words.index("--load") + 1], lact_preset(config))
    listed = write_list(folder / "data_example", 1, views=count, size=(9, 16))
    listed.rename(folder / words[words.index("--data_path") + 1])
    run_line(line, monkeypatch)
    stem = "output/sample_000000"
    for view in (0, count - inputs - 1):
        for kind in ("rendered", "target"):
            assert Image.open(f"{stem}_view_{view:02d}_{kind}.png").size == size[::-1]
    assert not Path(f"{stem}_view_{count - inputs:02d}_rendered.png").exists()
    frames = 3 * inputs - 2 if "--scene_inference" in words else 120
    assert read_video(f"{stem}_turntable.mp4").num_frames == frames
    assert Image.open(f"{stem}_turntable.gif").size == size[::-1]
    record = json.loads(Path("output/metrics.json").read_text())["scenes"][0]
    assert len(record["views"]) == count - inputs and len(set(record["inputs"])) == inputs


def demo_line() -> str:
    """The command of ``make demo-nvs``."""
    shown = subprocess.run(
        ["make", "-n", "-o", ".venv/.installed", "demo-nvs"], cwd=HOME, capture_output=True, text=True
    )
    return next(line for line in shown.stdout.splitlines() if "infer_nvs.py" in line)


def test_the_demo_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On the shipped pictures; with tiny random weights in place of the shipped ones."""
    tiny_presets(monkeypatch)
    monkeypatch.chdir(tmp_path)
    write_lact(tmp_path / "pretrained/nano_lact.safetensors", lact_preset("nano"))
    run_line(demo_line() + " --no_lpips --no_gif", monkeypatch)
    record = json.loads((tmp_path / "results/demo/nvs/metrics.json").read_text())["scenes"][0]
    assert len(record["inputs"]) == 4 and len(record["views"]) == 16


@pytest.mark.skipif(not SHIPPED.exists(), reason="the weights are not there")
def test_the_shipped_network_knows_more_than_the_mean_of_its_inputs() -> None:
    words = shlex.split(demo_line())
    options = tyro.cli(NvsOptions, args=words[words.index("infer_nvs.py") + 1 :], use_underscores=True)
    network, (scene,) = NovelViews(replace(options, device="cpu")), open_scenes(options.data_path)
    split = split_views(scene, options)
    state, _, inputs = network.reconstruct(split)
    targets = split.load(split.targets)
    images = torch.stack(list(network.render(state, targets.cameras)))
    floor = psnr(inputs.mean(0, keepdim=True).expand_as(images), targets.images).mean()
    assert psnr(images, targets.images).mean() > floor + 0.5
    assert SHIPPED.stat().st_size < 16e6


@pytest.mark.parametrize("line", LINES)
def test_published_lines_run(line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the convolutions of LPIPS, most of the time; they run below."""
    distance = lambda images, targets: (images - targets).abs().mean((1, 2, 3))  # noqa: E731
    monkeypatch.setattr("core.nvs.inference.load_lpips", lambda: distance)
    check_line(line, tmp_path, monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize("line", SLOW_LINES)
def test_published_lines_run_at_every_resolution(line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check_line(line, tmp_path, monkeypatch)


@pytest.fixture
def options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> NvsOptions:
    """A tiny object, a tiny checkpoint."""
    tiny_presets(monkeypatch)
    return NvsOptions(
        data_path=str(write_scene(tmp_path / "object", views=6)),
        load=str(write_lact(tmp_path / "w.pt")),
        output_dir=str(tmp_path / "out"),
        image_size=(16, 16),
        num_all_views=6,
        num_input_views=4,
        video="none",
        lpips=False,
    )


def test_the_numbers_are_those_of_the_files(options: NvsOptions) -> None:
    run_inference(options)
    out = Path(options.output_dir)
    record = json.loads((out / "metrics.json").read_text())["scenes"][0]
    for v, view in enumerate(record["views"]):
        rendered, target = (
            load_image(out / f"sample_000000_view_{v:02d}_{kind}.png") for kind in ("rendered", "target")
        )
        assert psnr(rendered, target).item() == pytest.approx(view["psnr"], abs=0.05)
        (scene,) = open_scenes(options.data_path)
        torch.testing.assert_close(target, scene.load([view["view"]], (16, 16)).images[0], atol=1 / 255, rtol=0)
    assert not {view["view"] for view in record["views"]} & set(record["inputs"])


def test_any_number_of_targets_needs_the_memory_of_a_few(options: NvsOptions, monkeypatch: pytest.MonkeyPatch) -> None:
    """Images are rendered and read some at a time, and the result does not depend on how many."""
    network = NovelViews(options)
    (scene,) = open_scenes(options.data_path)
    split = split_views(scene, options)
    state, *_ = network.reconstruct(split)
    cameras = split.load(split.targets).cameras
    together = torch.stack(list(network.render(state, cameras)))
    seen = []
    monkeypatch.setattr(
        network.model,
        "render",
        lambda state, part: seen.append(part.shape[1]) or LaCT.render(network.model, state, part),
    )
    network.options = replace(options, views_at_once=1)
    torch.testing.assert_close(torch.stack(list(network.render(state, cameras))), together, atol=2e-6, rtol=0)
    assert seen == [1, 1]
    monkeypatch.setattr("core.nvs.inference._PIXELS_AT_ONCE", 16 * 16)
    network.options, loaded = options, []
    load = PictureScene.load
    monkeypatch.setattr(
        PictureScene, "load", lambda self, views, size: loaded.append(len(views)) or load(self, views, size)
    )
    do_scene(network, split, Path(options.output_dir) / "sample_000000", None)
    assert seen[2:] == [1, 1] and loaded == [4, 1, 1]


def test_scene_inputs_are_sorted_and_cameras_normalised(options: NvsOptions) -> None:
    (scene,) = open_scenes(options.data_path)
    split = split_views(scene, replace(options, scene_inference=True))
    assert list(split.inputs) == sorted(split.inputs) and len(split.targets) == 2
    positions = torch.stack(list(split.poses.values()))[:, :3, 3]
    assert positions.abs().max() == pytest.approx(1)
    assert torch.equal(split.load(split.targets).cameras.c2w[0], split.poses[split.targets[0]])


def test_autocast_computes_otherwise_than_float32_and_nearly_the_same(options: NvsOptions) -> None:
    (scene,) = open_scenes(options.data_path)
    split, images = split_views(scene, options), {}
    for precision in ("fp32", "bf16"):
        network = NovelViews(replace(options, precision=precision))
        state, *_ = network.reconstruct(split)
        assert state[0].w0.dtype == torch.float32
        images[precision] = torch.stack(list(network.render(state, split.load(split.targets).cameras)))
    difference = (images["fp32"] - images["bf16"]).abs().max()
    assert 0 < difference < 0.02


def test_a_converted_checkpoint_is_the_same_network(options: NvsOptions, tmp_path: Path) -> None:
    target = tmp_path / "w.safetensors"
    run_inference(replace(options, convert=str(target)))
    before, after = read_tensors(options.load)[0], read_tensors(target)[0]
    assert before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)
    with pytest.raises(UserError, match=r"ends in \.safetensors"):
        run_inference(replace(options, convert=str(tmp_path / "w.pt")))


def test_a_checkpoint_that_would_run_code_is_refused(options: NvsOptions, tmp_path: Path) -> None:
    class Harmful:
        def __reduce__(self) -> tuple:
            return (Path.touch, (tmp_path / "harm",))

    path = tmp_path / "harm.pt"
    torch.save({"model": {"input_linear.weight": Harmful()}}, path, pickle_module=pickle)
    with pytest.raises(UserError, match=r"harm\.pt is refused"):
        run_inference(replace(options, load=str(path)))
    assert not (tmp_path / "harm").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"layers": 3}, "the number of layers is 2 in the file and 3 in the model"),
        ({"fast_width": 4}, r"f\.w0 is \(2, 16, 32\) in the file and \(2, 16, 64\) in the model"),
        ({"patch_size": 8}, r"\(48, 32\) in the file and \(192, 32\) in the model"),
    ],
)
def test_a_checkpoint_of_another_network_is_named_with_both_numbers(
    changes: dict, message: str, tmp_path: Path
) -> None:
    torch.save({"model": tiny_lact().state_dict()}, tmp_path / "w.pt")
    with pytest.raises(UserError, match=message):
        load_lact(tiny_lact(**changes), tmp_path / "w.pt")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_input_views": 6}, "has 6 views and 6 are drawn: --num_input_views 6 leaves none to render"),
        ({"num_all_views": 300, "num_input_views": 128}, "has 6 views and 6 are drawn: --num_input_views 128"),
        ({"image_size": (20, 16)}, "20 x 16 pixels do not divide into patches of 8 x 8"),
        ({"data_path": "none.json"}, "none.json: there is no such file"),
        ({"data_path": ""}, "--data_path is missing"),
        ({"config": "l99"}, "--config l99 is unknown"),
        (
            {"load": "none.pt"},
            r"checkpoint none\.pt \(--load\) does not exist; published ones are on .* airsplay/lact_nvs",
        ),
    ],
)
def test_what_cannot_be_done_is_one_line(options: NvsOptions, changes: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        run_inference(replace(options, **changes))


def test_one_input_view_works_and_is_said(options: NvsOptions, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"):
        run_inference(replace(options, num_input_views=1, video="turntable", gif=False))
    assert "one input view" in caplog.text
    assert (Path(options.output_dir) / "sample_000000_turntable.mp4").is_file()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_target_views": 0}, "--num_target_views is 0"),
        ({"num_input_views": 40}, "--num_input_views is 40 and must lie between 1 and 32"),
        ({"num_all_views": 1}, "--num_all_views is 1"),
        ({"image_size": (0, 8)}, "--image_size is 0 8"),
        ({"num_input_views": 1, "video": "interpolate"}, "from input to input and there is one"),
        ({"num_input_views": 1, "scene_inference": True}, "from input to input and there is one"),
    ],
)
def test_options_that_cannot_be_are_refused(changes: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        NvsOptions(**changes)
