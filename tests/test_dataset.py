"""Laws of the clip dataset: which clips, views and frames; determinism; replication; broken clips."""

import math
from pathlib import Path

import pytest
import torch

from core.cameras import orbit_cameras
from core.data.clips import Clip
from core.data.dataset import ClipDataset
from core.data.lists import data_home, read_groups
from core.data.side_views import front_alone
from core.data.views import draw_views, first_view_in_front
from core.errors import UserError
from core.options import CameraOptions, SideViewOptions
from tests.clip_factory import view_color, write_clip
from tests.dataset_factory import SIZE, make_dataset, make_options, same, tensor_of

# Lists, groups, splits


def test_lines_are_grouped_by_their_second_token(tmp_path: Path):
    (tmp_path / "l.txt").write_text("a-x-0\n\nlonely\nb-y-0\nb-x-1  \nother/lonely\n")
    assert read_groups(str(tmp_path / "l.txt")) == [("a-x-0", "b-x-1"), ("lonely",), ("b-y-0",), ("other/lonely",)]


def test_last_batch_size_groups_are_the_test_split(clips: tuple[Path, list[str]]):
    options = make_options(*clips)
    train, test = make_dataset(options), make_dataset(options, "test")
    assert train.groups == [("p-fish-0", "p-fish-1"), ("p-cow-0", "p-cow-1")]
    assert test.groups == [("p-robot-0",)]
    assert (len(train), train.num_clips) == (2, 4)


def test_a_validation_list_leaves_the_whole_list_for_training(clips: tuple[Path, list[str]], tmp_path: Path):
    other = tmp_path / "val"
    other.mkdir()
    write_clip(other, "v-dino-0", frames=5)
    (tmp_path / "val.txt").write_text("v-dino-0")
    options = make_options(*clips, datalist_val=str(tmp_path / "val.txt"), data_home_val=str(other))
    assert len(make_dataset(options)) == 3
    assert make_dataset(options, "test")[0].names == ("v-dino-0",)


def test_data_home_is_option_or_environment_with_or_without_slash(
    clips: tuple[Path, list[str]], monkeypatch: pytest.MonkeyPatch
):
    home, names = clips
    monkeypatch.delenv("DATA_HOME", raising=False)
    samples = [make_dataset(make_options(home, names, data_home=str(home) + end))[0] for end in ("", "/")]
    monkeypatch.setenv("DATA_HOME", f"{home}/")
    samples.append(make_dataset(make_options(home, names, data_home=""))[0])
    assert same(samples[0], samples[1])
    assert same(samples[0], samples[2])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"datalist": "nowhere.txt"}, "nowhere.txt"),
        ({"data_home": "/no/such/folder"}, "/no/such/folder"),
        ({"num_views": 3}, "num_views 3 must be more than num_input_views 4"),
        ({"data_mode": "4d_interp", "num_frames": 1}, "num_frames 1"),
    ],
)
def test_wrong_options_are_user_errors(clips: tuple[Path, list[str]], settings: dict[str, object], message: str):
    with pytest.raises(UserError, match=message):
        make_dataset(make_options(*clips, **settings))


def test_a_clip_that_stands_twice_in_a_list_is_refused(tmp_path: Path):
    (tmp_path / "l.txt").write_text("a-x-0\nb-y-0\n\na-x-0\n")
    with pytest.raises(UserError, match="names a-x-0 twice"):
        read_groups(str(tmp_path / "l.txt"))


def test_missing_home_empty_list_and_too_large_a_test_split_are_user_errors(
    clips: tuple[Path, list[str]], monkeypatch: pytest.MonkeyPatch
):
    home, names = clips
    monkeypatch.delenv("DATA_HOME", raising=False)
    with pytest.raises(UserError, match="DATA_HOME"):
        data_home("")
    with pytest.raises(UserError, match="3 groups"):
        make_dataset(make_options(home, names), batch_size=3)
    with pytest.raises(UserError, match="is empty"):
        make_dataset(make_options(home, []))


# Views and frames


def test_evaluation_takes_the_published_views_and_first_frames(clips: tuple[Path, list[str]]):
    for input_views in ("random", "orthogonal"):
        sample = make_dataset(make_options(*clips, input_views=input_views), "test")[0]
        assert sample.view_ids.tolist() == [[32, 36, 40, 44, 0, 1]]
        assert sample.frames.tolist() == [[0, 1, 2]]
        fixed = make_dataset(make_options(*clips, input_views=input_views, shuffle_input=False))[0]
        assert fixed.view_ids.tolist() == [[32, 36, 40, 44, 0, 1]]


def test_random_inputs_come_from_the_ring_and_the_rest_is_random(clips: tuple[Path, list[str]]):
    home, names = clips
    clip, generator = Clip(home, names[0]), torch.Generator().manual_seed(0)
    draws = [draw_views(clip, make_options(home, names), generator) for _ in range(200)]
    assert {view for ids in draws for view in ids[:4]} == set(range(32, 48, 2))
    assert {view for ids in draws for view in ids[4:]} == {0, 1, 2, 3}
    assert all(len(set(ids)) == 6 for ids in draws)
    assert len({tuple(sorted(ids[:4])) for ids in draws}) > 20


def test_orthogonal_inputs_are_quarter_turns_from_any_first_view(clips: tuple[Path, list[str]]):
    home, names = clips
    clip, generator = Clip(home, names[0]), torch.Generator().manual_seed(0)
    options = make_options(home, names, input_views="orthogonal", num_views=12)
    draws = [draw_views(clip, options, generator) for _ in range(200)]
    assert {ids[0] for ids in draws} == set(range(32, 48, 2))
    for ids in draws:
        azimuths = [clip.azimuth(view_id) for view_id in ids[:4]]
        assert [(azimuth - azimuths[0]) % 360 for azimuth in azimuths] == [0, 90, 180, 270]
        assert sorted(ids) == [0, 1, 2, 3, *range(32, 48, 2)]


def test_too_few_views_or_frames_break_a_clip(tmp_path: Path):
    names = ["p-a-0", "p-b-0", "p-c-0", "p-d-0"]
    write_clip(tmp_path, names[0], fixed=(0, 4, 8), frames=3)
    write_clip(tmp_path, names[1], random=(0,), fixed=(0, 4, 8, 12), frames=3)
    write_clip(tmp_path, names[2], frames=2)
    write_clip(tmp_path, names[3], frames=3)
    sample = make_dataset(make_options(tmp_path, [*names, "p-test-0"]))[0]
    assert sample.names == ("p-d-0",)
    assert [name for name, _ in sample.broken] == names[:3]
    assert "num_views 6" in sample.broken[1][1]
    assert "has 2 frames, num_frames is 3" in sample.broken[2][1]


def test_training_windows_reach_every_frame(clips: tuple[Path, list[str]]):
    dataset = make_dataset(make_options(*clips))
    windows = set()
    for epoch in range(20):
        windows.add(tuple(dataset[epoch * len(dataset)].frames[0].tolist()))
    assert windows == {(0, 1, 2), (1, 2, 3), (2, 3, 4)}


def test_static_mode_draws_single_frames_of_any_clip(clips: tuple[Path, list[str]]):
    home, names = clips
    write_clip(home, "p-statue-0", frames=1)
    dataset = make_dataset(make_options(home, ["p-statue-0", *names], data_mode="3d"))
    seen = set()
    for epoch in range(12):
        assert dataset[epoch * len(dataset)].frames.tolist() == [[0]]
        sample = dataset[epoch * len(dataset) + 1]
        seen.add((sample.names[0], int(sample.frames)))
        assert sample.grid.tensor().shape == (1, 1, 4, 9, SIZE, SIZE)
    assert {name for name, _ in seen} == {"p-fish-0", "p-fish-1"}
    assert len({frame for _, frame in seen}) > 2


def test_training_uses_all_clips_of_a_group_and_evaluation_the_first(clips: tuple[Path, list[str]]):
    home, names = clips
    dataset = make_dataset(make_options(home, names))
    drawn = set()
    for epoch in range(12):
        drawn.add(dataset[epoch * len(dataset) + 1].names[0])
    assert drawn == {"p-cow-0", "p-cow-1"}
    assert make_dataset(make_options(home, names[:4]), "test")[0].names == ("p-cow-0",)


# What is in a sample


def test_sample_holds_the_views_it_names(clips: tuple[Path, list[str]]):
    sample = make_dataset(make_options(*clips))[0]
    assert sample.images.shape == (1, 3, 6, 3, SIZE, SIZE)
    assert sample.masks.shape == (1, 3, 6, 1, SIZE, SIZE)
    assert sample.cameras.shape == (1, 3, 6)
    assert sample.cameras.size == (SIZE, SIZE)
    for t, frame in enumerate(sample.frames[0].tolist()):
        for v, view_id in enumerate(sample.view_ids[0].tolist()):
            color = (255 * sample.images[0, t, v, :, SIZE // 2, SIZE // 2]).tolist()
            assert color == pytest.approx(view_color(view_id, frame), abs=4)


def test_a_mirrored_ring_goes_round_as_at_inference_and_shows_its_views(clips: tuple[Path, list[str]]):
    home, names = clips
    sample = make_dataset(make_options(home, names, input_views="orthogonal", prob_mirror=1.0))[0]
    expected = orbit_cameras(torch.tensor([0.0, 90.0, 180.0, 270.0])).positions
    torch.testing.assert_close(sample.cameras.positions[0, 0, :4], expected, atol=1e-4, rtol=0)
    clip = Clip(home, names[0])
    azimuths = [clip.azimuth(view_id) for view_id in sample.view_ids[0, :4].tolist()]
    assert [(azimuths[0] - azimuth) % 360 for azimuth in azimuths] == [0, 90, 180, 270]  # the other way round
    for v, view_id in enumerate(sample.view_ids[0].tolist()):
        color = (255 * sample.images[0, 0, v, :, SIZE // 2, SIZE // 2]).tolist()
        assert color == pytest.approx(view_color(view_id, int(sample.frames[0, 0])), abs=4)


def test_grid_is_the_replicated_input_with_its_own_rays(clips: tuple[Path, list[str]]):
    sample = make_dataset(make_options(*clips))[0]
    ground_truth, grid = tensor_of(sample.images[:, :, :4], sample.cameras[:, :, :4]), sample.grid.tensor()
    assert len(sample.grid.images) == 3 + 3  # each distinct image once
    for t in range(3):
        torch.testing.assert_close(grid[:, t, 0], ground_truth[:, t, 0])
        torch.testing.assert_close(grid[:, t, 1:], ground_truth[:, 0, 1:])
    assert not torch.allclose(ground_truth[:, 1, 1:], ground_truth[:, 0, 1:])


def test_interpolation_grid_blends_between_ground_truth_ends(clips: tuple[Path, list[str]], tmp_path: Path):
    _, names = clips
    for name in names:
        write_clip(tmp_path, name, frames=7, kinds=("fixed_16_24fps", "random_24fps"))
    sample = make_dataset(make_options(*clips, data_mode="4d_interp", num_frames=4))[0]
    ground_truth, grid = tensor_of(sample.images[:, :, :4], sample.cameras[:, :, :4]), sample.grid.tensor()
    torch.testing.assert_close(grid[:, 0], ground_truth[:, 0])
    torch.testing.assert_close(grid[:, 3, :, :3], ground_truth[:, 3, :, :3])
    torch.testing.assert_close(grid[:, 1, :, :3], (2 * ground_truth[:, 0, :, :3] + ground_truth[:, 3, :, :3]) / 3)


@pytest.mark.parametrize("input_views", ["random", "orthogonal"])
def test_world_turns_until_the_first_view_is_in_front(clips: tuple[Path, list[str]], input_views: str):
    home, names = clips
    dataset = make_dataset(make_options(home, names, input_views=input_views))
    front = orbit_cameras(0.0).c2w
    for epoch in range(5):
        sample = dataset[epoch * len(dataset)]
        torch.testing.assert_close(sample.cameras.c2w[0, 0, 0], front, atol=1e-6, rtol=0)
        clip = Clip(home, sample.names[0])
        stored = clip.cameras(sample.view_ids[0].tolist(), sample.frames[0].tolist(), size=SIZE)
        azimuths = torch.tensor([clip.azimuth(view_id) for view_id in sample.view_ids[0].tolist()])
        # A turn about y: heights stay, azimuths count from the first view.
        torch.testing.assert_close(sample.cameras.positions[0, ..., 1], stored.positions[..., 1].float())
        expected = orbit_cameras(azimuths[:4] - azimuths[0]).positions
        torch.testing.assert_close(sample.cameras.positions[0, 0, :4], expected, atol=1e-5, rtol=0)


def test_moving_the_world_keeps_relative_poses():
    generator = torch.Generator().manual_seed(0)
    cameras = orbit_cameras(360 * torch.rand(2, 3, generator=generator), 25.0, dtype=torch.float64)
    moved = first_view_in_front(cameras, 1.5)
    torch.testing.assert_close(moved.w2c[0, 1] @ moved.c2w[1, 2], cameras.w2c[0, 1] @ cameras.c2w[1, 2])


def test_input_and_output_sizes_are_independent(clips: tuple[Path, list[str]]):
    for output_size, input_size in ((32, 16), (8, 16), (24, 16)):
        options = make_options(*clips, output_size=output_size)
        sample = ClipDataset(options, CameraOptions(), SideViewOptions(), input_size=input_size, split="test")[0]
        assert sample.grid.size == (input_size, input_size)
        assert sample.images.shape[-2:] == sample.masks.shape[-2:] == sample.cameras.size
        assert sample.cameras.size == (output_size, output_size)
        focal = sample.cameras.intrinsics[0, 0, 0, 0, 0] / output_size
        assert float(focal) == pytest.approx(0.5 / math.tan(math.radians(24.55)), rel=1e-6)


# Augmentation


def test_augmentation_touches_the_side_views_of_the_input_only(clips: tuple[Path, list[str]]):
    plain = make_dataset(make_options(*clips))[0]
    unchanged = plain.grid.tensor()
    for settings, channels in (
        ({"prob_grid_distortion": 1.0}, slice(0, 3)),
        ({"prob_cam_jitter": 1.0}, slice(3, 9)),
    ):
        changed = make_dataset(make_options(*clips, **settings))[0]
        assert torch.equal(changed.images, plain.images)
        assert torch.equal(changed.masks, plain.masks)
        assert torch.equal(changed.cameras.c2w, plain.cameras.c2w)
        grid = changed.grid.tensor()
        assert torch.equal(grid[:, :, 0], unchanged[:, :, 0])
        differs = (grid != unchanged).flatten(-2).any(-1)[0, :, 1:]  # [T, 3, 9]
        expected = torch.zeros(9, dtype=torch.bool)
        expected[channels] = True
        assert torch.equal(differs.any(0).any(0), expected)
        # Frame 0's result is what all frames see.
        assert torch.equal(grid[:, :, 1:], grid[:, :1, 1:].expand(-1, 3, -1, -1, -1, -1))


def test_evaluation_is_never_augmented(clips: tuple[Path, list[str]]):
    settings = {"prob_grid_distortion": 1.0, "prob_cam_jitter": 1.0, "prob_view_dropout": 1.0}
    plain = make_dataset(make_options(*clips), "test")[0]
    assert same(make_dataset(make_options(*clips, **settings), "test")[0], plain)


def test_view_dropout_leaves_the_front_alone_at_its_rate(clips: tuple[Path, list[str]]):
    plain = make_dataset(make_options(*clips))[0]
    # Views that are left out keep their true rays, whatever else is switched on.
    everything = {"prob_view_dropout": 1.0, "prob_cam_jitter": 1.0, "prob_grid_distortion": 1.0}
    dropped = make_dataset(make_options(*clips, **everything))[0]
    assert torch.equal(dropped.grid.tensor(), front_alone(plain.grid).tensor())
    assert torch.equal(dropped.images, plain.images)
    dataset = make_dataset(make_options(*clips, prob_view_dropout=0.3))
    blank = 0
    for epoch in range(60):
        grid = dataset[epoch * len(dataset)].grid
        is_blank = torch.equal(grid.tensor(), front_alone(grid).tensor())
        blank += is_blank
    assert 6 <= blank <= 30
