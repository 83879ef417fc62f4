"""infer_3d.py from a text, with a text beside a picture, from an elevation, and with the published choice of views."""

from __future__ import annotations

import importlib
import logging
import re
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from core.cli import run
from core.images import load_image, save_image
from core.inference.network import Network
from core.multiview.diffusion import FLAWS, MultiViewDiffusion, Sampling
from core.options import PRESETS, CameraOptions
from core.ply import load_ply
from core.rendering.orbit import OrbitRenderer
from core.view_grid import ViewGrid
from tests.tiny import (
    LINE_3D,
    LINE_4D,
    SHORT,
    SIZE,
    STEPS,
    VIEW_FILES,
    Call,
    files,
    metadata,
    refused,
    square_frame,
)

pytest_plugins = ["tests.infer_place"]
pytestmark = pytest.mark.usefixtures("place", "one_thread")


@pytest.mark.usefixtures("weights")
def test_a_text_becomes_an_object(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tiny MVDream draws noise: its views get a plain ground here, as the real one's have."""

    def on_gray(self: object, vae: object, latents: torch.Tensor) -> torch.Tensor:
        noise = latents.mean(dim=2, keepdim=True).sigmoid().repeat_interleave(4, 3).repeat_interleave(4, 4)
        views = torch.full((1, 4, 3, SIZE, SIZE), 0.5)
        views[..., 8:20, 6:20] = 0.4 * noise[..., 8:20, 6:20]
        return views

    monkeypatch.setattr(MultiViewDiffusion, "_decode", on_gray)
    line = ["nano", *STEPS.split(), "--prompt", "A Red   fox!", "--seed", "3"]
    monkeypatch.setattr(sys, "argv", ["infer_3d.py", *line])
    run(importlib.import_module("infer_3d").main)
    names = {path.replace("x_", "a_red_fox_", 1) for path in VIEW_FILES}
    assert files() == {*names, "a_red_fox.mp4", "a_red_fox.ply", "a_red_fox_metadata_3d.json"}
    written = metadata("results/a_red_fox_metadata_3d.json")
    assert (written["prompt"], written["seed"]) == ("A Red   fox!", 3)
    assert written["side_views"]["origin"] == "MVDream"
    raw = load_image("results/a_red_fox_mv_000.png")
    assert bool((raw[:, 0] == 1).all()), "cut out, on white"
    ink = (raw.amin(0) < 0.9).nonzero()
    assert int((ink.amax(0) - ink.amin(0)).max()) + 1 == pytest.approx(0.8 * SIZE, abs=2)


@pytest.mark.usefixtures("weights")
def test_views_of_a_text_with_a_ground_stay_as_files_and_the_run_goes_on_from_them(
    call: Call, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The tiny MVDream draws noise: no plain ground. Then someone cuts the objects out, as the message says."""
    line = f"nano {STEPS} --prompt fox"
    status, text = call("infer_3d", line)
    assert (status, len(text.strip().splitlines())) == (2, 1)
    assert re.search(r"results/fox_mv_00\d\.png is not on a plain ground: cut the object out", text)
    assert "run the same command again" in text
    views = [Path(f"results/fox_mv_{view:03d}.png") for view in range(4)]
    assert files() == {*(path.name for path in views), "fox_metadata_3d.json"}
    drawn = [path.read_bytes() for path in views]
    assert call("infer_3d", line)[0] == 2 and [path.read_bytes() for path in views] == drawn, "unchanged: drawn again"
    for path in views:
        cut = Image.new("RGBA", (SIZE, SIZE), (0, 0, 0, 0))
        cut.paste((200, 90, 30, 255), (8, 6, 24, 26))
        cut.save(path)
    changed = [path.read_bytes() for path in views]
    monkeypatch.setattr(MultiViewDiffusion, "views", lambda *_: pytest.fail("drew again"))
    with caplog.at_level(logging.INFO):
        assert call("infer_3d", line) == (0, "")
    assert "fox: views from results/fox_mv_000.png" in caplog.text
    assert [path.read_bytes() for path in views] == changed
    assert {"fox.ply", "fox.mp4", "fox_000.png"} <= files()
    assert metadata("results/fox_metadata_3d.json")["side_views"]["origin"] == "image files"


@pytest.fixture
def sampled(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Sampling]]:
    """What the diffusion pipelines are asked for: prompt and sampling. They draw as before."""
    asked, views = [], MultiViewDiffusion.views

    def remember(self: MultiViewDiffusion, picture: object, prompt: str, seeds: object, sampling: Sampling) -> object:
        asked.append((prompt, sampling))
        return views(self, picture, prompt, seeds, sampling)

    monkeypatch.setattr(MultiViewDiffusion, "views", remember)
    return asked


@pytest.mark.usefixtures("weights")
def test_a_text_helps_a_picture_and_lgm_s_defaults_hold(call: Call, sampled: list[tuple[str, Sampling]]) -> None:
    """Guidance 5 with a picture and 7.5 with a text alone; LGM's flaws are avoided where there is a text."""
    assert call("infer_3d", f"{SHORT} {STEPS}")[0] == 0
    plain = load_image("results/x_mv_000.png")
    assert call("infer_3d", f"{SHORT} {STEPS} --prompt fox")[0] == 0
    assert not torch.equal(load_image("results/x_mv_000.png"), plain)
    assert call("infer_3d", f"nano {STEPS} --prompt fox --no-recenter --negative_prompt dull --elevation 20")[0] == 0
    assert {"fox.ply", "fox_mv_003.png"} <= files()
    assert sampled == [
        ("", Sampling(2, 5.0, "", 0.0)),
        ("fox", Sampling(2, 5.0, FLAWS, 0.0)),
        ("fox", Sampling(2, 7.5, "dull", 20.0)),
    ]


@pytest.mark.usefixtures("weights")
def test_an_elevation_reaches_every_camera_and_leaves_the_object_upright(
    call: Call, monkeypatch: pytest.MonkeyPatch, sampled: list[tuple[str, Sampling]]
) -> None:
    """ImageDream's cameras and the rays stand 30 degrees up; the views for infer_4d are tilted, the .ply is not."""
    elevations, run_network = [], Network._run

    def look(self: Network, grid: ViewGrid, *rest: object) -> object:
        elevations.append(torch.rad2deg(torch.asin(grid.cameras.positions[:, 1] / 1.5)))
        return run_network(self, grid, *rest)

    monkeypatch.setattr(Network, "_run", look)
    assert call("infer_3d", f"{SHORT} {STEPS} --elevation 30")[0] == 0
    assert sampled[0][1].elevation == 30
    torch.testing.assert_close(elevations[0], torch.full((4,), 30.0), atol=1e-3, rtol=0)
    assert metadata()["elevation"] == 30
    orbit = OrbitRenderer(CameraOptions(renderer="numba"), SIZE)
    (front,) = orbit(load_ply("results/x.ply")[None], (0.0,), elevations=[30.0])[0]
    level = orbit(load_ply("results/x.ply")[None], (0.0,))[0, 0]
    shown = load_image("results/x_000.png")
    assert float((front - shown).abs().mean()) < 0.005 < float((level - shown).abs().mean())


def test_what_single_view_and_files_do_not_take_is_refused(call: Call) -> None:
    for option in ("--prompt fox", "--elevation 10"):
        refused(call("infer_3d", f"{SHORT} {option}"), "--prompt and --elevation are for ImageDream", "hf download")
    for view in range(4):
        save_image(square_frame(view), f"data_test/x_mv_{view:03d}.png")
    refused(call("infer_3d", f"{SHORT} --prompt fox"), "views are read from files", "--view_generator imagedream")


def publish(monkeypatch: pytest.MonkeyPatch) -> None:
    """`big` with the published choice of the view generator, which the other tests do without."""
    big = PRESETS["big"]
    monkeypatch.setitem(PRESETS, "big", replace(big, side_views=replace(big.side_views, view_generator="published")))


def test_published_presets_stop_without_imagedream(
    call: Call, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Offline, and where fetching is not allowed: one line with the command. A named fallback is taken."""
    publish(monkeypatch)
    command = "hf download ashawkey/imagedream-ipmv-diffusers --local-dir pretrained/imagedream-ipmv-diffusers"
    other = "--view_generator single-view"
    for script, line in (("infer_3d", LINE_3D), ("infer_4d", LINE_4D)):
        refused(call(script, line), "it cannot be fetched now", command, other)
        refused(call(script, f"{line} --no-download"), "--no-download is given", command, other)
    with caplog.at_level(logging.INFO):
        assert call("infer_3d", f"{LINE_3D} --view_generator auto")[0] == 0
    assert "side views are made by the single-view model" in caplog.text


@pytest.mark.usefixtures("pipelines")
def test_published_presets_fetch_imagedream_by_themselves(
    call: Call, monkeypatch: pytest.MonkeyPatch, pipelines: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """And they take files that are there, as the published infer_4d does."""
    publish(monkeypatch)

    def fetch(name: str, local_files_only: bool = False, **_: object) -> str:
        if local_files_only:
            raise OSError("not in the cache")
        return str(pipelines / "pretrained" / Path(name).name)

    monkeypatch.setattr("huggingface_hub.snapshot_download", fetch)
    with caplog.at_level(logging.INFO):
        assert call("infer_3d", f"{LINE_3D} {STEPS}") == (0, "")
    assert "ashawkey/imagedream-ipmv-diffusers is not on this machine: fetching it" in caplog.text
    assert metadata()["side_views"]["origin"] == "ImageDream"
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *_, **__: pytest.fail("asked the hub"))
    assert call("infer_4d", LINE_4D) == (0, "")


def test_prompts_that_cannot_be(call: Call) -> None:
    refused(call("infer_4d", f"{SHORT} --prompt fox"), "--prompt is for infer_3d.py")
    refused(call("infer_3d", "nano --prompt ??"), "has no letters")
    refused(call("infer_3d", "nano --prompt fox --candidates 2"), "--candidates", "--prompt has none")
    refused(call("infer_3d", "nano --prompt fox"), "hf download ashawkey/mvdream-sd2.1-diffusers")
