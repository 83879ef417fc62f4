"""infer_3d.py and infer_4d.py from the command line to the files, with a tiny network; bad input has its own file."""

from __future__ import annotations

import io
import logging
import re
from dataclasses import replace
from fractions import Fraction
from functools import partial
from pathlib import Path

import pytest
import torch
from PIL import Image

from core.images import load_image, save_image
from core.inference import progress
from core.inference.turntable import AZIMUTHS as FULL_TURN
from core.media import read_video
from core.options import PRESETS
from core.ply import load_ply
from tests.drawn import assert_frame_is_as_shown, assert_lift_is_as_shown
from tests.tiny import (
    LINE_3D,
    LINE_4D,
    SHORT,
    SHOWN,
    SIZE,
    Call,
    files,
    metadata,
    square_frame,
    square_video,
    write_checkpoint,
)

pytest_plugins = ["tests.infer_place"]
pytestmark = pytest.mark.usefixtures("place")

RESULTS_4D = ["x.html", "x.l4gm", "wo_interp_x.mp4", "wo_interp_x_fixed.mp4", "w_interp_x.mp4", "w_interp_x_fixed.mp4"]
RESULTS_4D += [f"x_{view:03d}.png" for view in range(4)] + ["x_metadata.json", "x_contact_sheet.png", "x_input.png"]


def test_published_command_lines_run_verbatim(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    """infer_3d hands its side views to infer_4d; every published name appears, and nothing else is left."""
    monkeypatch.setattr("core.inference.turntable.AZIMUTHS", FULL_TURN)
    assert call("infer_3d", LINE_3D)[0] == 0
    lifted = {"x.mp4", "x.ply", "x_orig.png", "x_input.png", "x_metadata_3d.json"}
    lifted |= {f"x{tag}_{view:03d}.png" for tag in ("", "_mv") for view in range(4)}
    assert files() == lifted
    video = read_video("results/x.mp4")
    assert (video.fps, video.num_frames, video.size) == (30, 90, (SHOWN, SHOWN))
    assert_lift_is_as_shown("x")
    side_views = metadata()["side_views"]
    handed_over = Path("results/x_001.png").read_bytes()

    assert call("infer_4d", LINE_4D)[0] == 0
    assert files() == lifted | set(RESULTS_4D) | {f"x/frame{number:04d}.ply" for number in range(1, 8)}
    assert metadata()["side_views"] == side_views
    assert Path("results/x_001.png").read_bytes() == handed_over
    for name, fps, frames, width in [
        ("wo_interp_x_fixed", 8, 3, 4 * SHOWN),
        ("w_interp_x_fixed", 24, 7, 4 * SHOWN),
        ("wo_interp_x", 30, 536, SHOWN),
        ("w_interp_x", 30, 536, SHOWN),
    ]:
        video = read_video(f"results/{name}.mp4")
        assert (video.fps, video.num_frames, video.size) == (fps, frames, (SHOWN, width))


def test_short_form_does_everything(call: Call) -> None:
    """Side views, Gaussians, videos and metadata, from a video alone."""
    assert call("infer_4d", SHORT) == (0, "")
    assert files() == {*RESULTS_4D, *(f"x/frame{number:04d}.ply" for number in range(1, 8))}
    assert {path.suffix for path in Path("results/x").iterdir()} == {".ply"}, "viewers take nothing else there"
    for number in (1, 2, 7):
        assert_frame_is_as_shown(number)
    sheet = load_image("results/x_contact_sheet.png")
    assert sheet.shape[-1] == 3 * 128, "a column for each of three frames"
    written = metadata()
    assert written["complete"]
    assert written["frame_rate"] == "24"
    assert written["times"] == pytest.approx([k / 24 for k in range(7)])
    assert written["side_views"]["origin"] == "single-view model"
    assert written["checkpoints"]["network"]["sha256"] != written["checkpoints"]["interpolation"]["sha256"]
    assert len(written["source"]["sha256"]) == 64
    assert written["renderer"] == "numba"
    assert written["versions"]["torch"] == torch.__version__
    assert "orientation viewer" in Path("results/x/frame0001.ply").read_bytes()[:300].decode(errors="replace")


@pytest.mark.parametrize(("frames", "fps", "rate"), [(9, 30, 3), (2, 30, 3), (5, 8, 2), (2, 8, 1)])
def test_first_side_views_in_workers_give_every_time_as_well(call: Call, frames: int, fps: int, rate: int) -> None:
    """The way of the shipped nano: one network for both, chunks side by side, inserted frames from the front video."""
    square_video(Path("data_test/x.mp4"), frames, fps)
    options = "--handover first --interp_sides first --chunk_lanes 2 --num_frames 2"
    options += " --interpresume pretrained/recon.safetensors"
    assert call("infer_4d", f"{SHORT} {options} --interpolate_rate {rate}") == (0, "")
    used = 1 + (frames - 1) // (2 if fps == 30 else 1)
    assert metadata()["num_frames"] == rate * (used - 1) + 1 == len(list(Path("results/x").glob("*.ply")))
    assert (metadata()["chunk_side_views"], metadata()["inserted_side_views"]) == ("first", "first")
    for index in range(used):  # Gaussians at frames are those without interpolation
        Path(f"results/x/frame{rate * index + 1:04d}.ply").rename(f"{index}.ply")
    assert call("infer_4d", f"{SHORT} {options} --interpresume None")[0] == 0
    for index in range(used):
        alone, finer = (load_ply(path) for path in (f"results/x/frame{index + 1:04d}.ply", f"{index}.ply"))
        assert torch.equal(alone.means, finer.means)


def test_the_folder_of_an_earlier_version_is_cleared_of_what_viewers_refuse(call: Call) -> None:
    """And of nothing else: a file that is not ours stays."""
    for name in ("x", "y"):
        Path("results", name).mkdir(parents=True)
        Path("results", name, "contact_sheet.png").touch()
        Path("results", name, "metadata.json").write_text('{"program": "infer_4d"}' if name == "x" else "[]")
        square_video(Path(f"data_test/{name}.mp4"), 1)
    assert call("infer_4d", "nano --test_path data_test --interpresume None")[0] == 0
    assert {path.name for path in Path("results/x").iterdir()} == {"frame0001.ply"}
    assert {path.name for path in Path("results/y").iterdir()} == {
        "frame0001.ply",
        "metadata.json",
        "contact_sheet.png",
    }


def test_the_last_line_names_what_was_written(call: Call, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        assert call("infer_3d", SHORT)[0] == 0
        last_3d = caplog.messages[-1]
        assert call("infer_4d", SHORT)[0] == 0
        last_4d = caplog.messages[-1]
    for line, names in (
        (last_3d, ["x.ply", "x.mp4", "x_000.png"]),
        (last_4d, ["x/frame0001.ply", "w_interp_x.mp4", "x_contact_sheet.png"]),
    ):
        for name in names:
            assert f"results/{name}" in line and Path("results", name).is_file()


def test_a_wide_video_gives_wide_pictures(call: Call) -> None:
    square_video(Path("data_test/x.mp4"), 1, height=24, width=48)
    assert call("infer_4d", f"{SHORT} --interpresume None")[0] == 0
    assert read_video("results/wo_interp_x.mp4").size == (20, SHOWN)
    assert read_video("results/wo_interp_x_fixed.mp4").size == (20, 4 * SHOWN)
    assert call("infer_3d", SHORT)[0] == 0
    assert read_video("results/x.mp4").size == (20, SHOWN)


def test_neither_program_replaces_the_record_of_the_other(call: Call) -> None:
    assert call("infer_4d", SHORT)[0] == 0
    sequence = Path("results/x_metadata.json").read_bytes()
    assert call("infer_3d", SHORT)[0] == 0
    assert Path("results/x_metadata.json").read_bytes() == sequence
    lift = Path("results/x_metadata_3d.json").read_bytes()
    assert call("infer_4d", SHORT)[0] == 0
    assert Path("results/x_metadata_3d.json").read_bytes() == lift
    assert metadata("results/x_metadata.json")["side_views"]["program"] == "infer_3d", "its side views are used"


def test_the_bar_moves_within_the_first_chunk(
    call: Call, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a terminal, and it ends at 100 %."""
    shown = io.StringIO()
    shown.isatty = lambda: True
    bar = partial(progress.tqdm, file=shown, mininterval=0)
    monkeypatch.setattr(progress, "tqdm", lambda **settings: bar(**settings))
    assert call("infer_4d", SHORT)[0] == 0
    percents = [int(number) for number in re.findall(r"reconstructing: +(\d+)%", shown.getvalue())]
    assert len({percent for percent in percents if percent > 0}) >= 3 and percents == sorted(percents)
    assert "100%" in shown.getvalue().splitlines()[-1].split("\r")[-1]


def test_without_interpolation_n_frames_give_n_results_and_old_files_are_removed(call: Call) -> None:
    assert call("infer_4d", SHORT)[0] == 0
    assert call("infer_4d", f"{SHORT} --interpresume None --num_frames 2")[0] == 0
    expected = {name for name in RESULTS_4D if not name.startswith("w_interp")}
    assert files() == expected | {"x/frame0001.ply", "x/frame0002.ply", "x/frame0003.ply"}
    assert metadata()["interpolate_rate"] is None


def test_nothing_is_random(call: Call) -> None:
    """The same command gives the same bytes, whatever the seed, and in a folder with other results as well."""
    assert call("infer_4d", f"{SHORT} --seed 1")[0] == 0
    first = {path: Path("results", path).read_bytes() for path in files()}
    assert call("infer_4d", f"{SHORT} --seed 2")[0] == 0
    assert {path: Path("results", path).read_bytes() for path in files()} == first


@pytest.mark.parametrize(
    ("fps", "frames", "results", "rate"),
    [
        (Fraction(30000, 1001), 5, 3, "15000/1001"),
        (Fraction(30), 1, 1, "15"),
        (Fraction(25), 3, 3, "25"),
        (Fraction(24), 2, 2, "24"),
        (Fraction(60), 5, 2, "15"),
    ],
)
def test_frame_rates_are_kept_exactly_and_no_frame_is_lost(
    call: Call, fps: Fraction, frames: int, results: int, rate: str
) -> None:
    square_video(Path("data_test/x.mp4"), frames, fps)
    assert call("infer_4d", f"{SHORT} --interpresume None --num_frames 2")[0] == 0
    assert (metadata()["num_frames"], metadata()["frame_rate"]) == (results, rate)
    assert read_video("results/wo_interp_x_fixed.mp4").num_frames == results


def test_one_frame_with_interpolation(call: Call) -> None:
    square_video(Path("data_test/x.mp4"), 1)
    assert call("infer_4d", SHORT)[0] == 0
    assert metadata()["num_frames"] == 1
    assert set(RESULTS_4D) < files()


@pytest.mark.parametrize(("height", "width"), [(21, 33), (48, 20)])
def test_odd_and_oblong_videos_are_letterboxed(call: Call, height: int, width: int) -> None:
    square_video(Path("data_test/x.mp4"), 2, height=height, width=width)
    assert call("infer_3d", SHORT)[0] == 0
    frame = load_image("results/x_orig.png")
    assert frame.shape == (3, SIZE, SIZE)
    bar = frame[:, :4] if width > height else frame[:, :, :4]
    assert float(bar.min()) > 0.99, "the bars are white"
    rows, columns = (frame[1] < 0.5).nonzero().amax(0) - (frame[1] < 0.5).nonzero().amin(0) + 1
    assert int(rows) / int(columns) == pytest.approx((height / 2) / (width / 4), rel=0.25), "not stretched"


def test_alpha_is_composited_on_white(call: Call) -> None:
    """An image is a video of one frame; what is transparent in it is white, whatever colour it hides."""
    pixels = Image.new("RGBA", (SIZE, SIZE), (0, 0, 0, 0))
    pixels.paste((255, 0, 0, 255), (8, 8, 24, 24))
    pixels.save("data_test/y.png")
    assert call("infer_3d", "nano --test_path data_test/y.png")[0] == 0
    frame = load_image("results/y_orig.png")
    assert frame[:, 0, 0].tolist() == [1, 1, 1]
    assert frame[:, 16, 16].tolist() == pytest.approx([1, 0, 0], abs=0.02)


def test_a_folder_gives_every_video_of_it(call: Call) -> None:
    """Images beside the videos are side views; the first frame of b is compared with them and used."""
    square_video(Path("data_test/b.MP4"), 2)
    for view in range(4):
        save_image(square_frame(0), f"data_test/b_{view:03d}.png")
    assert call("infer_4d", "nano --test_path data_test --interpresume None")[0] == 0
    assert metadata("results/b_metadata.json")["side_views"]["origin"] == "image files"
    assert metadata("results/x_metadata.json")["side_views"]["origin"] == "single-view model"
    assert Path("results/b_003.png").is_file()


def test_a_network_that_needs_side_views_takes_the_single_view_model_of_nano(
    call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    big = PRESETS["big"]
    resume = "pretrained/nano_recon.safetensors"
    side_views = replace(big.side_views, single_view_resume=resume)
    monkeypatch.setitem(PRESETS, "big", replace(big, side_views=side_views))
    status, line = call("infer_4d", LINE_4D)
    assert status == 2
    assert "no side-view images" in line
    assert resume in line
    write_checkpoint(Path(resume), seed=2)
    assert call("infer_4d", LINE_4D)[0] == 0
    assert metadata()["checkpoints"]["single_view"]["file"] == resume
