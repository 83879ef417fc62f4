"""Laws of the ray head: pixel colours on pixel rays, on the hull, at any resolution; what is stale is carved away."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from core.cameras import concatenate, orbit_cameras
from core.gaussians import Gaussians
from core.nano.ray_head import activate_on_rays
from core.nano.scene import scene_of
from core.view_grid import ViewGrid


def grid_of(images: Tensor, azimuth: tuple[float, ...] = (0.0, 90.0)) -> ViewGrid:
    """``[1,T,V,3,H,W]`` in [0, 1] and orbit cameras."""
    cameras = orbit_cameras(torch.tensor(azimuth), size=tuple(images.shape[-2:]), dtype=images.dtype)
    return ViewGrid.of(images, cameras.expand(*images.shape[:3]))


def gaussians_of(raw: Tensor, images: Tensor) -> Gaussians:
    """The head on raw channels and images, with as many hull rays as Gaussians."""
    side = raw.shape[-1] * math.isqrt(raw.shape[3] // 14)
    return activate_on_rays(raw, scene_of(grid_of(images), (side, side)))


def bars(rows: slice, *, views: int = 2) -> Tensor:
    """Dark horizontal bars on white, the same in every view: ``[1, 1, V, 3, 32, 32]``."""
    images = torch.ones(1, 1, views, 3, 32, 32)
    images[..., rows, 8:24] = 0.2
    return images


def opacities_by_view(g: Gaussians, views: int = 2) -> Tensor:
    return g.opacities[0, 0].reshape(views, 16, 16)


def test_ray_head_of_zeros_puts_pixel_colours_on_their_rays() -> None:
    images = torch.rand(1, 1, 2, 3, 32, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 0.8
    g = gaussians_of(torch.zeros(1, 1, 2, 14, 16, 16), images)
    cameras = orbit_cameras(torch.tensor([0.0, 90.0]), size=(16, 16), dtype=torch.float64)
    pixels, _ = cameras.project(g.means[0, 0].reshape(2, 256, 3))
    y, x = torch.meshgrid(torch.arange(16) + 0.5, torch.arange(16) + 0.5, indexing="ij")
    expected = torch.stack([x, y], dim=-1).reshape(256, 2).double().expand(2, 256, 2)
    torch.testing.assert_close(pixels, expected, atol=1e-2, rtol=0)
    pooled = torch.nn.functional.avg_pool2d(images.flatten(0, 2), 2).permute(0, 2, 3, 1).reshape(1, 1, 512, 3)
    torch.testing.assert_close(g.colors, pooled)


def test_ray_head_shows_foreground_and_hides_white() -> None:
    images = torch.ones(1, 1, 2, 3, 32, 32)
    images[:, :, 0] = 0.3
    g = gaussians_of(torch.zeros(1, 1, 2, 14, 16, 16), images)
    seen, blank = g.opacities[0, 0].reshape(2, 256)
    assert seen.min() > 0.8
    assert blank.max() < 0.05


def test_ray_head_does_not_depend_on_the_resolution() -> None:
    """Gaussians of a coarse grid are larger by the ratio of the pixels."""
    coarse, fine = (
        gaussians_of(torch.zeros(1, 1, 2, 14, s, s), torch.full((1, 1, 2, 3, 2 * s, 2 * s), 0.3)) for s in (8, 16)
    )
    assert coarse.scales.mean() / fine.scales.mean() == pytest.approx(2, rel=0.05)


def test_ray_head_gradients_are_finite() -> None:
    raw = torch.randn(1, 1, 2, 14, 8, 8, dtype=torch.float64, requires_grad=True)
    g = gaussians_of(raw, torch.rand(1, 1, 2, 3, 16, 16, dtype=torch.float64))
    sum(field.sum() for field in (g.means, g.opacities, g.scales, g.quats, g.colors)).backward()
    assert torch.isfinite(raw.grad).all()


def test_sub_pixels_are_a_finer_grid_of_the_same_kind() -> None:
    """Four Gaussians of a pixel of a 16 x 16 grid stand where those of a 32 x 32 grid stand."""
    images = torch.rand(1, 1, 2, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 0.8
    fine, whole = (gaussians_of(torch.zeros(1, 1, 2, *shape), images) for shape in ((56, 16, 16), (14, 32, 32)))
    for name, values in vars(fine).items():
        torch.testing.assert_close(values, getattr(whole, name))


def test_each_sub_pixel_has_its_own_channels() -> None:
    raw = torch.zeros(1, 1, 2, 56, 16, 16)
    raw[:, :, :, 14 + 11] = -5.0  # red of the second sub-pixel: same row, next column
    plain, g = (gaussians_of(r, torch.full((1, 1, 2, 3, 32, 32), 0.5)) for r in (torch.zeros_like(raw), raw))
    changed = (plain.colors != g.colors).any(dim=-1).reshape(2, 32, 32)
    assert changed[:, 0::2, 1::2].all()
    assert changed.sum() == 2 * 16 * 16


@pytest.mark.parametrize("min_opacity", [0.01, 0.6, 1.1])
def test_faint_gaussians_need_not_be_made(min_opacity: float) -> None:
    """All others come as they are and in order; a view that shows less than another is filled up with faint ones."""
    images = bars(slice(8, 24))
    images[:, :, 1, :, 12:] = 1.0
    raw = torch.randn(1, 1, 2, 56, 8, 8, generator=torch.Generator().manual_seed(0))
    scene = scene_of(grid_of(images), (16, 16))
    whole, some = activate_on_rays(raw, scene), activate_on_rays(raw, scene, min_opacity)
    drawn = (whole.opacities >= min_opacity).unflatten(-1, (2, -1)).sum(-1)
    assert some.num == 2 * max(1, int(drawn.max())) < whole.num
    for name, values in vars(some[0, 0].select(some.opacities[0, 0] >= min_opacity)).items():
        assert torch.equal(values, getattr(whole[0, 0].select(whole.opacities[0, 0] >= min_opacity), name))


def test_what_is_not_a_number_is_never_too_faint() -> None:
    raw = torch.zeros(1, 1, 2, 14, 16, 16)
    raw[0, 0, 1, 3, 0, 0] = float("nan")  # the opacity of a white pixel
    scene = scene_of(grid_of(bars(slice(8, 24))), (16, 16))
    assert not activate_on_rays(raw, scene, 0.5).is_finite()


def test_cameras_that_move_have_rays_of_their_own() -> None:
    """Whether all time steps have the same cameras or not, each has its own rays."""
    images = torch.full((1, 2, 2, 3, 16, 16), 0.3)
    still, other = (orbit_cameras(torch.tensor([a, a + 90.0]), size=(16, 16)).expand(1, 1, 2) for a in (0.0, 20.0))
    grids = [ViewGrid.of(images[:, :1], cameras) for cameras in (still, other)]
    moving = ViewGrid.of(images, concatenate([still, other], dim=1))
    raw = torch.randn(1, 2, 2, 14, 16, 16, generator=torch.Generator().manual_seed(0))
    both = activate_on_rays(raw, scene_of(moving, (16, 16)))
    for t, grid in enumerate(grids):
        one = activate_on_rays(raw[:, t : t + 1], scene_of(grid, (16, 16)))
        torch.testing.assert_close(one.means[:, 0], both.means[:, t])
        torch.testing.assert_close(one.scales[:, 0], both.scales[:, t])


def test_side_view_pixels_that_the_front_no_longer_shows_are_carved_away() -> None:
    images = bars(slice(8, 24))
    images[:, :, 0, :, 8:14] = 1.0  # the front view of a later frame: the upper part has gone
    front, side = opacities_by_view(gaussians_of(torch.zeros(1, 1, 2, 14, 16, 16), images))
    assert side[4:6, 5:11].max() < 0.1
    assert side[8:11, 5:11].min() > 0.8
    assert front[8:11, 5:11].min() > 0.8


def test_the_front_view_is_never_carved() -> None:
    images = bars(slice(8, 24))
    images[:, :, 1, :, 8:14] = 1.0
    front, _ = opacities_by_view(gaussians_of(torch.zeros(1, 1, 2, 14, 16, 16), images))
    assert front[4:11, 5:11].min() > 0.8


def test_shifts_move_across_the_ray_by_world_units_and_are_bounded() -> None:
    images = bars(slice(8, 24))
    still = gaussians_of(torch.zeros(1, 1, 2, 14, 16, 16), images)
    for size, expected in ((1.0, 0.1), (100.0, 0.6)):
        raw = torch.zeros(1, 1, 2, 14, 16, 16)
        raw[:, :, :, 1] = size
        moved = (gaussians_of(raw, images).means - still.means).norm(dim=-1)
        torch.testing.assert_close(moved, torch.full_like(moved, expected), rtol=0.01, atol=1e-4)
