"""Laws of the visual hull: a ball seen from four sides."""

from __future__ import annotations

import pytest
import torch

from core.cameras import Cameras, orbit_cameras
from core.hull import REACH, hull_front

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
