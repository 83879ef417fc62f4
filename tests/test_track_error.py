"""The track error of benchmarks/tracking.py: points keep their place on a surface; a known motion has no error."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from benchmarks.mesh import follow
from benchmarks.tracking import rigidly_moved, track_error
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
    paths = follow(triangles, 50)
    assert paths.shape == (3, 50, 3)
    moved = rigidly_moved(torch.from_numpy(paths[0]).float(), torch.from_numpy(paths[1]).float())
    assert np.abs(moved.numpy() - paths[1]).max() < 1e-5


def test_a_rigid_motion_is_found_and_tracks_that_follow_it_have_no_error() -> None:
    found = track_error(turning()[:2], surface()[:2])
    assert found["refined"]["track error"] < 1e-5 and found["rigid"]["track error"] < 1e-5
    frozen = found["frozen"]
    assert 0.2 < frozen["track error"] < 0.8
    assert max(frozen["across the image"], frozen["in depth"]) < frozen["track error"]


def test_no_rigid_motion_tears_an_object_apart() -> None:
    still = sequence(*(turning()[0] for _ in range(3)))
    found = track_error(still, surface())
    assert found["rigid"]["track error"] > 0.03
    assert found["refined"] == pytest.approx(found["frozen"], rel=1e-5)
