"""Laws of the typed grid: rays, normalisation, what belongs together, collation."""

import pytest
import torch

from core.cameras import Cameras, input_cameras, orbit_cameras
from core.view_grid import ViewGrid

T, V, SIZE = 4, 4, 16


def images_and_cameras() -> tuple[torch.Tensor, Cameras]:
    generator = torch.Generator().manual_seed(0)
    azimuth = 360 * torch.rand(2, T, V, generator=generator)
    elevation = 60 * torch.rand(2, T, V, generator=generator) - 30
    return torch.rand(2, T, V, 3, SIZE, SIZE, generator=generator), orbit_cameras(azimuth, elevation, size=(SIZE, SIZE))


def tensor_of(images: torch.Tensor, cameras: Cameras) -> torch.Tensor:
    return ViewGrid.of(images, cameras).tensor()


def features_of(images: torch.Tensor, cameras: Cameras) -> torch.Tensor:
    return ViewGrid(images, cameras, torch.arange(len(images))[None, None]).features()


def test_grid_holds_unit_rays_and_their_moments():
    images, cameras = images_and_cameras()
    grid = tensor_of(images, cameras)
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
    black = features_of(torch.zeros(4, 3, SIZE, SIZE), cameras)[:, :3]
    white = features_of(torch.ones(4, 3, SIZE, SIZE), cameras)[:, :3]
    torch.testing.assert_close(black[0, :, 0, 0], -mean / std)
    torch.testing.assert_close(white[3, :, 5, 7], (1 - mean) / std)


def test_grid_of_reordered_frames_is_the_reordered_grid():
    images, cameras = images_and_cameras()
    order = torch.tensor([2, 0, 3, 1])
    torch.testing.assert_close(tensor_of(images[:, order], cameras[:, order]), tensor_of(images, cameras)[:, order])


def test_input_cameras_stand_around_the_object():
    positions = input_cameras().positions
    expected = 1.5 * torch.tensor([[0.0, 0, 1], [1, 0, 0], [0, 0, -1], [-1, 0, 0]])
    torch.testing.assert_close(positions, expected, atol=1e-6, rtol=0)
    assert (input_cameras(20.0).positions[:, 1] > 0.5).all()


@pytest.mark.parametrize(("shape", "size"), [((3, 3, SIZE, SIZE), SIZE), ((4, 3, SIZE, SIZE), 2 * SIZE)])
def test_images_of_other_cameras_are_refused(shape: tuple[int, ...], size: int):
    with pytest.raises(ValueError, match="do not belong"):
        features_of(torch.zeros(shape), input_cameras(size=size))


def test_features_follow_the_images_dtype_and_not_autocast():
    images, cameras = images_and_cameras()
    assert tensor_of(images.double(), cameras).dtype == torch.float64
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(tensor_of(images, cameras), ViewGrid.of(images, cameras).tensor())
        inside = ViewGrid.of(images, cameras).features()
    assert torch.equal(inside, ViewGrid.of(images, cameras).features())


def test_a_repeated_image_is_stored_once_and_seen_everywhere():
    images, cameras = torch.rand(3, 3, SIZE, SIZE), input_cameras(size=SIZE)[:3]
    grid = ViewGrid(images, cameras, torch.tensor([[[0, 1], [2, 1]]]))
    assert grid.shape == (1, 2, 2) and grid.size == (SIZE, SIZE)
    assert torch.equal(grid.view_images[0, 1, 1], images[1])
    assert torch.equal(grid.view_cameras.c2w[0, 1, 0], cameras.c2w[2])
    assert torch.equal(grid.tensor()[0, 1, 1], grid.features()[1])


def test_collated_grids_see_their_own_images_and_share_none():
    images, cameras = torch.rand(3, 3, SIZE, SIZE), input_cameras(size=SIZE)[:3]
    one = ViewGrid(images, cameras, torch.tensor([[[0, 1], [2, 1]]]))
    two = ViewGrid.of(torch.rand(1, 2, 2, 3, SIZE, SIZE), input_cameras(size=SIZE).reshape(1, 2, 2))
    both = ViewGrid.collate([one, two])
    assert both.shape == (2, 2, 2)
    for b, grid in enumerate((one, two)):
        assert torch.equal(both.tensor()[b : b + 1], grid.tensor())
    assert both.index[0].max() < both.index[1].min()


def test_moving_and_casting_leave_the_index():
    grid = ViewGrid.of(*images_and_cameras())
    double = grid.to(torch.float64)
    assert double.images.dtype == double.cameras.c2w.dtype == torch.float64 and double.index.dtype == torch.int64
    assert grid.to("meta").index.is_meta


@pytest.mark.parametrize("index", [[0, 2, 1], [1, 0, 2], [0, 1, 1], [0, 1, 3], [0, -1, 2]])
def test_an_index_out_of_the_order_of_the_images_is_refused(index: list[int]) -> None:
    with pytest.raises(ValueError, match="order in which they first occur"):
        ViewGrid(
            torch.rand(3, 3, SIZE, SIZE), orbit_cameras(torch.zeros(3), size=(SIZE, SIZE)), torch.tensor([[index]])
        )
