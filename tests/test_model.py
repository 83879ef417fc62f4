"""L4GM: the published tensors, and the order of its Gaussians."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from core.cameras import orbit_cameras
from core.errors import UserError
from core.model import L4GM
from core.nano.ray_head import RGB_MEAN, RGB_STD
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
@pytest.mark.parametrize(("head", "count"), [("published", 2), ("ray", 4)])
def test_several_gaussians_a_pixel(head: str, count: int) -> None:
    model = L4GM(replace(TINY, gaussian_perpixel=count, head=head))
    assert model(grid_of(torch.rand(1, 1, 2, 3, 32, 32))).num == 2 * 16 * 16 * count


@pytest.mark.parametrize("stereo", [False, True])
def test_wanted_time_steps_are_those_of_the_whole(stereo: bool) -> None:
    torch.manual_seed(0)
    model = L4GM(replace(TINY, head="ray", stereo=stereo, output_skips=stereo, gaussian_perpixel=4)).eval()
    for layer in model.unet.coarse_outs:
        torch.nn.init.normal_(layer.weight, std=0.1)
    grid = grid_of(torch.rand(2, 3, 2, 3, 32, 32))
    wanted = torch.tensor([[False, True, True], [True, False, False]])
    with torch.inference_mode():
        whole, some = model(grid), model(grid, wanted)
    assert some.means.shape[:2] == (3, whole.num)
    for name, field in vars(some).items():
        torch.testing.assert_close(field, getattr(whole, name)[wanted], atol=1e-4, rtol=1e-4)


def test_a_stereo_network_sees_its_neighbours_without_attention() -> None:
    """One view changes; with stereo the others' raw channels follow it."""
    for stereo in (False, True):
        torch.manual_seed(0)
        blind = replace(TINY, down_attention=(False,) * 5, up_attention=(False,) * 5, mid_attention=False)
        model = L4GM(replace(blind, head="ray", stereo=stereo)).eval()
        images = torch.full((1, 1, 2, 3, 32, 32), 0.4)
        other = images.clone()
        other[:, :, 1, 0] = 0.8
        with torch.inference_mode():
            one, two = (model.raw_channels(grid_of(x))[:, :, 0] for x in (images, other))
        assert torch.equal(one, two) is not stereo


def test_grids_that_do_not_fit_are_refused() -> None:
    model = L4GM(TINY)
    with pytest.raises(UserError, match=r"\[B,T,V,9,H,W\], got \(1, 4, 9, 32, 32\)"):
        model(torch.zeros(1, 4, 9, 32, 32))
    with pytest.raises(UserError, match=r"multiples of 2, got \(32, 31\)"):
        model(torch.zeros(1, 1, 4, 9, 32, 31))
