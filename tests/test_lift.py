"""The first frame in 3D: whatever azimuth the raw set starts from, the aligned one starts at the frame."""

from __future__ import annotations

import torch

from core.inference.align import SEARCH_SIZE, Pose
from core.inference.lift import lift
from core.options import CameraOptions
from core.rendering.orbit import OrbitRenderer
from core.rotations import turn
from tests.tiny import lopsided_gaussians


def test_lifted_views_begin_at_the_frame() -> None:
    orbit = OrbitRenderer(CameraOptions(renderer="numba"), 48)
    true = lopsided_gaussians()
    frame = orbit(true, [0], size=SEARCH_SIZE)[0, 0]
    lifted = lift(turn(true, 64), frame, orbit)
    assert lifted.pose == Pose(64)
    assert lifted.error < 1e-4
    torch.testing.assert_close(lifted.views, orbit(true)[0], atol=2e-3, rtol=0)
    torch.testing.assert_close(lifted.gaussians.means, true.means[0], atol=1e-5, rtol=0)
