"""infer_3d.py with every seeder, from the command line to the files and on through infer_4d.py, with tiny networks."""

from __future__ import annotations

import logging
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from core.images import load_image, save_image
from core.inference.network import Network
from core.media import write_video
from core.options import PRESETS
from core.ply import load_ply
from tests.drawn import assert_frame_is_as_shown, assert_lift_is_as_shown
from tests.tiny import (
    IMAGEDREAM,
    MVDREAM,
    SHORT,
    SIZE,
    STEPS,
    TINY_MODEL,
    VIEW_FILES,
    Call,
    files,
    metadata,
    refused,
    square_frame,
    write_checkpoint,
)

pytest_plugins = ["tests.infer_place"]
pytestmark = pytest.mark.usefixtures("place", "one_thread")


@pytest.mark.usefixtures("weights")
def test_auto_takes_imagedream_where_its_weights_are_and_infer_4d_takes_over(
    call: Call, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        assert call("infer_3d", f"{SHORT} {STEPS} --seed 4")[0] == 0
    assert "side views are made by ImageDream" in caplog.text
    assert set(VIEW_FILES) < files()
    written = metadata()
    assert written["side_views"]["origin"] == "ImageDream"
    assert written["seed"] == 4
    assert written["diffusion"] == {"imagedream": IMAGEDREAM}
    assert [line["candidate"] for line in written["candidates"]] == ["seed 4"]
    assert load_ply("results/x.ply").num > 0
    raw = [load_image(f"results/x_mv_{view:03d}.png") for view in range(4)]
    assert not torch.allclose(raw[0], raw[1], atol=0.05)
    handed_over = Path("results/x_001.png").read_bytes()
    assert call("infer_4d", SHORT)[0] == 0
    assert Path("results/x_001.png").read_bytes() == handed_over
    assert metadata()["side_views"] == written["side_views"]
    assert_frame_is_as_shown(7)


@pytest.mark.usefixtures("weights")
def test_the_seed_makes_imagedream_repeatable(call: Call) -> None:
    seen = []
    for seed in (1, 1, 2):
        assert call("infer_3d", f"{SHORT} {STEPS} --seeder imagedream --offload --seed {seed}")[0] == 0
        seen.append({path: Path("results", path).read_bytes() for path in files() if path.endswith((".png", ".ply"))})
    assert seen[0] == seen[1]
    assert all(seen[0][f"x_mv_{view:03d}.png"] != seen[2][f"x_mv_{view:03d}.png"] for view in range(4))


@pytest.mark.usefixtures("weights")
def test_infer_4d_alone_makes_the_views_as_well(call: Call) -> None:
    assert call("infer_4d", f"{SHORT} {STEPS} --interpresume None --candidates 2 --seed 5")[0] == 0
    record = metadata()["side_views"]
    assert (record["program"], record["origin"]) == ("infer_4d", "ImageDream")
    assert {line["candidate"] for line in record["candidates"]} == {"seed 5", "seed 6"}
    assert_frame_is_as_shown(3, "wo_interp_x_fixed")


def test_auto_without_weights_says_what_it_takes_instead_and_how_to_get_them(
    call: Call, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        assert call("infer_3d", SHORT)[0] == 0
    written = {r.levelno: r.message for r in caplog.records if "ImageDream" in r.message or "made by" in r.message}
    assert written[logging.INFO] == "side views are made by the single-view model", "one short line"
    assert f"hf download ashawkey/imagedream-ipmv-diffusers --local-dir {IMAGEDREAM}" in written[logging.DEBUG]
    assert metadata()["side_views"]["origin"] == "single-view model"
    assert metadata()["seed"] == "none: nothing is random"


@pytest.mark.usefixtures("weights")
@pytest.mark.parametrize(
    ("seeder", "labels"),
    [
        ("imagedream", {"seed 7", "seed 8", "seed 9"}),
        ("single-view", {"as it is", "mirrored, as it is", "size 0.85"}),
    ],
)
def test_candidates_are_ranked_and_the_best_is_kept(
    call: Call, caplog: pytest.LogCaptureFixture, seeder: str, labels: set[str]
) -> None:
    with caplog.at_level(logging.INFO):
        assert call("infer_3d", f"{SHORT} {STEPS} --seeder {seeder} --seed 7 --candidates 3")[0] == 0
    written = metadata()
    ranking = written["candidates"]
    assert {line["candidate"] for line in ranking} == labels
    errors = [line["error"] for line in ranking]
    assert errors == sorted(errors) and errors[0] < errors[-1]
    assert written["error"] == errors[0]
    assert f"x: 1. {ranking[0]['candidate']}: {ranking[0]['psnr']:.2f} dB" in caplog.text
    # Alone, the best one gives the same files.
    kept = {path: Path("results", path).read_bytes() for path in VIEW_FILES}
    if seeder == "imagedream":
        seed = ranking[0]["candidate"].removeprefix("seed ")
        assert call("infer_3d", f"{SHORT} {STEPS} --seeder imagedream --seed {seed}")[0] == 0
        assert {path: Path("results", path).read_bytes() for path in VIEW_FILES} == kept


@pytest.mark.usefixtures("weights")
@pytest.mark.parametrize("seeder", ["imagedream", "single-view"])
def test_own_raw_views_stay_and_the_missing_ones_are_made(call: Call, seeder: str) -> None:
    own = square_frame(9)
    save_image(own, "data_test/x_mv_002.png")
    assert call("infer_3d", f"{SHORT} {STEPS} --seeder {seeder}")[0] == 0
    assert torch.equal(load_image("results/x_mv_002.png"), load_image("data_test/x_mv_002.png"))
    assert not torch.equal(load_image("results/x_mv_001.png"), load_image("results/x_mv_002.png"))
    assert metadata()["side_views"]["origin"].startswith("image files (views 2) and ")


def test_views_at_other_azimuths(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    """The network gets their azimuths; missing views are made there."""
    asked, reconstruct = [], Network.reconstruct

    def spy(
        self: Network, frames: object, sides: object = None, azimuths: tuple[float, ...] = (), *rest: float
    ) -> object:
        asked.append(tuple(azimuths))
        return reconstruct(self, frames, sides, *([azimuths] if azimuths else []), *rest)

    monkeypatch.setattr(Network, "reconstruct", spy)
    turns = "--view_azimuths 0 40 150 200"
    for view in (1, 3):
        save_image(square_frame(5), f"data_test/x_mv_{view:03d}.png")
    assert call("infer_3d", f"{SHORT} {turns}")[0] == 0
    assert asked == [(), (0, 40, 150, 200)], "the single-view model, then the fusion"
    made = Path("results/x_mv_002.png").read_bytes()
    assert call("infer_3d", f"{SHORT} --view_azimuths 0 40 90 200 --workspace other")[0] == 0
    assert Path("other/x_mv_002.png").read_bytes() != made


@pytest.mark.usefixtures("weights")
def test_imagedream_cannot_fill_in_at_other_azimuths(call: Call) -> None:
    save_image(square_frame(5), "data_test/x_mv_001.png")
    line = f"{SHORT} {STEPS} --seeder imagedream --view_azimuths 0 40 180 270"
    assert call("infer_3d", line)[0] == 0, "view 1 at 40 degrees is given, the others are at steps of 90"
    shutil.rmtree("results")
    refused(call("infer_3d", line.replace("180", "150")), "steps of 90 degrees", "--view_generator single-view")


@pytest.mark.parametrize("script", ["infer_3d", "infer_4d"])
def test_a_blank_first_frame_is_refused(call: Call, script: str) -> None:
    with write_video("data_test/y.mp4", 8, (SIZE, SIZE)) as video:
        video.write(torch.ones(3, SIZE, SIZE))
        video.write(square_frame(1))
    refused(call(script, "nano --test_path data_test/y.mp4"), "first frame of y is blank")


def test_damaged_weights_are_refused_with_the_command(call: Call, weights: None) -> None:
    path = Path(IMAGEDREAM, "vae/diffusion_pytorch_model.safetensors")
    path.write_bytes(path.read_bytes()[:500])
    refused(call("infer_3d", SHORT), "truncated or damaged file", "hf download ashawkey/imagedream-ipmv-diffusers")
    path.unlink()
    refused(call("infer_3d", SHORT), "vae/diffusion_pytorch_model.safetensors missing", "hf download")
    refused(call("infer_3d", f"{SHORT} --imagedream {MVDREAM}"), "other model")


@pytest.mark.usefixtures("weights")
@pytest.mark.parametrize(
    ("script", "error", "status"), [("infer_3d", KeyboardInterrupt, 130), ("infer_4d", MemoryError, 2)]
)
def test_the_picture_of_the_input_is_there_when_imagedream_ends_early(
    call: Call, monkeypatch: pytest.MonkeyPatch, script: str, error: type[BaseException], status: int
) -> None:
    def end(*_: object) -> None:
        raise error

    monkeypatch.setattr("core.multiview.diffusion.guided_noise", end)
    assert call(script, f"{SHORT} {STEPS}")[0] == status
    assert files() == {"x_input.png"}


def test_a_folder_of_pictures_is_centred_picture_by_picture(call: Call) -> None:
    """Views and copies that an earlier run put there are not taken for inputs."""
    Path("in").mkdir()
    for name, side in (("small", 6), ("large", 30)):
        picture = Image.new("RGB", (48, 40), (90, 140, 90))
        picture.paste((255, 0, 0), (4, 5, 4 + side, 5 + side))
        picture.save(f"in/{name}.png")
    save_image(square_frame(0), "in/small_mv_001.png")
    save_image(square_frame(0), "in/large_orig.png")
    assert call("infer_3d", "nano --test_path in")[0] == 0
    assert {path for path in files() if path.endswith(".ply")} == {"small.ply", "large.ply"}
    for name in ("small", "large"):
        frame = load_image(f"results/{name}_orig.png")
        assert bool((frame[:, 0] == 1).all()), "on white"
        ink = (frame[1] < 0.5).nonzero()
        size = ink.amax(0) - ink.amin(0) + 1
        assert size.tolist() == pytest.approx([0.8 * SIZE] * 2, abs=1.5)
        assert (ink.float().mean(0) - (SIZE - 1) / 2).abs().max() < 1, "in the middle"
    assert metadata("results/small_metadata_3d.json")["side_views"]["origin"].startswith("image files (views 1) and")


@pytest.mark.parametrize("edge", ["noise", "white"])
def test_pictures_that_cannot_be_centred_are_refused(call: Call, edge: str) -> None:
    torch.manual_seed(0)
    picture = torch.rand(3, SIZE, SIZE) if edge == "noise" else torch.ones(3, SIZE, SIZE)
    save_image(picture, "data_test/p.png")
    word = "has a background" if edge == "noise" else "is empty"
    refused(call("infer_3d", "nano --test_path data_test/p.png"), "data_test/p.png", word)
    if edge == "noise":
        assert call("infer_3d", "nano --test_path data_test/p.png --no-recenter")[0] == 0


def test_a_checkpoint_of_lgm_lifts_a_picture(call: Call, caplog: pytest.LogCaptureFixture) -> None:
    """It has no temporal attention: infer_3d does without, infer_4d says what to do."""
    write_checkpoint(Path("pretrained/lgm.safetensors"), model=replace(TINY_MODEL, use_temp_attn=False))
    picture = Image.new("RGBA", (SIZE, SIZE), (0, 0, 0, 0))
    picture.paste((255, 0, 0, 255), (8, 8, 24, 24))
    picture.save("data_test/y.png")
    line = "big --resume pretrained/lgm.safetensors --test_path data_test/y.png"
    assert PRESETS["big"].model.use_temp_attn
    with caplog.at_level(logging.INFO):
        assert call("infer_3d", line)[0] == 0
    assert "file of LGM" in caplog.text
    assert_lift_is_as_shown("y")
    shutil.rmtree("results")
    refused(call("infer_4d", line), "it is a file of LGM", "--no-use_temp_attn")


def test_alignment_options_reach_the_search(call: Call) -> None:
    assert call("infer_3d", f"{SHORT} --align_elevation --align_scale")[0] == 0
    written = metadata()
    level = written["error"]
    assert call("infer_3d", SHORT)[0] == 0
    assert metadata()["elevation"] == 0 and metadata()["scale"] == 1
    assert level <= metadata()["error"], "more freedom does not make it worse"


def test_one_direction_twice_is_refused(call: Call) -> None:
    refused(call("infer_3d", f"{SHORT} --view_azimuths 0 90 -270 270"), "four different directions")
