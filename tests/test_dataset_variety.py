"""Laws of what the dataset adds to a small collection: larger motions, mirrored and recoloured objects."""

from pathlib import Path

import torch

from tests.clip_factory import write_clip
from tests.dataset_factory import make_dataset, make_options, tensor_of


def test_larger_steps_between_frames_are_drawn_when_training_only(tmp_path: Path):
    for name in ("a-x-0", "a-y-0"):
        write_clip(tmp_path, name, frames=7)
    options = make_options(tmp_path, ["a-x-0", "a-y-0"], frame_stride=9)
    dataset = make_dataset(options)
    steps, seen = set(), set()
    for epoch in range(40):
        first, second, third = dataset[epoch * len(dataset)].frames[0].tolist()
        assert second - first == third - second
        steps.add(second - first)
        seen |= {first, third}
    assert steps == {1, 2, 3}
    assert {0, 6} <= seen
    assert make_dataset(options, "test")[0].frames.tolist() == [[0, 1, 2]]


def test_mirrored_samples_stay_consistent(clips: tuple[Path, list[str]]):
    """The mirrored front view is the flipped front view; colours are shuffled alike in input and supervision."""
    plain = make_dataset(make_options(*clips))[0]
    varied = make_dataset(make_options(*clips, prob_mirror=1.0, prob_color_swap=1.0))[0]
    order = [0, 3, 2, 1, 4, 5]  # the ring is gone round the other way
    torch.testing.assert_close(varied.images.flip(-1).mean(dim=3), plain.images[:, :, order].mean(dim=3))
    torch.testing.assert_close(varied.masks.flip(-1), plain.masks[:, :, order])
    assert not torch.equal(varied.cameras.c2w, plain.cameras.c2w)
    torch.testing.assert_close(
        tensor_of(varied.images[:, :1, :4], varied.cameras[:, :1, :4]), varied.grid.tensor()[:, :1], atol=1e-5, rtol=0
    )


def test_a_clip_of_one_frame_is_a_still(tmp_path: Path):
    for name in ("a-x-0", "a-y-0"):
        write_clip(tmp_path, name, frames=1)
    sample = make_dataset(make_options(tmp_path, ["a-x-0", "a-y-0"], num_frames=4))[0]
    assert sample.broken == ()
    assert sample.frames.tolist() == [[0, 0, 0, 0]]
    assert torch.equal(sample.images[:, 1:], sample.images[:, :1].expand(-1, 3, -1, -1, -1, -1))


def test_with_first_side_views_only_the_front_is_blended(clips: tuple[Path, list[str]], tmp_path: Path):
    _, names = clips
    for name in names:
        write_clip(tmp_path, name, frames=7, kinds=("fixed_16_24fps", "random_24fps"))
    sample = make_dataset(make_options(*clips, data_mode="4d_interp", num_frames=4), inserted_side_views="first")[0]
    ground_truth = tensor_of(sample.images[:, :, :4], sample.cameras[:, :, :4])[:, :, :, :3]
    grid = sample.grid.tensor()
    assert torch.equal(grid[:, :, 1:], grid[:, :1, 1:].expand_as(grid[:, :, 1:]))
    torch.testing.assert_close(grid[:, 0, 1:, :3], ground_truth[:, 0, 1:])
    torch.testing.assert_close(grid[:, 1, 0, :3], (2 * ground_truth[:, 0, 0] + ground_truth[:, 3, 0]) / 3)
    torch.testing.assert_close(grid[:, 3, 0, :3], ground_truth[:, 3, 0])
