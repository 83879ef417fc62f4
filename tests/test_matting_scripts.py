"""Everything that --test_path can name, through the scripts: one picture of the input first, then the result."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from core.images import load_image
from core.inference.inputs import open_sources
from core.matting.saliency import load_finder
from core.media import read_video
from core.options.input import InputOptions
from tests.matting_place import alpha_frames, find_red, masks_of_a_walk, phone_video
from tests.test_infer_bad_input import refused
from tests.test_media import ffmpeg
from tests.tiny import SHORT, Call, files, metadata, square_video

pytest_plugins = ["tests.infer_place"]
pytestmark = pytest.mark.usefixtures("place")

SIZE = (48, 80)
QUICK = "--interpresume None"


@pytest.fixture
def with_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """The stand-in in the place of U2-Net."""
    monkeypatch.setattr("core.matting.prepare.load_finder", {"u2net": find_red}.__getitem__)


def walk(frames: int = 3) -> list[np.ndarray]:
    return masks_of_a_walk(frames, *SIZE)


@pytest.mark.usefixtures("with_model")
def test_a_phone_video_becomes_a_sequence(call: Call) -> None:
    phone_video(Path("data_test/phone.mp4"), walk())
    assert call("infer_4d", f"nano --test_path data_test/phone.mp4 {QUICK}")[0] == 0
    assert {"phone_input.png", "phone_input.mov", "phone/frame0003.ply", "wo_interp_phone.mp4"} <= files()
    assert load_image("results/phone_input.png").shape == (3, 128, 3 * 128)
    source = metadata("results/phone_metadata.json")["source"]
    assert (source["file"], source["matte"], source["num_frames"]) == ("phone.mp4", "rembg", 3)
    assert call("infer_3d", "nano --test_path data_test/phone.mp4")[0] == 0


@pytest.mark.usefixtures("with_model")
def test_cut_out_beforehand_it_is_taken_as_it_is(call: Call, capsys: pytest.CaptureFixture[str]) -> None:
    """By a script of its own, with alpha or on white, many at once; the frames are those that infer_4d makes itself."""
    for name in ("one", "two"):
        phone_video(Path(f"phone/{name}.mp4"), walk())
    for suffix in ("mov", "mp4"):
        assert call("matte", f"--test_path phone/*.mp4 --workspace cut{suffix} --format {suffix}")[0] == 0
        assert files(f"cut{suffix}") == {f"one.{suffix}", f"two.{suffix}"}
    taken = list(open_sources("cutmov", "results", InputOptions(), lambda name: [name]))
    (own, _) = open_sources("phone", "results", InputOptions(), lambda name: [name])
    assert [(source.video.path.name, source.matte) for source in taken] == [("one.mov", "none"), ("two.mov", "none")]
    assert own.matte == "rembg"
    assert all((a == b).all() for a, b in zip(own.frames(32), taken[0].frames(32), strict=True))
    assert call("infer_4d", f"nano --test_path cutmp4/one.mp4 {QUICK}")[0] == 0
    assert metadata("results/one_metadata.json")["source"]["matte"] == "none"


def test_the_published_kind_of_video_is_taken_as_it_is(call: Call) -> None:
    """No frame is changed and none is written; only the picture of the input is new."""
    assert call("infer_4d", f"{SHORT} {QUICK}")[0] == 0
    assert "x_input.png" in files() and "x_input.mov" not in files()
    (source,) = open_sources("data_test/x.mp4", "results", InputOptions(), lambda name: [name])
    assert source.video == read_video("data_test/x.mp4") and source.matte == "none"
    assert all((a == b).all() for a, b in zip(source.video.frames(source.indices), source.video.frames(), strict=True))


def png_folder(frames: list[np.ndarray]) -> str:
    folder = Path("data_test/walk")
    folder.mkdir(parents=True)
    for k, frame in enumerate(frames):
        Image.fromarray(frame).save(folder / f"frame_{k:03d}.png")
    return str(folder)


def encoded(name: str, *codec: str) -> str:
    png_folder(alpha_frames(walk(6)))
    ffmpeg("-framerate", 15, "-i", "data_test/walk/frame_%03d.png", *codec, Path("data_test", name))
    return f"data_test/{name}"


ALPHA = {
    "folder": lambda: png_folder(alpha_frames(walk(6))),
    "pattern": lambda: png_folder(alpha_frames(walk(6))) + "/frame_*.png",
    "vp9": lambda: encoded("walk.webm", "-c:v", "libvpx-vp9", "-pix_fmt", "yuva420p", "-crf", "4", "-b:v", "0"),
    "prores": lambda: encoded("walk.mov", "-c:v", "prores_ks", "-profile:v", "4444", "-pix_fmt", "yuva444p10le"),
    "gif": lambda: encoded("walk.gif", "-vf", "split[a][b];[a]palettegen[p];[b][p]paletteuse"),
    "apng": lambda: encoded("walk.png", "-f", "apng"),
}


@pytest.mark.parametrize("kind", ALPHA)
def test_alpha_of_every_kind_is_read(kind: str) -> None:
    """Each gives the same cropped frames, but for the loss of its codec."""
    path = ALPHA[kind]()
    (source,) = open_sources(path, "results", InputOptions(matte="alpha"), lambda name: [name])
    if kind == "apng":  # a picture by its name: centred as pictures are
        assert (source.name, source.matte, len(source.indices)) == ("walk", "none", 6)
        return
    assert (source.name, source.matte, len(source.indices)) == ("walk", "alpha", 6)
    assert float(source.rate) == pytest.approx(15, rel=0.02), "GIF counts hundredths of a second"
    for k, pixels in enumerate(source.video.pixels()):
        assert 0.05 < (pixels[..., 3] > 127).mean() < 0.5, k
        red = pixels[pixels[..., 3] > 250][:, :3]
        assert abs(np.median(red, axis=0) - [220, 40, 30]).max() < 12, kind


def test_numbered_pictures_need_one_size_and_other_pictures_are_single(call: Call) -> None:
    folder = Path(png_folder(alpha_frames(walk(6))))
    Image.new("RGBA", (9, 9)).save(folder / "frame_003.png")
    refused(call("infer_4d", f"nano --test_path {folder}"), "frame_003.png has 9 x 9 pixels", "need one size")
    for k in range(2, 6):
        (folder / f"frame_{k:03d}.png").rename(folder / f"other{k}.png")
    names = [s.name for s in open_sources(str(folder), "results", InputOptions(matte="none"), lambda name: [name])]
    assert names == ["other2", "other3", "other4", "other5"], "NAME_000.png, NAME_001.png are side views"


def names_and_lengths(pattern: str) -> list[tuple[str, int]]:
    return [(s.name, len(s.indices)) for s in open_sources(pattern, "results", InputOptions("none"), lambda n: [n])]


def test_numbers_may_grow_without_leading_zeros() -> None:
    folder = Path(png_folder(alpha_frames(walk(12))))
    for k in range(12):
        (folder / f"frame_{k:03d}.png").rename(folder / f"frame_{k}.png")
    (source,) = open_sources(str(folder), "results", InputOptions("none"), lambda name: [name])
    assert source.given.pictures == tuple(folder / f"frame_{k}.png" for k in range(12))
    (folder / "frame_1.png").rename(folder / "frame_0001.png")
    assert names_and_lengths(str(folder))[0] == ("frame_0", 1), "padded and not: single pictures"


def test_clips_of_several_folders_are_not_mixed() -> None:
    folder = Path(png_folder(alpha_frames(walk(6))))
    shutil.copytree(folder, "data_test/again")
    assert names_and_lengths("data_test/*/frame_*.png") == [("again", 6), ("walk", 6)]
    for k in range(6):
        shutil.copy(folder / "frame_000.png", folder / f"{k:02d}.png")
    assert names_and_lengths(str(folder)) == [("walk", 6), ("frame", 6)], "bare numbers have the folder's name"


@pytest.mark.parametrize("missing", ["rembg", "u2net.onnx"])
def test_a_video_with_a_background_without_the_model(call: Call, monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    if missing == "rembg":
        monkeypatch.setitem(sys.modules, "rembg", None)
    else:
        pytest.importorskip("rembg")
        monkeypatch.setenv("U2NET_HOME", "none")
    phone_video(Path("data_test/y.mp4"), walk())
    line = f"nano --test_path data_test/y.mp4 {QUICK}"
    load_finder.cache_clear()
    for script in ("infer_3d", "infer_4d"):
        refused(call(script, line), "y.mp4 has a background, and ", missing, "--matte none keeps the background")
    assert not files()
    for way in ("--allow_background", "--matte none"):
        assert call("infer_4d", f"{line} {way}")[0] == 0


def test_both_names_of_the_rate(call: Call) -> None:
    square_video(Path("data_test/x.mp4"), 8, 8)
    for option in ("--fps", "--target_fps"):
        assert call("infer_4d", f"{SHORT} {QUICK} {option} 4 --start 0.25 --duration 0.5")[0] == 0
        record = json.loads(Path("results/x_metadata.json").read_text())
        assert (record["num_frames"], record["frame_rate"]) == (2, "4")


def test_a_pattern_that_matches_nothing(call: Call) -> None:
    refused(call("infer_4d", "nano --test_path data_test/*.webm"), "no video matches data_test/*.webm")
    refused(call("matte", "--test_path none.mp4"), "none.mp4")
