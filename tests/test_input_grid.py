"""Laws of the input grid: rays, normalisation, replication, blending, blank views."""

import pytest
import torch

from core.cameras import Cameras, input_cameras, orbit_cameras
from core.data.input_grid import blend_between_ends, build_grid, front_alone, replicate_side_views

T, V, SIZE = 4, 4, 16


def images_and_cameras() -> tuple[torch.Tensor, Cameras]:
    generator = torch.Generator().manual_seed(0)
    azimuth = 360 * torch.rand(2, T, V, generator=generator)
    elevation = 60 * torch.rand(2, T, V, generator=generator) - 30
    return torch.rand(2, T, V, 3, SIZE, SIZE, generator=generator), orbit_cameras(azimuth, elevation, size=(SIZE, SIZE))


def test_grid_holds_unit_rays_and_their_moments():
    images, cameras = images_and_cameras()
    grid = build_grid(images, cameras)
    moment, direction = grid[..., 3:6, :, :], grid[..., 6:9, :, :]
    assert grid.shape == (2, T, V, 9, SIZE, SIZE)
    torch.testing.assert_close(direction.norm(dim=-3), torch.ones(2, T, V, SIZE, SIZE))
    torch.testing.assert_close((moment * direction).sum(-3), torch.zeros(2, T, V, SIZE, SIZE), atol=1e-6, rtol=0)
    # d x (o x d) = o - (o.d) d: the point of the ray nearest to the origin, so the moment fixes the ray.
    nearest = torch.linalg.cross(direction, moment, dim=-3)
    origin = cameras.positions[..., None, None].expand_as(nearest)
    along = (origin * direction).sum(-3, keepdim=True)
    torch.testing.assert_close(nearest, origin - along * direction, atol=1e-5, rtol=0)


def test_colours_are_imagenet_normalised():
    cameras = input_cameras(size=SIZE)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    black = build_grid(torch.zeros(4, 3, SIZE, SIZE), cameras)[:, :3]
    white = build_grid(torch.ones(4, 3, SIZE, SIZE), cameras)[:, :3]
    torch.testing.assert_close(black[0, :, 0, 0], -mean / std)
    torch.testing.assert_close(white[3, :, 5, 7], (1 - mean) / std)


def test_grid_of_reordered_frames_is_the_reordered_grid():
    images, cameras = images_and_cameras()
    order = torch.tensor([2, 0, 3, 1])
    torch.testing.assert_close(build_grid(images[:, order], cameras[:, order]), build_grid(images, cameras)[:, order])


def test_input_cameras_stand_around_the_object():
    positions = input_cameras().positions
    expected = 1.5 * torch.tensor([[0.0, 0, 1], [1, 0, 0], [0, 0, -1], [-1, 0, 0]])
    torch.testing.assert_close(positions, expected, atol=1e-6, rtol=0)
    assert (input_cameras(20.0).positions[:, 1] > 0.5).all()


@pytest.mark.parametrize(("shape", "size"), [((3, 3, SIZE, SIZE), SIZE), ((4, 3, SIZE, SIZE), 2 * SIZE)])
def test_images_of_other_cameras_are_refused(shape: tuple[int, ...], size: int):
    with pytest.raises(ValueError, match="do not belong"):
        build_grid(torch.zeros(shape), input_cameras(size=size))


def test_replication_keeps_view_0_and_repeats_the_rest_of_frame_0():
    images, cameras = images_and_cameras()
    before = images.clone()
    new_images, new_cameras = replicate_side_views(images, cameras)
    for t in range(T):
        assert torch.equal(new_images[:, t, 0], images[:, t, 0])
        assert torch.equal(new_images[:, t, 1:], images[:, 0, 1:])
        assert torch.equal(new_cameras.c2w[:, t, 0], cameras.c2w[:, t, 0])
        assert torch.equal(new_cameras.c2w[:, t, 1:], cameras.c2w[:, 0, 1:])
    assert new_cameras.size == cameras.size
    assert new_cameras.intrinsics.shape == cameras.intrinsics.shape
    assert torch.equal(images, before)
    assert torch.equal(replicate_side_views(new_images, new_cameras)[0], new_images)


@pytest.mark.parametrize("num_frames", [1, 2, 3, T])
def test_blend_is_linear_between_untouched_ends(num_frames: int):
    images, cameras = images_and_cameras()
    images, cameras = images[:, :num_frames], cameras[:, :num_frames]
    blended, new_cameras = blend_between_ends(images, cameras)
    assert torch.equal(blended[:, 0], images[:, 0])
    assert torch.equal(blended[:, -1], images[:, -1])
    for t in range(1, num_frames - 1):
        weight = t / (num_frames - 1)
        torch.testing.assert_close(blended[:, t], (1 - weight) * images[:, 0] + weight * images[:, -1])
    assert torch.equal(new_cameras.c2w[:, -1, 1:], cameras.c2w[:, 0, 1:])
    assert torch.equal(new_cameras.c2w[:, -1, 0], cameras.c2w[:, -1, 0])


def test_the_front_alone_is_mirrored_behind_and_white_elsewhere():
    images, cameras = torch.rand(1, T, V, 3, SIZE, SIZE), input_cameras(size=SIZE).expand(1, T, V)
    kept = images.clone()
    kept[:, :, 1:] = 1.0
    kept[:, :, 2] = images[:, :, 0].flip(-1)
    grid = build_grid(images, cameras)
    before = grid.clone()
    torch.testing.assert_close(front_alone(grid), build_grid(kept, cameras))
    assert torch.equal(grid, before)


def test_the_front_alone_is_white_from_every_side_but_the_back():
    cameras = orbit_cameras(torch.tensor([0.0, 45.0, 90.0, 135.0]), size=(SIZE, SIZE))
    images = torch.rand(4, 3, SIZE, SIZE)
    white = torch.cat([images[:1], torch.ones(3, 3, SIZE, SIZE)])
    torch.testing.assert_close(front_alone(build_grid(images, cameras)), build_grid(white, cameras))


def test_grid_follows_the_images_dtype():
    images, cameras = images_and_cameras()
    assert build_grid(images.double(), cameras).dtype == torch.float64
