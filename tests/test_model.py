"""L4GM: the published tensors, and the order of its Gaussians."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from core.architectures import build_model
from core.cameras import orbit_cameras
from core.errors import UserError
from core.model import L4GM
from core.options import PRESETS, ModelOptions
from core.view_grid import ViewGrid

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
        count = sum(p.numel() for p in build_model(PRESETS["nano"].model).parameters())
    assert count < 16e6
    assert PRESETS["nano"].model.splat_size == 64


def grid_of(images: torch.Tensor, azimuth: tuple[float, ...] = (0.0, 90.0)) -> torch.Tensor:
    """``[1,T,V,3,H,W]`` in [0, 1] and orbit rays."""
    cameras = orbit_cameras(torch.tensor(azimuth), size=tuple(images.shape[-2:]), dtype=images.dtype)
    return ViewGrid.of(images, cameras.expand(*images.shape[:3])).tensor()


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
@pytest.mark.parametrize(("architecture", "count"), [("l4gm", 2), ("nano", 4)])
def test_several_gaussians_a_pixel(architecture: str, count: int) -> None:
    model = build_model(replace(TINY, gaussian_perpixel=count, architecture=architecture))
    cameras = orbit_cameras(torch.tensor([0.0, 90.0]), size=(32, 32))[None, None]
    assert model(ViewGrid.of(torch.rand(1, 1, 2, 3, 32, 32), cameras)).num == 2 * 16 * 16 * count


def test_grids_that_do_not_fit_are_refused() -> None:
    model = L4GM(TINY)
    with pytest.raises(UserError, match=r"\[B,T,V,9,H,W\], got \(1, 4, 9, 32, 32\)"):
        model(torch.zeros(1, 4, 9, 32, 32))
    with pytest.raises(UserError, match=r"multiples of 2, got \(32, 31\)"):
        model(torch.zeros(1, 1, 4, 9, 32, 31))
