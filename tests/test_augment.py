"""Laws of the augmentations: bounds, purity, reproducibility, and the published formula written out pixel by pixel."""

import math

import pytest
import torch
from torch import Generator, Tensor

from core.cameras import Cameras, orbit_cameras
from core.data.augment import camera_jitter, grid_distortion, mirror, swap_colors

SIZE = 64


def generator(seed: int = 0) -> Generator:
    return Generator().manual_seed(seed)


def coordinates(count: int) -> Tensor:
    """Images whose two channels are the pixel coordinates (x, y): a warp of them shows where every pixel came from."""
    line = torch.arange(SIZE, dtype=torch.float32) + 0.5
    return torch.stack(torch.meshgrid(line, line, indexing="xy")).expand(count, 2, SIZE, SIZE).clone()


def ring_cameras() -> Cameras:
    return orbit_cameras(torch.arange(0.0, 360.0, 7.5), 12.0, dtype=torch.float64)


def test_distortion_is_a_separable_monotone_small_warp():
    images = coordinates(8)
    warped = grid_distortion(images, generator())
    inner = warped[..., 1:-1, 1:-1]
    assert (inner[:, 0].diff(dim=-1) >= -1e-4).all()
    assert (inner[:, 1].diff(dim=-2) >= -1e-4).all()
    torch.testing.assert_close(inner[:, 0], inner[:, 0, :1].expand_as(inner[:, 0]), atol=1e-3, rtol=0)
    # A knot moves by at most a quarter of the widest knot distance (size / 7), truncation adds less than two pixels.
    shift = (inner - images[..., 1:-1, 1:-1]).abs().amax(dim=(-1, -2))
    assert (shift <= SIZE / 28 + 2).all()
    assert (shift > 0.5).all()


def test_distortion_follows_the_published_formula():
    images = torch.rand(1, 3, SIZE, SIZE, generator=generator(1))
    warped = grid_distortion(images, generator(2))
    draws = generator(2)
    n = int(torch.randint(8, 17, (1,), generator=draws))
    ramps = []
    for _axis in range(2):
        even = torch.tensor([k / (n - 1) for k in range(n)])
        knots = even + 0.5 * (torch.rand(n, generator=draws) - 0.5) / (n - 1)
        knots = (knots.clamp(0, 1) * SIZE).int().tolist()
        knots[0], knots[-1] = 0, SIZE
        pieces = [
            torch.linspace(-1 + 2 * k / (n - 1), -1 + 2 * (k + 1) / (n - 1), knots[k + 1] - knots[k])
            for k in range(n - 1)
        ]
        ramps.append(torch.cat(pieces))
    grid = torch.stack(torch.meshgrid(*ramps, indexing="xy"), dim=-1)[None]
    expected = torch.nn.functional.grid_sample(images, grid, padding_mode="zeros", align_corners=False)
    torch.testing.assert_close(warped, expected, atol=1e-4, rtol=1e-4)


def test_distortion_survives_images_smaller_than_its_knots():
    warped = grid_distortion(torch.ones(5, 3, 8, 8), generator())
    assert warped.shape == (5, 3, 8, 8)
    assert warped.isfinite().all()


def test_every_image_has_its_own_warp():
    warped = grid_distortion(coordinates(3), generator())
    assert not torch.equal(warped[0], warped[1])
    assert not torch.equal(warped[1], warped[2])


def test_jitter_is_a_bounded_orbit_about_the_origin():
    cameras = ring_cameras()
    moved = camera_jitter(cameras, generator())
    torch.testing.assert_close(moved.positions.norm(dim=-1), cameras.positions.norm(dim=-1))
    # One rotation moves position and axes: what the camera sees of the origin, and where, does not change.
    torch.testing.assert_close(moved.w2c[:, :3, 3], cameras.w2c[:, :3, 3])
    assert torch.equal(moved.intrinsics, cameras.intrinsics)
    rotation = moved.c2w[:, :3, :3] @ cameras.c2w[:, :3, :3].mT
    torch.testing.assert_close(rotation @ rotation.mT, torch.eye(3, dtype=torch.float64).expand_as(rotation))
    trace = rotation.diagonal(dim1=-2, dim2=-1).sum(-1)
    angle = torch.rad2deg(((trace - 1) / 2).clamp(-1, 1).acos())
    assert (angle <= 27.0).all()
    assert angle.max() > 12.0


def test_jitter_turns_by_18_degrees_about_up_and_9_about_right():
    cameras = orbit_cameras(torch.zeros(20000), 0.0, dtype=torch.float64)
    positions = camera_jitter(cameras, generator()).positions
    azimuth = torch.rad2deg(torch.atan2(positions[:, 0], positions[:, 2]))
    elevation = torch.rad2deg(torch.asin(positions[:, 1] / 1.5))
    assert 17.5 < azimuth.abs().max() <= 18.0 + 1e-6
    assert 8.7 < elevation.abs().max() <= 9.0 + 1e-6
    assert abs(float(azimuth.mean())) < 0.4
    assert abs(float(azimuth.std()) - 18.0 / math.sqrt(3)) < 0.3


def test_strength_zero_leaves_the_cameras():
    cameras = ring_cameras()
    torch.testing.assert_close(camera_jitter(cameras, generator(), strength=0.0).c2w, cameras.c2w)


def test_augmentations_are_pure_and_follow_their_generator():
    images, cameras = coordinates(2), ring_cameras()
    images_before, poses_before = images.clone(), cameras.c2w.clone()
    state = torch.random.get_rng_state()
    first = grid_distortion(images, generator(5)), camera_jitter(cameras, generator(5)).c2w
    again = grid_distortion(images, generator(5)), camera_jitter(cameras, generator(5)).c2w
    other = grid_distortion(images, generator(6)), camera_jitter(cameras, generator(6)).c2w
    assert torch.equal(images, images_before)
    assert torch.equal(cameras.c2w, poses_before)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(first, other, strict=True))


def test_a_mirror_shows_the_mirrored_world() -> None:
    """A point and its mirror image fall on mirrored pixels, at the same depth; twice is nothing."""
    cameras = orbit_cameras(torch.tensor([0.0, 70.0, 200.0]), 12.0, size=(SIZE, SIZE), dtype=torch.float64)
    images, masks = torch.rand(3, 3, SIZE, SIZE), torch.rand(3, 1, SIZE, SIZE)
    flipped, flipped_masks, mirrored = mirror(images, masks, cameras)
    points = torch.rand(3, 5, 3, dtype=torch.float64) - 0.5
    pixels, depths = cameras.project(points)
    other_pixels, other_depths = mirrored.project(points * points.new_tensor([-1.0, 1.0, 1.0]))
    torch.testing.assert_close(other_depths, depths)
    torch.testing.assert_close(other_pixels[..., 0], SIZE - pixels[..., 0])
    torch.testing.assert_close(other_pixels[..., 1], pixels[..., 1])
    assert torch.equal(flipped[..., 0], images[..., -1]) and torch.equal(flipped_masks[..., 0], masks[..., -1])
    torch.testing.assert_close(mirror(flipped, flipped_masks, mirrored)[2].c2w, cameras.c2w)
    assert torch.linalg.det(mirrored.c2w[:, :3, :3]).tolist() == pytest.approx([1.0] * 3)


def test_swapped_colors_are_the_same_colors() -> None:
    images = torch.rand(2, 4, 3, 8, 8)
    swapped = swap_colors(images, generator(3))
    torch.testing.assert_close(swapped.sort(dim=-3).values, images.sort(dim=-3).values)
    seen = {
        tuple(swap_colors(torch.arange(3.0)[:, None, None], generator(seed)).flatten().tolist()) for seed in range(40)
    }
    assert len(seen) == 6
