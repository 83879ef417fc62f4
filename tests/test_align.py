"""Finding the camera of the frame: a known turn, tilt and size are found; the quick search equals the slow one."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from core.cameras import orbit_cameras
from core.gaussians import Gaussians
from core.inference.align import SEARCH_SIZE, Pose, aligned, find_pose, lift
from core.options import CameraOptions
from core.rendering.orbit import OrbitRenderer
from core.rotations import mirrored, scaled, tilt, turn
from tests.tiny import lopsided_gaussians

SIZE = 48


@pytest.fixture(scope="module")
def orbit() -> OrbitRenderer:
    return OrbitRenderer(CameraOptions(renderer="numba"), SIZE)


def stretched() -> Gaussians:
    """Gaussians with directions of their own, so that a wrong quaternion shows."""
    quats = torch.nn.functional.normalize(torch.tensor([0.8, 0.3, -0.4, 0.2]), dim=0).repeat(60, 1)
    scales = torch.tensor([0.12, 0.02, 0.05]).repeat(60, 1)
    return replace(lopsided_gaussians(), scales=scales[None], quats=quats[None])


@pytest.mark.parametrize("degrees", [0, 37, -90, 180])
def test_turned_gaussians_look_the_same_from_the_turned_azimuth(orbit: OrbitRenderer, degrees: int) -> None:
    before, after = orbit(stretched(), [20]), orbit(turn(stretched(), degrees), [20 + degrees])
    torch.testing.assert_close(before, after, atol=2e-3, rtol=0)


@pytest.mark.parametrize("degrees", [0, 25, -40])
def test_tilted_gaussians_look_the_same_from_the_tilted_elevation(orbit: OrbitRenderer, degrees: int) -> None:
    before = orbit(stretched(), [0], elevations=[10])
    after = orbit(tilt(stretched(), degrees), [0], elevations=[10 - degrees])
    torch.testing.assert_close(before, after, atol=2e-3, rtol=0)


def test_mirrored_gaussians_are_the_mirror_image(orbit: OrbitRenderer) -> None:
    torch.testing.assert_close(orbit(mirrored(stretched()), [0]), orbit(stretched(), [0]).flip(-1), atol=2e-3, rtol=0)
    twice = mirrored(mirrored(stretched()))
    assert torch.equal(twice.quats, stretched().quats)


@pytest.mark.parametrize(("pose"), [Pose(-77, 0, 1), Pose(122, 35, 0.8), Pose(5, -20, 1.2)])
def test_aligned_gaussians_look_from_the_front_as_from_the_pose(orbit: OrbitRenderer, pose: Pose) -> None:
    sized = scaled(stretched(), pose.scale)
    before = orbit(sized, [pose.azimuth], elevations=[pose.elevation])
    torch.testing.assert_close(orbit(aligned(stretched(), pose), [0]), before, atol=2e-3, rtol=0)


@pytest.mark.parametrize("azimuth", [-180, -77, 0, 1, 122, 179])
def test_search_finds_the_azimuth_of_the_frame(orbit: OrbitRenderer, azimuth: int) -> None:
    frame = orbit(lopsided_gaussians(), [azimuth])[0, 0]
    found = find_pose(lopsided_gaussians(), frame, orbit, size=SIZE)
    assert found.pose == Pose(azimuth)
    assert found.error == pytest.approx(0, abs=1e-8)


@pytest.mark.parametrize(("true", "noise"), [(33.4, 0.3), (-171.0, 0.5), (90.0, 0.7)])
def test_coarse_to_fine_equals_every_degree_one_render_at_a_time(
    orbit: OrbitRenderer, true: float, noise: float
) -> None:
    gaussians = lopsided_gaussians()
    torch.manual_seed(0)
    frame = (1 - noise) * orbit(gaussians, [true])[0, 0] + noise * torch.rand(3, SIZE, SIZE)
    best = (float("inf"), 0)
    for azimuth in range(-180, 180):
        camera = orbit_cameras(torch.tensor([float(azimuth)]), size=(SIZE, SIZE))
        image = orbit.renderer(gaussians[0], camera).image[0].clamp(0, 1)
        best = min(best, (float(((image - frame) ** 2).mean()), azimuth))
    found = find_pose(gaussians, frame, orbit, size=SIZE)
    assert found.pose == Pose(best[1])
    assert found.error == pytest.approx(best[0], rel=1e-4)


def test_the_first_of_equal_azimuths_wins(orbit: OrbitRenderer) -> None:
    """Invisible Gaussians look the same from everywhere."""
    unseen = replace(lopsided_gaussians(), opacities=torch.zeros(1, 60))
    found = find_pose(unseen, torch.ones(3, SIZE, SIZE), orbit, size=SIZE)
    assert (found.pose, found.error) == (Pose(-180), 0.0)


@pytest.mark.parametrize(("elevation", "scale"), [(17, 1.0), (-24, 1.0), (0, 0.8), (12, 1.25)])
def test_elevation_and_size_are_found_where_they_are_asked_for(
    orbit: OrbitRenderer, elevation: float, scale: float
) -> None:
    true = scaled(lopsided_gaussians(), scale)
    frame = orbit(true, [64], elevations=[elevation])[0, 0]
    level = find_pose(lopsided_gaussians(), frame, orbit, size=SIZE)
    found = find_pose(lopsided_gaussians(), frame, orbit, elevation=elevation != 0, scale=scale != 1, size=SIZE)
    assert found.pose.azimuth == pytest.approx(64, abs=1)
    assert found.pose.elevation == pytest.approx(elevation, abs=1)
    assert found.pose.scale == pytest.approx(scale, rel=0.02)
    assert found.error < 0.2 * level.error


def test_search_may_compare_at_another_size_than_the_frame(orbit: OrbitRenderer) -> None:
    frame = orbit(lopsided_gaussians(), [50], size=96)[0, 0]
    assert find_pose(lopsided_gaussians(), frame, orbit, size=SIZE).pose.azimuth == pytest.approx(50, abs=1)


def test_large_renders_are_cut_into_calls_and_come_out_the_same(
    orbit: OrbitRenderer, monkeypatch: pytest.MonkeyPatch
) -> None:
    both = turn(lopsided_gaussians()[[0, 0, 0]], 10)
    views = {"azimuths": range(0, 360, 50), "elevations": range(-40, 40, 10)}
    whole = orbit(both, **views)
    monkeypatch.setattr("core.rendering.orbit._PIXELS_AT_ONCE", 3 * SIZE**2)
    torch.testing.assert_close(orbit(both, **views), whole)
    monkeypatch.setattr("core.rendering.orbit._PIXELS_AT_ONCE", 17 * SIZE**2)
    torch.testing.assert_close(orbit(both, **views), whole)


def test_lifted_views_begin_at_the_frame() -> None:
    orbit = OrbitRenderer(CameraOptions(renderer="numba"), 48)
    true = lopsided_gaussians()
    frame = orbit(true, [0], size=SEARCH_SIZE)[0, 0]
    lifted = lift(turn(true, 64), frame, orbit)
    assert lifted.pose == Pose(64)
    assert lifted.error < 1e-4
    torch.testing.assert_close(lifted.views, orbit(true)[0], atol=2e-3, rtol=0)
    torch.testing.assert_close(lifted.gaussians.means, true.means[0], atol=1e-5, rtol=0)
