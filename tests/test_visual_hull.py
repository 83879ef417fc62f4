"""Laws of the visual hull, as the head's first depth and as a loss: a ball seen from all sides."""

from __future__ import annotations

import pytest
import torch

from core.cameras import Cameras, orbit_cameras
from core.gaussians import Gaussians
from core.nano.hull_loss import hull_depth_error
from core.nano.visual_hull import REACH, foreground_rays, hull_front, on_pixels

RADIUS = 0.3


def ring(size: int = 64) -> Cameras:
    return orbit_cameras(torch.tensor([0.0, 90.0, 180.0, 270.0]), size=(size, size))[None, None]


def ball(cameras: Cameras) -> torch.Tensor:
    """Silhouettes of a ball around the origin."""
    origins, directions = cameras.rays()
    return (torch.linalg.cross(origins, directions).norm(dim=-1) < RADIUS).float()[..., None, :, :]


def test_rays_enter_a_ball_at_its_front() -> None:
    cameras = ring()
    front = hull_front(cameras, ball(cameras), (32, 32)).depth
    assert front.shape == (1, 1, 4, 32, 32)
    # Seen from the side a ball's hull is a box: flat in front.
    assert front[0, 0, :, 15:17, 15:17].flatten().tolist() == pytest.approx([-RADIUS] * 16, abs=0.02)


def test_views_without_foreground_do_not_bound_the_hull() -> None:
    cameras = ring()
    masks = ball(cameras)
    masks[:, :, 1:] = 0
    front = hull_front(cameras, masks, (32, 32)).depth
    # Nobody else saw anything: the silhouette is inflated, flat outside; the largest square that fits counts.
    assert front[0, 0, 0, 0, 0] == 0
    assert -RADIUS < front[0, 0, 0, 16, 16] < -RADIUS / 2
    assert front[0, 0, 1:].abs().max() == 0  # they see nothing and ask nothing


def test_a_view_from_behind_gives_no_depths() -> None:
    cameras = ring()
    front_and_back, front = ball(cameras), ball(cameras)
    front_and_back[:, :, 1::2] = 0
    front[:, :, 1:] = 0
    one, two = (hull_front(cameras, masks, (32, 32)) for masks in (front, front_and_back))
    torch.testing.assert_close(two.depth[:, :, 0], one.depth[:, :, 0])
    torch.testing.assert_close(two.depth[:, :, 2], one.depth[:, :, 0])
    assert (one.hit[:, :, 0][front[:, :, 0, 0, ::2, ::2] > 0] == 1).all()


def test_a_view_from_behind_loses_what_the_front_no_longer_shows() -> None:
    cameras = ring()
    masks = ball(cameras)
    masks[:, :, 0, :, :28] = 0  # the upper part has left the front view, the others are older
    hit = hull_front(cameras, masks, (64, 64)).hit
    assert hit[0, 0, 2, 20:24, 32].max() == 0 and hit[0, 0, 2, 32:40, 32].min() == 1
    assert hit[0, 0, 0, 30:40, 32].min() == 1


def test_rays_that_miss_go_where_they_come_nearest() -> None:
    cameras = ring()
    front, hit = hull_front(cameras, ball(cameras), (32, 32))
    assert hit[0, 0, 0, 16, 16] == 1 and hit[0, 0, 0, 0, 0] == 0
    assert front.abs().max() <= REACH
    assert torch.isfinite(front).all()


def test_blank_input_gives_the_middle_of_every_ray() -> None:
    cameras = ring()
    front, hit = hull_front(cameras, torch.zeros(1, 1, 4, 1, 64, 64), (16, 16))
    assert front.abs().max() == 0
    assert hit.max() == 0


@pytest.mark.parametrize("known", [(0, 1, 2, 3), (0, 2), (0, 1), (1,)])
def test_the_kernel_walks_as_torch_does(known: tuple[int, ...]) -> None:
    """Odd silhouettes with soft rims, some of them empty: float64 goes through torch, float32 through the kernel."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.rand(2, 4, 12, 12, generator=generator)
    noise = torch.nn.functional.interpolate(noise, (40, 56), mode="bilinear")
    masks = (20 * (noise - 0.55)).clamp(0, 1)[:, None, :, None]
    masks[:, :, [view for view in range(4) if view not in known]] = 0
    cameras = orbit_cameras(torch.tensor([0.0, 75.0, 180.0, 270.0]), 10.0, size=(40, 56)).expand(2, 1, 4)
    ours, exact = (hull_front(cameras.to(dtype), masks.to(dtype), (40, 56)) for dtype in (torch.float32, torch.float64))
    for mine, theirs in zip(ours, exact, strict=True):
        off = (mine.double() - theirs).abs() > 1e-3
        assert off.double().mean() < 2e-3  # a sample at exactly one half may fall to either side
    assert exact.depth.abs().max() > 0.05


def test_foreground_rays_are_those_through_the_foreground_and_beside_it() -> None:
    cameras = ring()[0]
    masks = torch.zeros(1, 4, 1, 64, 64)
    masks[0, 0, 0, 32, 32] = 1.0
    rays = foreground_rays(cameras, masks, (64, 64))
    drawn = on_pixels(torch.ones(*rays.pixels.shape, 1), rays, (64, 64))[0, 0, 0]
    assert rays.pixels.shape == (1, 4, 9)
    assert drawn[31:34, 31:34].min() == 1 and drawn.sum() == 9
    # The point of the ray through the middle that is nearest to the origin is next to it.
    place = (rays.pixels[0, 0] == 32 * 64 + 32).nonzero().item()
    assert rays.closest_points[0, 0, place].norm() < 0.02


def test_rays_of_oblong_views_are_those_of_their_pixels() -> None:
    cameras = orbit_cameras(torch.tensor([0.0, 130.0]), 20.0, size=(32, 48))[None]
    rays = foreground_rays(cameras, torch.ones(1, 2, 1, 32, 48), (16, 24))
    directions = cameras.resized((16, 24)).rays()[1].flatten(2, 3)
    assert torch.equal(rays.pixels, torch.arange(16 * 24).expand(1, 2, -1))
    torch.testing.assert_close(rays.directions, directions)
    assert (rays.closest_points * directions).sum(-1).abs().max() < 1e-6


def test_the_depth_of_a_ray_does_not_depend_on_other_rays() -> None:
    cameras = ring()
    masks = ball(cameras)
    alone = masks.clone()
    alone[0, 0, 0, :, :, :30] = 0  # view 0 queries a part of its rays; its mask says nothing about its own rays
    whole, part = (hull_front(cameras, m, (64, 64)).depth[0, 0, 0] for m in (masks, alone))
    torch.testing.assert_close(part[:, 32:], whole[:, 32:])
    assert part[:, :28].abs().max() == 0


def test_samples_and_frames_do_not_mix() -> None:
    cameras = ring().expand(2, 3, 4)
    masks = ball(cameras)
    masks[1, 2] = 0
    front = hull_front(cameras, masks, (16, 16)).depth
    torch.testing.assert_close(front[0, 0], hull_front(ring(), ball(ring()), (16, 16)).depth[0, 0])
    assert front[1, 2].abs().max() == 0


def ball_and_rays(depth: float, size: int = 64) -> tuple[Gaussians, Cameras, torch.Tensor]:
    """Silhouettes of a ball of radius 0.3 from eight sides, and Gaussians on view 0's rays at this distance."""
    cameras = orbit_cameras(45.0 * torch.arange(8), size=(size, size))[None, None]
    _, directions = cameras.rays()
    origins = cameras.positions[..., None, None, :].expand_as(directions)
    nearest = torch.linalg.cross(origins, directions).norm(dim=-1)
    masks = (nearest < 0.3).float()[:, :, :, None]
    means = (origins + depth * directions)[:, :, 0].flatten(2, 3)
    lead = means.shape[:-1]
    return Gaussians(means, *(torch.ones(*lead, n).squeeze(-1) for n in (1, 3, 4, 3))), cameras, masks


def test_hull_error_is_the_distance_to_the_front_of_the_silhouettes_hull() -> None:
    generator = torch.Generator().manual_seed(0)
    errors = {}
    for depth in (0.9, 1.2, 1.3, 1.5, 1.8):
        gaussians, cameras, masks = ball_and_rays(depth)
        errors[depth] = hull_depth_error(gaussians, cameras, masks, 1, generator).item()
    # The ball's front lies between 1.2 (its middle) and 1.5 (its rim) from the camera.
    assert min(errors, key=errors.get) == 1.3
    assert errors[0.9] - errors[1.2] == pytest.approx(0.3, abs=0.03)
    assert errors[1.8] - errors[1.5] == pytest.approx(0.3, abs=0.03)


def test_hull_error_moves_gaussians_along_their_rays_towards_the_front() -> None:
    gaussians, cameras, masks = ball_and_rays(1.7)
    means = gaussians.means.clone().requires_grad_()
    placed = Gaussians(means, gaussians.opacities, gaussians.scales, gaussians.quats, gaussians.colors)
    hull_depth_error(placed, cameras, masks, 1, torch.Generator().manual_seed(0)).backward()
    outward = torch.nn.functional.normalize(means.detach() - cameras.positions[:, :, :1], dim=-1)
    along = (means.grad * outward).sum(-1)
    assert (along >= 0).all() and (along > 0).any()
    torch.testing.assert_close(means.grad, along[..., None] * outward, atol=1e-7, rtol=1e-4)


def test_hull_error_of_rays_that_miss_is_zero() -> None:
    gaussians, cameras, masks = ball_and_rays(1.0)
    assert hull_depth_error(gaussians, cameras, torch.zeros_like(masks), 1, torch.Generator()).item() == 0
