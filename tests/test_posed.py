"""Frames of cameras, and mirrored samples."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from core.cameras import Cameras
from core.nvs.posed import PosedImages, in_frame, mirrored, normalize_poses
from tests.nvs_place import cameras_around


def test_normalised_poses_do_not_depend_on_the_world_they_came_from() -> None:
    c2w = cameras_around(6, (8, 8)).c2w
    world = cameras_around(1, (8, 8), seed=9).c2w[0]
    moved = world @ c2w
    moved[:, :3, 3] *= 3.7
    found = normalize_poses(c2w)
    torch.testing.assert_close(normalize_poses(moved), found)
    assert found[:, :3, 3].abs().max() == pytest.approx(1)
    torch.testing.assert_close(found[:, :3, 3].mean(0), torch.zeros(3, dtype=torch.float64), atol=1e-9, rtol=0)


def test_a_mirrored_sample_is_a_picture_of_the_mirrored_object() -> None:
    """Mirrored points of the object fall on the mirrored pixels."""
    cameras = cameras_around(4, (24, 40))
    off_centre = cameras.intrinsics.clone()
    off_centre[:, 0, 2] += 3
    cameras, images = replace(cameras, intrinsics=off_centre), torch.rand(4, 3, 24, 40)
    posed = mirrored(PosedImages(images, cameras))
    assert torch.equal(posed.images, images.flip(-1))
    assert (posed.cameras.c2w[:, :3, :3].det() > 0.99).all()
    points = torch.randn(50, 3, dtype=torch.float64).clamp(-0.8, 0.8)
    before = _pixels(cameras, points)
    after = _pixels(posed.cameras, points * torch.tensor([-1.0, 1, 1]))
    torch.testing.assert_close(after, torch.stack([40 - before[..., 0], before[..., 1]], -1))


def test_in_the_frame_of_the_first_camera_a_turned_world_is_the_same() -> None:
    """The first stands at azimuth 0, and heights and distances stay."""
    c2w = cameras_around(4, (8, 8)).c2w
    turn = torch.eye(4, dtype=torch.float64)
    turn[:2, :2] = torch.tensor([[math.cos(0.7), -math.sin(0.7)], [math.sin(0.7), math.cos(0.7)]], dtype=torch.float64)
    found = in_frame(c2w, "first")
    torch.testing.assert_close(in_frame(turn @ c2w, "first"), found)
    assert found[0, 1, 3].abs() < 1e-12 and found[0, 0, 3] > 0
    torch.testing.assert_close(found[:, 2, 3], c2w[:, 2, 3])
    torch.testing.assert_close(torch.linalg.inv(found[0]) @ found[1], torch.linalg.inv(c2w[0]) @ c2w[1])
    above = torch.eye(4, dtype=torch.float64)[None]
    assert torch.equal(in_frame(above, "first"), above) and torch.equal(in_frame(c2w, "world"), c2w)


def _pixels(cameras: Cameras, points: torch.Tensor) -> torch.Tensor:
    local = (points - cameras.positions[:, None]) @ cameras.c2w[:, :3, :3]
    image = local @ cameras.intrinsics.mT
    return image[..., :2] / image[..., 2:]
