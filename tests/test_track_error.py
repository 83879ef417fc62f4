"""The track error of benchmarks/tracking.py: points keep their place on a surface; a known motion has no error."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from benchmarks.tracking import bounds, rigidly_moved, track_error
from blender_scripts.export_points import followed
from tests.test_meshing_tracks import sequence, turning

pytestmark = pytest.mark.usefixtures("one_thread")


def surface() -> np.ndarray:
    """Triangles of which the second frame is turned by 40 degrees and raised, as `turning` moves, then both halves
    move apart."""
    frames = turning().means[:2, :300].reshape(2, 100, 3, 3).numpy()
    apart = frames[1] + np.where(frames[0, :, :1, :1] > 0, 0.2, -0.2)
    return np.concatenate([frames, apart[None]])


def test_followed_points_stay_on_their_triangles() -> None:
    triangles = surface()
    paths = followed(triangles, 50)
    assert paths.shape == (3, 50, 3)
    moved = rigidly_moved(torch.from_numpy(paths[0]).float(), torch.from_numpy(paths[1]).float())
    assert np.abs(moved.numpy() - paths[1]).max() < 1e-5


def test_a_rigid_motion_is_found_and_tracks_that_follow_it_have_no_error() -> None:
    paths = torch.from_numpy(followed(surface()[:2], 500)).float()
    found = track_error(turning()[:2], paths)
    assert found["refined"]["track error"] < 1e-5 and found["rigid"]["track error"] < 1e-5
    frozen = found["frozen"]
    assert 0.2 < frozen["track error"] < 0.8
    assert max(frozen["across the image"], frozen["in depth"]) < frozen["track error"]


def test_no_rigid_motion_tears_an_object_apart() -> None:
    still = sequence(*(turning()[0] for _ in range(3)))
    paths = torch.from_numpy(followed(surface(), 500)).float()
    found = track_error(still, paths)
    assert found["rigid"]["track error"] > 0.03
    assert found["refined"] == pytest.approx(found["frozen"], rel=1e-5)


def test_bounds_move_frame_0_as_the_truth_does() -> None:
    moving = turning()
    moved = bounds(sequence(*(moving[0] for _ in range(3))), moving.means[:, ::2])
    torch.testing.assert_close(moved["true motion"].means, moving.means, atol=0.02, rtol=0)
    across = moved["true motion across the image"].means
    assert torch.equal(across[..., :2], moved["true motion"].means[..., :2])
    assert torch.equal(across[1:, :, 2], moving.means[:1, :, 2].expand(2, -1))
