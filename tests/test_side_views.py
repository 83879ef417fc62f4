"""Laws of the policy for side views: what each source shows, with which cameras, each distinct image once."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from core.cameras import Cameras, input_cameras, orbit_cameras
from core.data.side_views import (
    cross_fade,
    front_alone,
    inserted_fronts,
    insertion_grid,
    interval_grid,
    placeholder_views,
    side_view_grid,
)
from core.view_grid import ViewGrid

B, T, V, SIZE = 2, 4, 4, 16


def views(frames: int = T) -> tuple[Tensor, Cameras]:
    """Images ``[B, T, V, 3, H, W]`` of cameras that all differ."""
    generator = torch.Generator().manual_seed(0)
    azimuth = 360 * torch.rand(B, T, V, generator=generator)
    elevation = 60 * torch.rand(B, T, V, generator=generator) - 30
    images = torch.rand(B, T, V, 3, SIZE, SIZE, generator=generator)
    return images[:, :frames], orbit_cameras(azimuth, elevation, size=(SIZE, SIZE))[:, :frames]


def in_order(grid: ViewGrid) -> bool:
    """Whether images are numbered as they first occur."""
    seen = list(dict.fromkeys(grid.index.flatten().tolist()))
    return seen == list(range(len(grid.images)))


@pytest.mark.parametrize("source", ["first", "previous"])
@pytest.mark.parametrize("frames", [1, T])
def test_side_views_of_the_first_frame_are_repeated(source: str, frames: int) -> None:
    images, cameras = views(frames)
    grid = side_view_grid(images[:, :, 0], images[:, 0, 1:], cameras, source)
    assert grid.shape == (B, frames, V) and len(grid.images) == B * (frames + V - 1) and in_order(grid)
    for t in range(frames):
        assert torch.equal(grid.view_images[:, t, 0], images[:, t, 0])
        assert torch.equal(grid.view_images[:, t, 1:], images[:, 0, 1:])
        assert torch.equal(grid.view_cameras.c2w[:, t, 0], cameras.c2w[:, t, 0])
        assert torch.equal(grid.view_cameras.c2w[:, t, 1:], cameras.c2w[:, 0, 1:])
        assert torch.equal(grid.view_cameras.intrinsics[:, t], cameras.intrinsics[:, t])


def test_side_views_of_every_frame_stay_with_their_cameras() -> None:
    images, cameras = views()
    grid = side_view_grid(images[:, :, 0], images[:, :, 1:], cameras, "every")
    assert torch.equal(grid.view_images, images) and torch.equal(grid.view_cameras.c2w, cameras.c2w)


@pytest.mark.parametrize("frames", [1, 2, 3, T])
def test_blends_are_linear_between_untouched_ends(frames: int) -> None:
    images, cameras = views(frames)
    grid = side_view_grid(images[:, :, 0], images[:, [0, -1], 1:], cameras, "blend", inserted=True)
    blended = grid.view_images
    assert torch.equal(blended[:, 0], images[:, 0])
    assert frames == 1 or torch.equal(blended[:, -1], images[:, -1])
    for t in range(1, frames - 1):
        weight = t / (frames - 1)
        torch.testing.assert_close(blended[:, t], (1 - weight) * images[:, 0] + weight * images[:, -1])
    assert torch.equal(grid.view_cameras.c2w[:, -1, 1:], cameras.c2w[:, 0, 1:])
    assert torch.equal(grid.view_cameras.c2w[:, -1, 0], cameras.c2w[:, -1, 0])


@pytest.mark.parametrize("source", ["first", "none"])
def test_frames_between_the_ends_are_not_used_where_they_are_inserted(source: str) -> None:
    images, cameras = views()
    front = images[:, :, 0].clone()
    sides = None if source == "none" else images[:, 0, 1:]
    grid = side_view_grid(front, sides, cameras, source, inserted=True)
    front[:, 1:-1] = 0.5
    assert torch.equal(side_view_grid(front, sides, cameras, source, inserted=True).images, grid.images)
    between = grid.view_images[:, 1:-1, 0]
    for sample in range(B):
        assert torch.equal(inserted_fronts(front[sample, [0, -1]], T - 1)[0], between[sample])


def test_the_front_alone_is_mirrored_behind_and_white_elsewhere() -> None:
    images, cameras = torch.rand(B, T, V, 3, SIZE, SIZE), input_cameras(size=SIZE).expand(B, T, V)
    kept = images.clone()
    kept[:, :, 1:] = 1.0
    kept[:, :, 2] = images[:, :, 0].flip(-1)
    grid = front_alone(ViewGrid.of(images, cameras))
    assert torch.equal(grid.tensor(), ViewGrid.of(kept, cameras).tensor())
    assert len(grid.images) == B * (2 * T + 2) and in_order(grid)
    assert torch.equal(placeholder_views(images[0, 0, 0]), kept[0, 0, 1:])


def test_the_front_alone_is_white_from_every_side_but_the_back() -> None:
    cameras = orbit_cameras(torch.tensor([0.0, 45.0, 90.0, 135.0]), size=(SIZE, SIZE))[None, None]
    front = torch.rand(1, 1, 3, SIZE, SIZE)
    shown = side_view_grid(front, None, cameras, "none").view_images
    assert torch.equal(shown[:, :, 0], front) and shown[:, :, 1:].min() == 1


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_intervals_are_blends_that_share_their_ends(steps: int) -> None:
    ends, cameras = torch.rand(4, V, 3, SIZE, SIZE), input_cameras(size=SIZE)
    grid = interval_grid(ends, cameras, steps)
    assert grid.shape == (3, steps + 1, V) and len(grid.images) == V * (3 * steps + 1) and in_order(grid)
    for pair in range(3):
        alone = side_view_grid(
            cross_fade(ends[pair, None, 0], ends[pair + 1, None, 0], steps + 1),
            ends[pair : pair + 2, 1:][None],
            cameras.expand(1, steps + 1, V),
            "blend",
        )
        assert torch.equal(grid.tensor()[pair], alone.tensor()[0])


def test_inserted_frames_follow_the_first_one_and_share_it() -> None:
    first, frames, sides = torch.rand(3, SIZE, SIZE), torch.rand(3, 2, 3, SIZE, SIZE), torch.rand(3, 3, SIZE, SIZE)
    cameras = input_cameras(size=SIZE)
    grid = insertion_grid(first, frames, sides, cameras)
    assert len(grid.images) == 1 + 3 * 2 + 3 and in_order(grid)
    for pair in range(3):
        front = torch.cat([first[None], frames[pair]])[None]
        alone = side_view_grid(front, sides[None], cameras.expand(1, 3, V), "first")
        assert torch.equal(grid.tensor()[pair], alone.tensor()[0])
