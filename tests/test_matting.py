"""Laws of the crop, of the object that is tracked, and of the clip that comes out; a stand-in finds the object."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from core.errors import UserError
from core.matting.crop import OCCUPANCY, box_of, crop_path, cut, is_framed
from core.matting.prepare import chosen_frames, prepare
from core.matting.saliency import load_finder
from core.matting.track import Tracker
from core.media import Video, read_video, write_video
from core.options import CameraOptions
from core.options.input import InputOptions
from tests.matting_place import alpha_frames, ellipse, find_red, masks_of_a_walk, overlap, phone_video

SIZE = (96, 160)
REMBG = InputOptions(matte="rembg")


def test_the_object_takes_what_it_takes_in_the_training_data() -> None:
    camera = CameraOptions()
    assert pytest.approx(1 / (2 * camera.cam_radius * math.tan(math.radians(camera.fovy / 2)))) == OCCUPANCY


@pytest.mark.parametrize("frames", [1, 2, 3, 5, 60])
@pytest.mark.parametrize("speed", [0.0, 0.2, 8.0])
def test_the_crop_holds_every_box_has_one_size_and_does_not_jump(frames: int, speed: float) -> None:
    rng = np.random.default_rng(frames)
    middle = np.stack([np.full(frames, 200.0), 100 + speed * np.arange(frames)], axis=1)
    half = rng.uniform(30, 40, (frames, 2))
    shaken = middle + rng.normal(0, 3, (frames, 2))
    boxes = np.concatenate([shaken - half, shaken + half], axis=1)
    if frames > 3:
        boxes[2] = np.nan
    path = crop_path(boxes, 15)
    seen = ~np.isnan(boxes[:, 0])
    reach = max((path.centres[seen] - boxes[seen, :2]).max(), (boxes[seen, 2:] - path.centres[seen]).max())
    assert 2 * reach == pytest.approx(path.side * OCCUPANCY), "the border of the training data, no more, no less"
    jumps = np.diff(path.centres, n=2, axis=0) * 512 / path.side
    assert np.abs(jumps).max(initial=0) < 1, "pixels of the largest crop"
    assert (np.ptp(path.centres, axis=0) == 0).all() or speed > 1, "stands still unless the object walks away"


def test_a_crop_without_a_box() -> None:
    with pytest.raises(ValueError, match="no frame has a box"):
        crop_path(np.full((3, 4), np.nan), 15)


def test_cutting_at_fractions_of_a_pixel() -> None:
    torch.manual_seed(0)
    picture = torch.rand(2, 12, 12)
    torch.testing.assert_close(cut(picture, 0, 0, 12, 12), picture)
    torch.testing.assert_close(cut(picture, 0.5, 0, 11, 11)[:, :, 0], (picture[:, :-1, 0] + picture[:, 1:, 0]) / 2)
    around = cut(picture, -6.25, -6.25, 24, 48)
    torch.testing.assert_close(around.sum() / 4, picture.sum())
    assert float(around[:, :12].abs().max()) == 0
    assert float(cut(picture, 30, 30, 5, 8).abs().max()) == 0, "nothing outside"


def test_what_counts_as_framed() -> None:
    boxes = np.array([[20.0, 30, 80, 60]] * 2)
    assert is_framed(boxes, (100, 100))
    assert not is_framed(boxes, (100, 140)) and not is_framed(boxes, (300, 300))
    assert not is_framed(np.array([[0.0, 30, 60, 60]]), (100, 100)) and not is_framed(boxes * np.nan, (100, 100))


def track(frames: list[np.ndarray]) -> Tracker:
    tracker = Tracker()
    for mask in frames:
        tracker.add(mask)
    return tracker


def test_the_largest_thing_that_persists_is_the_object() -> None:
    """Not the one that is largest for a moment, nor what comes near the object's place while it is not seen."""
    flash = ellipse(60, 80, (30, 60), (25, 15))
    objects = [ellipse(60, 80, (30, 15 + k), (10, 8)) for k in range(10)]
    small = [ellipse(60, 80, (6, 70), (3, 4)) for _ in range(10)]
    frames = [main | other for main, other in zip(objects, small, strict=True)]
    frames[4] |= flash
    frames[7] = small[7]
    tracker = track(frames)
    assert tracker.seen == 9 and tracker.others() == 0
    assert all((tracker.masks(k)[0] == (objects[k] if k != 7 else False)).all() for k in range(10))
    assert track([a | ellipse(60, 80, (30, 70), (8, 7)) for a in objects]).others() == 1
    assert track([np.zeros((60, 80), bool)] * 3).seen == 0


def true_crop(masks: list[np.ndarray], prepared: object, k: int, size: int) -> np.ndarray:
    planes = torch.from_numpy(masks[prepared.sources[k]]).float()[None]
    return cut(planes, *prepared.path.window(k), prepared.path.side, size)[0].numpy() > 0.5


@pytest.mark.parametrize("step", [0.3, 2.5])
@pytest.mark.parametrize("turned", [False, True])
def test_an_object_before_a_background_is_cut_out_whole(tmp_path: Path, step: float, turned: bool) -> None:
    """In landscape and portrait; where the object walks, the crop follows."""
    masks = [mask.T.copy() if turned else mask for mask in masks_of_a_walk(16, *SIZE, step)]
    clip = phone_video(tmp_path / "x.mp4", masks)
    prepared = prepare(clip, REMBG, tmp_path / "x_input.mov", find=find_red)
    assert (prepared.matte, prepared.rate, len(prepared.indices)) == ("rembg", 15, 16)
    assert (np.ptp(prepared.path.centres, axis=0).max() > 10) == (step > 1)
    for k, pixels in enumerate(prepared.video.pixels()):
        assert overlap(pixels[..., 3] > 127, true_crop(masks, prepared, k, len(pixels))) > 0.93
        inside = true_crop(masks, prepared, k, 400).sum() * (prepared.path.side / 400) ** 2
        assert masks[k].sum() == pytest.approx(inside, rel=0.02), "nothing of the object is cut off"
        red = pixels[pixels[..., 3] > 250]
        assert abs(red[..., :3].mean(axis=0) - [220, 40, 30]).max() < 12
        assert (pixels[0, :, 3] == 0).all() and (pixels[0, :, :3] == 255).all()


def alpha_video(path: Path, masks: list[np.ndarray]) -> Video:
    with write_video(path, 15, masks[0].shape, alpha=True) as video:
        for frame in alpha_frames(masks):
            video.write_pixels(frame)
    return read_video(path)


def test_alpha_passes_through(tmp_path: Path) -> None:
    """Cropped: exactly the matte that was given; framed as the training data already: the file itself."""
    masks = masks_of_a_walk(6, *SIZE)
    clip = alpha_video(tmp_path / "x.mov", masks)
    prepared = prepare(clip, InputOptions(), tmp_path / "x_input.mov")
    assert prepared.matte == "alpha"
    for k, pixels in enumerate(prepared.video.pixels()):
        assert overlap(pixels[..., 3] > 127, true_crop(masks, prepared, k, len(pixels))) > 0.995
        assert (pixels[pixels[..., 3] == 255][:, :3] == [220, 40, 30]).all()
    again = prepare(prepared.video, InputOptions(), tmp_path / "y_input.mov")
    assert (again.video.path, again.matte) == (tmp_path / "x_input.mov", "none"), "it is not cropped twice"
    assert not (tmp_path / "y_input.mov").exists()


@pytest.mark.parametrize("name", ["beast", "mech", "trex", "truck"])
def test_a_published_kind_of_input_is_not_touched(tmp_path: Path, name: str) -> None:
    """Cropped and on white: the networks get the file's own frames."""
    clip = read_video(Path(__file__).parents[1] / f"data_test/{name}.mp4")
    prepared = prepare(clip, InputOptions(), tmp_path / "x.mov")
    assert prepared.video == clip and prepared.matte == "none" and not list(tmp_path.iterdir())
    assert prepared.indices == range(0, clip.num_frames, 1) and prepared.rate == clip.fps


def white_video(path: Path, masks: Sequence[np.ndarray]) -> Video:
    with write_video(path, 15, SIZE, crf=1) as video:
        for mask in masks:
            video.write_pixels(np.where(mask[..., None], [220, 40, 30], 255).astype(np.uint8))
    return read_video(path)


def test_white_is_cropped_where_it_is_asked_for(tmp_path: Path) -> None:
    """Also of a clip that the object enters late; of one that it never enters this is said."""
    masks = [np.zeros(SIZE, bool), *masks_of_a_walk(4, *SIZE)]
    prepared = prepare(white_video(tmp_path / "x.mp4", masks), InputOptions(matte="white"), tmp_path / "x.mov")
    first, *others = prepared.video.pixels()
    assert not first[..., 3].any()
    for k, pixels in enumerate(others, 1):
        assert overlap(pixels[..., 3] > 127, true_crop(masks, prepared, k, len(pixels))) > 0.95
    with pytest.raises(UserError, match="no object is found"):
        prepare(white_video(tmp_path / "y.mp4", masks[:1]), InputOptions(matte="white"), tmp_path / "y.mov")


def test_frames_between_are_kept_where_they_are_asked_for(tmp_path: Path) -> None:
    masks = masks_of_a_walk(9, *SIZE)
    clip = phone_video(tmp_path / "x.mp4", masks, fps=60)
    used = prepare(clip, REMBG, tmp_path / "a.mov", find=find_red)
    every = prepare(clip, REMBG, tmp_path / "b.mov", every=True, find=find_red)
    assert (used.video.num_frames, used.indices, used.video.fps, used.rate) == (3, range(3), 15, 15)
    assert (every.video.num_frames, every.indices, every.video.fps, every.rate) == (9, range(0, 9, 4), 60, 15)


CLIP = Video(Path("x.mp4"), 30, 300, (8, 8))


@pytest.mark.parametrize(
    ("options", "indices"),
    [
        ({}, range(0, 300, 2)),
        ({"fps": 30}, range(300)),
        ({"start": 2}, range(60, 300, 2)),
        ({"start": 9.5, "duration": 3}, range(285, 300, 2)),
        ({"start": 1, "duration": 0.5, "fps": 10}, range(30, 45, 3)),
        ({"duration": 0.001}, range(1)),
    ],
)
def test_start_duration_and_rate_choose_frames(options: dict, indices: range) -> None:
    used, step, rate = chosen_frames(CLIP, InputOptions(**options))
    assert used == indices and rate == CLIP.fps / step


def test_uneven_times_are_made_even() -> None:
    """Ten frames in the first second, then one each second: at even times the later ones are shown again."""
    times = (*np.arange(10) / 10, 1.0, 2.0, 3.0)
    clip = replace(CLIP, fps=4, num_frames=13, times=tuple(times))
    used, _, rate = chosen_frames(clip, InputOptions())
    assert rate == 4 and used == [0, 2, 5, 7, 10, 10, 10, 10, 11, 11, 11, 11, 12]


def test_two_objects_and_one_at_the_edge_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    masks = [mask | ellipse(*SIZE, (50, 159), (20, 12)) for mask in masks_of_a_walk(5, *SIZE, 0)]
    caplog.set_level(logging.WARNING)
    prepared = prepare(phone_video(tmp_path / "x.mp4", masks), REMBG, tmp_path / "a.mov", find=find_red)
    assert "1 more objects beside the largest one are left out" in caplog.text and "edge" not in caplog.text
    alone = masks_of_a_walk(5, *SIZE, 0)
    for k, pixels in enumerate(prepared.video.pixels()):
        assert overlap(pixels[..., 3] > 127, true_crop(alone, prepared, k, len(pixels))) > 0.95
    low = [np.roll(mask, 30, axis=0) & (np.arange(96) > 40)[:, None] for mask in alone]
    prepare(phone_video(tmp_path / "y.mp4", low), REMBG, tmp_path / "b.mov", find=find_red)
    assert "reaches the edge of the picture in 5 of 5 frames" in caplog.text


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"matte": "rembg"}, "no object is found"),
        ({"matte": "alpha"}, "--matte alpha: nothing"),
        ({"matte": "white"}, "not on a plain ground"),
        ({"matte": "rembg", "start": 5}, "--start 5 lies behind the end"),
    ],
)
def test_what_cannot_be_cut_out(tmp_path: Path, options: dict, words: str) -> None:
    clip = phone_video(tmp_path / "x.mp4", [np.zeros(SIZE, bool)] * 4)
    with pytest.raises(UserError, match=words) as error:
        prepare(clip, InputOptions(**options), tmp_path / "out.mov", find=find_red)
    assert "x.mp4" in str(error.value)
    assert {path.name for path in tmp_path.iterdir()} == {"x.mp4"}


def test_an_object_that_is_hidden_for_a_while_is_followed_through_it(tmp_path: Path) -> None:
    masks = masks_of_a_walk(20, *SIZE, 2.5)
    shown = [mask & (k not in (8, 9, 10)) for k, mask in enumerate(masks)]
    prepared = prepare(phone_video(tmp_path / "x.mp4", shown), REMBG, tmp_path / "a.mov", find=find_red)
    assert np.abs(np.diff(prepared.path.centres, n=2, axis=0)).max() < 0.5
    for k, pixels in enumerate(prepared.video.pixels()):
        if shown[k].any():
            assert overlap(pixels[..., 3] > 127, true_crop(shown, prepared, k, len(pixels))) > 0.93
        else:
            assert (pixels[..., 3] > 127).mean() < 0.002, "what is hidden does not come back"


def test_box_of_nothing() -> None:
    assert np.isnan(box_of(torch.zeros(4, 4))).all()


@pytest.mark.slow
def test_the_real_model_finds_a_drawn_object(tmp_path: Path) -> None:
    """U2-Net itself, where rembg and its file are there."""
    pytest.importorskip("rembg")
    load_finder.cache_clear()
    try:
        load_finder("u2net")
    except UserError as error:
        pytest.skip(str(error))
    masks = masks_of_a_walk(3, 240, 320)
    prepared = prepare(phone_video(tmp_path / "x.mp4", masks), REMBG, tmp_path / "a.mov")
    for k, pixels in enumerate(prepared.video.pixels()):
        assert overlap(pixels[..., 3] > 127, true_crop(masks, prepared, k, len(pixels))) > 0.95
