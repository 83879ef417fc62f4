"""Laws of the channels that the network gets beside colours and rays: the hull, and what neighbours show on a ray."""

from __future__ import annotations

import torch
from torch import Tensor

from core.cameras import cross, orbit_cameras
from core.nano.cost_volume import OFFSETS, SCENE_CHANNELS, scene_channels
from core.nano.scene import Scene, scene_of
from core.nano.visual_hull import HullFront
from core.view_grid import ViewGrid

RING = (0.0, 90.0, 180.0, 270.0)
RADIUS = 0.3
NEXT, PREVIOUS = 2, 2 + len(OFFSETS) + 3


def ball(size: int = 64) -> tuple[Scene, Tensor]:
    """A ball whose colour is a smooth function of the place, from four sides; and the true depths ``[V, H, W]``."""
    cameras = orbit_cameras(torch.tensor(RING), size=(size, size))
    moments, directions = cameras.pluecker().movedim(1, -1).chunk(2, dim=-1)
    closest = cross(directions, moments)
    distance = closest.norm(dim=-1)
    depth = -(RADIUS**2 - distance**2).clamp_min(0).sqrt()
    points = closest + depth[..., None] * directions
    colors = torch.where((distance < RADIUS)[..., None], 0.4 + points, torch.ones(()))
    images = colors.movedim(-1, 1)[None, None]
    return scene_of(ViewGrid.of(images, cameras[None, None]), (size, size)), depth


def channels_of(scene: Scene) -> Tensor:
    """Of the views ``[B, T, V, 22, H, W]``."""
    return scene_channels(scene)[scene.index]


def test_channels_have_the_size_of_the_images_and_are_zero_far_from_the_foreground() -> None:
    scene, _ = ball()
    channels = channels_of(scene)
    assert channels.shape == (1, 1, 4, SCENE_CHANNELS, 64, 64)
    assert channels[..., :4, :4].abs().max() == 0
    torch.testing.assert_close(channels[:, :, :, 0], scene.hull.depth)
    torch.testing.assert_close(channels[:, :, :, 1], scene.hull.hit)


def test_the_colour_difference_to_a_neighbour_is_smallest_at_the_surface() -> None:
    """Right of the middle view 0 and the next one, at 90 degrees, see the same points; left, the previous one."""
    scene, depth = ball()
    channels = channels_of(scene)[0, 0, 0]
    true = (depth[0] - scene.hull.depth[0, 0, 0])[28:36]
    for first, columns in ((NEXT, slice(38, 41)), (PREVIOUS, slice(23, 26))):
        differences = channels[first : first + len(OFFSETS), 28:36, columns]
        found = torch.tensor(OFFSETS)[differences.argmin(dim=0)]
        assert (found - true[:, columns]).abs().max() < 0.05


def test_colours_are_those_of_the_neighbour_at_the_hull() -> None:
    images = torch.full((1, 1, 4, 3, 32, 32), 1.0)
    for view, level in enumerate((0.1, 0.3, 0.5, 0.7)):
        images[:, :, view, :, 8:24, 8:24] = level
    cameras = orbit_cameras(torch.tensor(RING), size=(32, 32)).expand(1, 1, 4)
    middle = channels_of(scene_of(ViewGrid.of(images, cameras), (32, 32)))[0, 0, :, :, 15:17, 13:19]
    # At the front of a cube, seen from its sides: near their edges, so inside within a pixel.
    for view in range(4):
        for first, turn in ((NEXT, 1), (PREVIOUS, -1)):
            level = (0.1, 0.3, 0.5, 0.7)[(view + turn) % 4]
            seen = middle[view, first + 1]  # the difference a little behind the front
            torch.testing.assert_close(seen, torch.full_like(seen, abs(level - (0.1, 0.3, 0.5, 0.7)[view])))


def test_gaussians_of_a_coarser_grid_share_their_channels_between_pixels() -> None:
    scene, _ = ball()
    cameras, images = scene.cameras, scene.grid.view_images
    coarse = channels_of(scene_of(ViewGrid.of(images, cameras), (32, 32)))
    assert coarse.shape[-1] == 64
    torch.testing.assert_close(coarse[..., 0::2, 0::2], coarse[..., 1::2, 1::2])


def test_the_kernel_compares_as_torch_does() -> None:
    """Float64 goes through torch, float32 through the kernel; oblong images, coarser Gaussians."""
    generator = torch.Generator().manual_seed(0)
    colors = torch.rand(1, 2, 4, 3, 12, 12, generator=generator)
    images = torch.nn.functional.interpolate(colors.flatten(0, 2), (32, 48), mode="bilinear").clamp(max=0.9)
    images[..., :8], images[..., 26:] = 1.0, 1.0
    cameras = orbit_cameras(torch.tensor([0.0, 75.0, 180.0, 270.0]), 10.0, size=(32, 48)).expand(1, 2, 4)
    grid = ViewGrid.of(images.reshape(1, 2, 4, 3, 32, 48), cameras)
    scene = scene_of(grid.to(torch.float64), (16, 24))
    exact = channels_of(scene)
    points, directions = scene.rays.closest_points.float(), scene.rays.directions.float()
    rays = scene.rays._replace(closest_points=points, directions=directions)
    hull = HullFront(*(x.float() for x in scene.hull))
    ours = channels_of(Scene(grid, grid.index, rays, hull))
    torch.testing.assert_close(ours.double(), exact, atol=1e-4, rtol=0)
    assert exact[:, :, :, 2:].abs().max() > 0.3


def test_repeated_side_views_show_what_they_showed_beside_their_own_front() -> None:
    """Of three frames the second repeats the side views of the first, the third has its own; all fronts differ."""
    cameras = orbit_cameras(torch.tensor(RING), size=(32, 32)).expand(1, 3, 4)
    images = torch.ones(1, 3, 4, 3, 32, 32)
    images[..., 8:24, 8:24] = torch.rand(1, 3, 4, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 0.8
    images[:, 1, 1:] = images[:, 0, 1:]
    whole = ViewGrid.of(images, cameras)
    stored = torch.tensor([0, 1, 2, 3, 4, 8, 9, 10, 11])
    index = torch.tensor([[[0, 1, 2, 3], [4, 1, 2, 3], [5, 6, 7, 8]]])
    grid = ViewGrid(whole.images[stored], whole.cameras[stored], index)
    together = channels_of(scene_of(grid, (32, 32)))[0]
    alone = [
        channels_of(scene_of(ViewGrid.of(images[:, t : t + 1], cameras[:, t : t + 1]), (32, 32)))[0, 0]
        for t in range(3)
    ]
    assert torch.equal(together[1, 1:], alone[0][1:]) and not torch.equal(alone[1][1:], alone[0][1:])
    assert torch.equal(together[1, :1], alone[1][:1])
    assert torch.equal(together[0], alone[0]) and torch.equal(together[2], alone[2])
    exact = channels_of(scene_of(grid.to(torch.float64), (32, 32)))[0]  # without the kernel
    assert torch.equal(exact[1, 1:], exact[0, 1:]) and not torch.equal(exact[2, 1:], exact[0, 1:])
