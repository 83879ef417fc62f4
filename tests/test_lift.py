"""The first frame in 3D: turning sets and finding the azimuth of the frame."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from core.cameras import orbit_cameras
from core.inference.lift import SEARCH_AZIMUTHS, SEARCH_SIZE, find_azimuth, lift, turn
from core.inference.orbit import OrbitRenderer
from core.options import CameraOptions
from tests.tiny import lopsided_gaussians

SIZE = 48


@pytest.fixture(scope="module")
def orbit() -> OrbitRenderer:
    return OrbitRenderer(CameraOptions(renderer="numba"), SIZE)


@pytest.mark.parametrize("degrees", [0, 37, -90, 180])
def test_turned_set_seen_from_the_turned_azimuth_looks_the_same(orbit: OrbitRenderer, degrees: int) -> None:
    stretched = replace(lopsided_gaussians(), scales=torch.tensor([0.12, 0.02, 0.05]).repeat(60, 1)[None])
    before, after = orbit(stretched, [20]), orbit(turn(stretched, degrees), [20 + degrees])
    torch.testing.assert_close(before, after, atol=2e-3, rtol=0)


@pytest.mark.parametrize("azimuth", [-180, -77, 0, 1, 122, 179])
def test_search_finds_the_azimuth_of_the_frame(orbit: OrbitRenderer, azimuth: int) -> None:
    gaussians = lopsided_gaussians()
    frame = orbit(gaussians, [azimuth])[0, 0]
    assert find_azimuth(gaussians, frame, orbit, SIZE) == (azimuth, pytest.approx(0, abs=1e-8))


def test_batched_search_equals_the_search_one_render_at_a_time(orbit: OrbitRenderer) -> None:
    gaussians = lopsided_gaussians()
    frame = (0.7 * orbit(gaussians, [33.4])[0, 0] + 0.3 * torch.rand(3, SIZE, SIZE)).clamp(0, 1)
    best = (float("inf"), 0)
    for azimuth in range(-180, 180):
        camera = orbit_cameras(torch.tensor([float(azimuth)]), size=(SIZE, SIZE))
        image = orbit.renderer(gaussians[0], camera).image[0].clamp(0, 1)
        best = min(best, (float(((image - frame) ** 2).mean()), azimuth))
    azimuth, error = find_azimuth(gaussians, frame, orbit, SIZE)
    assert azimuth == best[1]
    assert error == pytest.approx(best[0], rel=1e-4)


def test_the_first_of_equal_azimuths_wins(orbit: OrbitRenderer) -> None:
    """A set that cannot be seen looks the same from everywhere."""
    unseen = replace(lopsided_gaussians(), opacities=torch.zeros(1, 60))
    assert find_azimuth(unseen, torch.ones(3, SIZE, SIZE), orbit, SIZE) == (SEARCH_AZIMUTHS[0], 0.0)


def test_search_may_compare_at_another_size_than_the_frame(orbit: OrbitRenderer) -> None:
    frame = orbit(lopsided_gaussians(), [50], size=96)[0, 0]
    assert find_azimuth(lopsided_gaussians(), frame, orbit, SIZE)[0] == pytest.approx(50, abs=1)


def test_large_renders_are_cut_into_calls_and_come_out_the_same(
    orbit: OrbitRenderer, monkeypatch: pytest.MonkeyPatch
) -> None:
    both = lopsided_gaussians()
    both = turn(both[[0, 0, 0]], 10)
    whole = orbit(both, range(0, 360, 50))
    monkeypatch.setattr("core.inference.orbit._PIXELS_AT_ONCE", 3 * SIZE**2)
    torch.testing.assert_close(orbit(both, range(0, 360, 50)), whole)
    monkeypatch.setattr("core.inference.orbit._PIXELS_AT_ONCE", 17 * SIZE**2)
    torch.testing.assert_close(orbit(both, range(0, 360, 50)), whole)


def test_lifted_views_begin_at_the_frame(orbit: OrbitRenderer) -> None:
    """Whatever azimuth the raw views started from, the aligned ones start at the frame and go round from there."""
    true = lopsided_gaussians()
    frame = orbit(true, [0], size=SEARCH_SIZE)[0, 0]
    seen = []

    def reconstruct(front: torch.Tensor, sides: torch.Tensor) -> object:
        seen.append((front, sides))
        return turn(true, 64)

    raw = torch.rand(4, 3, SIZE, SIZE)
    lifted = lift(raw, frame, reconstruct, orbit)
    assert lifted.azimuth == 64
    assert lifted.error < 1e-4
    torch.testing.assert_close(lifted.views, orbit(true)[0], atol=2e-3, rtol=0)
    torch.testing.assert_close(lifted.gaussians.means, true.means[0], atol=1e-5, rtol=0)
    assert torch.equal(torch.cat(seen[0]), raw)
