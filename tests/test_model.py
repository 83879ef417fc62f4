"""L4GM: the published tensors, the order of its Gaussians, and the laws of the ray head."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from core.cameras import orbit_cameras
from core.errors import UserError
from core.model import L4GM, RGB_MEAN, RGB_STD, activate_on_rays
from core.options import PRESETS, ModelOptions

TENSORS = Path(__file__).parent / "data" / "published_tensors"
TINY = ModelOptions(
    input_size=32,
    down_channels=(32, 32),
    down_attention=(False, True),
    up_channels=(32,),
    up_attention=(True,),
    splat_size=16,
    num_heads=2,
)


def published(name: str) -> dict[str, tuple[int, ...]]:
    lines = (TENSORS / f"{name}.txt").read_text().splitlines()
    return {name: tuple(map(int, shape)) for name, *shape in map(str.split, lines)}


def tensors_of(preset: str) -> dict[str, tuple[int, ...]]:
    with torch.device("meta"):
        model = L4GM(PRESETS[preset].model)
    return {name: tuple(value.shape) for name, value in model.state_dict().items()}


@pytest.mark.parametrize("preset", ["big", "lrm"])
def test_tensors_are_those_of_the_published_checkpoints(preset: str) -> None:
    assert tensors_of(preset) == published(f"l4gm_{preset}")


@pytest.mark.parametrize("preset", ["big", "lrm", "small", "tiny"])
def test_lgm_lacks_the_temporal_tensors_and_nothing_else(preset: str) -> None:
    ours, lgm = tensors_of(preset), published(f"lgm_{preset}")
    assert {name: shape for name, shape in ours.items() if ".t_attns." not in name} == lgm
    assert len(ours) > len(lgm)


def test_nano_keeps_its_size() -> None:
    with torch.device("meta"):
        count = sum(p.numel() for p in L4GM(PRESETS["nano"].model).parameters())
    assert count < 16e6
    assert PRESETS["nano"].model.splat_size == 64


def grid_of(images: torch.Tensor, azimuth: tuple[float, ...] = (0.0, 90.0)) -> torch.Tensor:
    """``[1,T,V,3,H,W]`` in [0, 1] and orbit rays."""
    size = tuple(images.shape[-2:])
    rays = orbit_cameras(torch.tensor(azimuth), size=size, dtype=images.dtype).pluecker()
    rgb = (images - images.new_tensor(RGB_MEAN)[:, None, None]) / images.new_tensor(RGB_STD)[:, None, None]
    return torch.cat([rgb, rays.expand(*images.shape[:3], 6, *size)], dim=3)


@torch.inference_mode()
def test_gaussians_are_ordered_view_row_column() -> None:
    torch.manual_seed(0)
    model = L4GM(TINY).eval()
    grid = grid_of(torch.rand(1, 2, 2, 3, 32, 32))
    gaussians, raw = model(grid), model.raw_channels(grid)
    assert gaussians.shape == (1, 2)
    assert gaussians.num == 2 * 16 * 16
    view, row, column = 1, 3, 5
    n = (view * 16 + row) * 16 + column
    torch.testing.assert_close(gaussians.means[0, 1, n], raw[0, 1, view, :3, row, column].clamp(-1, 1))
    torch.testing.assert_close(gaussians.opacities[0, 1, n], raw[0, 1, view, 3, row, column].sigmoid())


@torch.inference_mode()
@pytest.mark.parametrize("head", ["published", "ray"])
def test_several_gaussians_a_pixel(head: str) -> None:
    model = L4GM(replace(TINY, gaussian_perpixel=2, head=head))
    assert model(grid_of(torch.rand(1, 1, 2, 3, 32, 32))).num == 2 * 16 * 16 * 2


def test_ray_head_of_zeros_puts_pixel_colours_on_their_rays() -> None:
    images = torch.rand(1, 1, 2, 3, 32, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 0.8
    g = activate_on_rays(torch.zeros(1, 1, 2, 14, 16, 16), grid_of(images))
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
    g = activate_on_rays(torch.zeros(1, 1, 2, 14, 16, 16), grid_of(images))
    seen, blank = g.opacities[0, 0].reshape(2, 256)
    assert seen.min() > 0.8
    assert blank.max() < 0.05


def test_ray_head_does_not_depend_on_the_resolution() -> None:
    """Gaussians of a coarse grid are larger by the ratio of the pixels."""
    coarse, fine = (
        activate_on_rays(torch.zeros(1, 1, 2, 14, s, s), grid_of(torch.full((1, 1, 2, 3, 2 * s, 2 * s), 0.3)))
        for s in (8, 16)
    )
    assert coarse.scales.mean() / fine.scales.mean() == pytest.approx(2, rel=0.05)


def test_ray_head_gradients_are_finite() -> None:
    raw = torch.randn(1, 1, 2, 14, 8, 8, dtype=torch.float64, requires_grad=True)
    g = activate_on_rays(raw, grid_of(torch.rand(1, 1, 2, 3, 16, 16, dtype=torch.float64)))
    sum(field.sum() for field in (g.means, g.opacities, g.scales, g.quats, g.colors)).backward()
    assert torch.isfinite(raw.grad).all()


def test_grids_that_do_not_fit_are_refused() -> None:
    model = L4GM(TINY)
    with pytest.raises(UserError, match=r"\[B,T,V,9,H,W\], got \(1, 4, 9, 32, 32\)"):
        model(torch.zeros(1, 4, 9, 32, 32))
    with pytest.raises(UserError, match=r"multiples of 2, got \(32, 31\)"):
        model(torch.zeros(1, 1, 4, 9, 32, 31))
