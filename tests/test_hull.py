"""Laws of the visual hull, as the head's first depth and as a loss: a ball seen from all sides."""

from __future__ import annotations

import pytest
import torch

from core.cameras import Cameras, orbit_cameras
from core.gaussians import Gaussians
from core.hull import REACH, hull_front
from core.losses import hull_depth_error

RADIUS = 0.3


def ring(size: int = 64) -> Cameras:
    return orbit_cameras(torch.tensor([0.0, 90.0, 180.0, 270.0]), size=(size, size))[None, None]


def ball(cameras: Cameras) -> torch.Tensor:
    """Silhouettes of a ball around the origin."""
    origins, directions = cameras.rays()
    return (torch.linalg.cross(origins, directions).norm(dim=-1) < RADIUS).float()[..., None, :, :]


def test_rays_enter_a_ball_at_its_front() -> None:
    cameras = ring()
    front = hull_front(cameras, ball(cameras), (32, 32))
    assert front.shape == (1, 1, 4, 32, 32)
    # Seen from the side a ball's hull is a box: flat in front, a step of the search before the ball.
    assert front[0, 0, :, 15:17, 15:17].flatten().tolist() == pytest.approx([-RADIUS] * 16, abs=0.06)


def test_views_without_foreground_tell_nothing() -> None:
    cameras = ring()
    masks = ball(cameras)
    masks[:, :, 1:] = 0
    front = hull_front(cameras, masks, (32, 32))
    assert front[:, :, 0].abs().max() == 0  # nobody else saw anything
    assert front[0, 0, 1, 16, 16] == pytest.approx(-RADIUS, abs=0.06)  # view 0 bounds the side views' rays


def test_rays_that_miss_go_where_they_come_nearest() -> None:
    cameras = ring()
    front = hull_front(cameras, ball(cameras), (32, 32))
    assert front.abs().max() <= REACH
    assert torch.isfinite(front).all()


def test_blank_input_gives_the_middle_of_every_ray() -> None:
    cameras = ring()
    assert hull_front(cameras, torch.zeros(1, 1, 4, 1, 64, 64), (16, 16)).abs().max() == 0


def test_samples_and_frames_do_not_mix() -> None:
    cameras = ring().expand(2, 3, 4)
    masks = ball(cameras)
    masks[1, 2] = 0
    front = hull_front(cameras, masks, (16, 16))
    torch.testing.assert_close(front[0, 0], hull_front(ring(), ball(ring()), (16, 16))[0, 0])
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
