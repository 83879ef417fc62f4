"""Laws of cameras: orbits, rays, projection, and agreement with kiui's conventions."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from core.cameras import Cameras, orbit_cameras, pinhole_intrinsics


def random_orbit(count: int = 7, size: tuple[int, int] = (6, 10)) -> Cameras:
    generator = torch.Generator().manual_seed(0)
    azimuth = 360 * torch.rand(count, generator=generator)
    elevation = 160 * torch.rand(count, generator=generator) - 80
    return orbit_cameras(azimuth, elevation, radius=1.7, size=size, dtype=torch.float64)


def test_w2c_inverts_c2w() -> None:
    cameras = random_orbit()
    product = cameras.w2c @ cameras.c2w
    torch.testing.assert_close(product, torch.eye(4, dtype=torch.float64).expand_as(product))


def test_rotations_are_right_handed() -> None:
    determinants = torch.linalg.det(random_orbit().c2w[..., :3, :3])
    torch.testing.assert_close(determinants, torch.ones_like(determinants))


def test_azimuth_zero_stands_on_the_z_axis_and_looks_back() -> None:
    camera = orbit_cameras(0.0)
    torch.testing.assert_close(camera.positions, torch.tensor([0.0, 0.0, 1.5]))
    torch.testing.assert_close(camera.c2w[:3, 2], torch.tensor([0.0, 0.0, -1.0]))
    torch.testing.assert_close(camera.c2w[:3, 1], torch.tensor([0.0, -1.0, 0.0]))  # image down is world down


def test_positive_elevation_is_above_the_horizon() -> None:
    assert orbit_cameras(30.0, 20.0).positions[1] > 0


def test_origin_projects_to_the_image_centre_at_the_radius() -> None:
    pixels, depths = random_orbit().project(torch.zeros(1, 3, dtype=torch.float64))
    torch.testing.assert_close(pixels[:, 0], torch.tensor([5.0, 3.0], dtype=torch.float64).expand(7, 2))
    torch.testing.assert_close(depths, torch.full_like(depths, 1.7))


def test_points_on_a_pixel_ray_project_back_to_the_pixel_centre() -> None:
    cameras = random_orbit()
    origins, directions = cameras.rays()
    points = (origins + 1.3 * directions).flatten(1, 2)
    pixels, _ = cameras.project(points)
    y, x = torch.meshgrid(torch.arange(6) + 0.5, torch.arange(10) + 0.5, indexing="ij")
    expected = torch.stack([x, y], dim=-1).double().flatten(0, 1)
    torch.testing.assert_close(pixels, expected.expand_as(pixels))


def test_pluecker_moment_is_perpendicular_and_as_long_as_the_ray_is_far() -> None:
    cameras = random_orbit()
    moment, direction = cameras.pluecker().split(3, dim=1)
    torch.testing.assert_close((moment * direction).sum(1), torch.zeros(7, 6, 10, dtype=torch.float64))
    nearest = torch.linalg.cross(direction, moment, dim=1)
    torch.testing.assert_close(nearest.norm(dim=1), moment.norm(dim=1))


def test_field_of_view_spans_the_height() -> None:
    intrinsics = pinhole_intrinsics(49.1, (512, 512))
    assert intrinsics[0, 0] == pytest.approx(560.444, abs=1e-3)  # the published focal length
    top = math.degrees(math.atan(256 / intrinsics[1, 1].item()))
    assert 2 * top == pytest.approx(49.1)


def test_resizing_keeps_the_rays() -> None:
    camera = orbit_cameras(40.0, 10.0, size=(8, 8), dtype=torch.float64)
    _, fine = camera.rays()
    _, coarse = camera.resized((4, 4)).rays()
    mean = torch.nn.functional.normalize(fine.unfold(0, 2, 2).unfold(1, 2, 2).mean(dim=(-1, -2)), dim=-1)
    torch.testing.assert_close(coarse, mean, atol=1e-3, rtol=0)


def test_indexing_touches_leading_axes_only() -> None:
    cameras = random_orbit(6).reshape(2, 3)
    assert cameras[0].shape == (3,)
    assert cameras[:, 1:].shape == (2, 2)
    assert cameras[..., 0].shape == (2,)
    assert cameras[None].shape == (1, 2, 3)
    torch.testing.assert_close(cameras[1, 2].c2w, cameras.c2w[1, 2])


def test_shapes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\[..., 4, 4\]"):
        Cameras(torch.eye(3), torch.eye(3), (4, 4))
    with pytest.raises(ValueError, match="leading axes"):
        Cameras(torch.eye(4).expand(2, 4, 4), torch.eye(3), (4, 4))


def test_poles_are_refused() -> None:
    with pytest.raises(ValueError, match="poles"):
        orbit_cameras(0.0, 90.0)


@pytest.mark.parametrize(("azimuth", "elevation"), [(0, 0), (90, 0), (-135, 25), (200, -60)])
def test_orbits_agree_with_kiui(azimuth: float, elevation: float) -> None:
    """kiui gives OpenGL poses and has positive elevations below the horizon."""
    kiui = pytest.importorskip("kiui.cam")
    theirs = torch.from_numpy(np.asarray(kiui.orbit_camera(-elevation, azimuth, radius=1.5, opengl=True)))
    theirs = theirs.double() * torch.tensor([1.0, -1.0, -1.0, 1.0], dtype=torch.float64)
    ours = orbit_cameras(azimuth, elevation, radius=1.5, dtype=torch.float64).c2w
    torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=0)
