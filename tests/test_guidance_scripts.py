"""refine_4d.py --guidance and the preview of a fit, with tiny networks."""

from __future__ import annotations

import shutil
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest
import torch
from torch import Tensor

from core.images import save_image
from core.inference import preview as preview_module
from core.inference.preview import Preview
from core.media import read_video
from core.options import PRESETS, CameraOptions
from core.options.refine import RefineOptions
from core.tracking.fit import Fit
from core.tracking.tracks import load_tracks
from tests.test_tracking import SMALL, make_fit
from tests.tiny import SHORT, Call, files, interrupted_joint_stage, metadata, square_frame
from tests.tiny_guidance import SIZE, SVD, ZERO123, write_svd, write_zero123

pytest_plugins = ["tests.infer_place"]
pytestmark = pytest.mark.usefixtures("place", "one_thread")

FEW = replace(SMALL, canonical_steps=1, track_steps=1, joint_steps=4)


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("published")
    write_svd(home / SVD)
    write_zero123(home / ZERO123)
    return home


@pytest.fixture
def pretrained(published: Path, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both networks where the fetch commands put them, and a fit of few steps."""
    shutil.copytree(published / "pretrained", "pretrained", dirs_exist_ok=True)
    save_image(square_frame(0), Path("picture.png"))
    monkeypatch.setitem(PRESETS, "nano", replace(PRESETS["nano"], refine=replace(FEW, nodes=8)))
    monkeypatch.setattr("core.guidance.svd.SIZE", SIZE)


@pytest.mark.usefixtures("pretrained")
@pytest.mark.parametrize("name", ["zero123", "svd-refine"])
def test_guidance_changes_the_fit_and_its_seed_repeats_it(call: Call, name: str) -> None:
    means = []
    for guidance in ("none", name, name):
        assert call("refine_4d", f"{SHORT} --export packed --guidance {guidance}")[0] == 0
        means.append(load_tracks("results/x_tracks.npz").gaussians.means)
    plain, guided, again = means
    assert torch.equal(guided, again) and not torch.equal(plain, guided)
    written = metadata("results/x_metadata.json")
    assert (written["refinement"]["guidance"], written["seed"]) == (name, 0)


@pytest.mark.usefixtures("pretrained")
def test_a_picture_alone_is_stage_one(call: Call) -> None:
    """Feed-forward Gaussians, then score distillation from all sides."""
    assert call("refine_4d", "nano --test_path picture.png --guidance zero123 --guidance_views 2")[0] == 0
    assert load_tracks("results/picture_tracks.npz").num_frames == 1


@pytest.mark.usefixtures("pretrained")
def test_ctrl_c_keeps_what_a_guided_fit_has_and_it_goes_on(call: Call) -> None:
    line = f"{SHORT} --export packed --guidance zero123"
    assert call("refine_4d", line)[0] == 0
    whole = load_tracks("results/x_tracks.npz").gaussians.means
    with interrupted_joint_stage(2):
        assert call("refine_4d", line)[0] == 130
    assert {"x_tracks.npz", "x_refine.safetensors"} <= files()
    assert metadata("results/x_metadata.json")["complete"]
    assert call("refine_4d", line)[0] == 0
    assert torch.equal(load_tracks("results/x_tracks.npz").gaussians.means, whole)


def guided_fit(options: RefineOptions, calls: list[float]) -> Fit:
    """A fit whose guide wants nothing and takes no random numbers."""
    fit = make_fit(options)

    def nothing(object_at: object, done: float, generator: torch.Generator) -> Tensor:
        calls.append(done)
        return 0 * object_at(torch.tensor([0, 2])).means.sum()

    fit.guide = nothing
    return fit


def test_guidance_comes_every_so_many_joint_steps_and_without_it_nothing_changes() -> None:
    calls: list[float] = []
    plain, guided = make_fit(FEW), guided_fit(replace(FEW, guidance_every=2), calls)
    assert plain.run() and guided.run()
    assert calls == [0.0, 0.5]
    assert torch.equal(plain.frames().means, guided.frames().means)
    assert torch.equal(plain.frames().colors, guided.frames().colors)


class Clock:
    """Time that passes only where it is told to."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_preview_takes_a_small_share_of_the_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "only").mkdir()
    clock, cost = Clock(), 2.0
    monkeypatch.setattr(preview_module, "perf_counter", clock)
    fit, spent = make_fit(FEW), 0.0
    preview = Preview(tmp_path / "only" / "x.mp4", Fraction(8), CameraOptions())
    draw = preview._render

    def slow(fit: Fit) -> Tensor:
        nonlocal spent
        clock.now, spent = clock.now + cost, spent + cost
        return draw(fit)

    monkeypatch.setattr(preview, "_render", slow)
    preview(fit)
    assert not preview.path.exists(), "a short fit has none"
    while clock.now < 400:
        clock.now += 1.0
        preview(fit)
    assert 0.02 < spent / clock.now < 0.05
    video = read_video(preview.path)
    assert (video.num_frames, video.size, video.fps) == (4, (192, 384), 8)
    assert [path.name for path in preview.path.parent.iterdir()] == ["x.mp4"]


@pytest.mark.usefixtures("pretrained")
@pytest.mark.parametrize("wanted", [True, False])
def test_a_preview_is_there_during_the_fit_alone(call: Call, monkeypatch: pytest.MonkeyPatch, wanted: bool) -> None:
    monkeypatch.setattr(preview_module, "FIRST", 0.0)
    step, there = Fit._joint_step, []

    def watched(fit: Fit, number: int) -> None:
        there.append(Path("results/x_preview.mp4").exists())
        step(fit, number)

    monkeypatch.setattr(Fit, "_joint_step", watched)
    assert call("refine_4d", f"{SHORT} --export packed {'' if wanted else '--no-preview'}")[0] == 0
    assert set(there) == {wanted}
    assert "x_preview.mp4" not in files()
