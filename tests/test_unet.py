"""The U-Net against recorded numbers, and its laws over time and views."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from core.errors import UserError
from core.model.unet import UNet
from core.options import ModelOptions
from tests.golden import filled

GOLDEN = json.loads((Path(__file__).parent / "data" / "golden_unet.json").read_text())


def options_of(config: dict, **changes: object) -> ModelOptions:
    names = ("down_channels", "down_attention", "up_channels", "up_attention")
    widths = {name: tuple(config[name]) for name in names}
    return ModelOptions(input_size=32, splat_size=16, mid_attention=config["mid_attention"], **widths, **changes)


@pytest.mark.parametrize(("name", "frames"), [("lgm", 1), ("l4gm", 3)])
def test_recorded_outputs_are_reproduced(name: str, frames: int) -> None:
    golden = GOLDEN[name]
    unet = filled(UNet(9, 14, options_of(golden["config"], use_temp_attn=name == "l4gm")))
    assert len(unet.state_dict()) == golden["num_tensors"]
    x = torch.sin(0.11 * torch.arange(frames * 4 * 9 * 32 * 32, dtype=torch.float64)).float()
    with torch.inference_mode():
        y = unet(x.reshape(1, frames, 4, 9, 32, 32))
    assert list(y.flatten(0, 2).shape) == golden["output_shape"]
    expected, y = golden["output"], y.flatten().double()
    assert y.mean().item() == pytest.approx(expected["mean"], abs=1e-5)
    assert y.std().item() == pytest.approx(expected["std"], rel=1e-5)
    assert y.abs().max().item() == pytest.approx(expected["abs_max"], rel=1e-4)
    torch.testing.assert_close(
        y[expected["index"]], torch.tensor(expected["value"], dtype=torch.float64), atol=1e-3, rtol=1e-4
    )


@pytest.fixture(scope="module")
def unet() -> UNet:
    torch.manual_seed(0)
    return UNet(9, 14, options_of(GOLDEN["l4gm"]["config"])).eval()


@torch.inference_mode()
def test_one_instance_serves_any_number_of_frames_and_views(unet: UNet) -> None:
    for frames, views in ((1, 4), (4, 4), (2, 1), (16, 2)):
        assert unet(torch.randn(1, frames, views, 9, 32, 32)).shape == (1, frames, views, 14, 16, 16)


@torch.inference_mode()
@pytest.mark.parametrize("axis", [1, 2])
def test_permuting_frames_or_views_permutes_the_output(unet: UNet, axis: int) -> None:
    x = torch.randn(1, 4, 4, 9, 32, 32)
    order = torch.tensor([2, 0, 3, 1])
    torch.testing.assert_close(
        unet(x.index_select(axis, order)), unet(x).index_select(axis, order), atol=1e-4, rtol=1e-4
    )


@torch.inference_mode()
def test_samples_of_a_batch_do_not_see_each_other(unet: UNet) -> None:
    x = torch.randn(2, 2, 2, 9, 32, 32)
    torch.testing.assert_close(unet(x)[:1], unet(x[:1]), atol=1e-4, rtol=1e-4)


@torch.inference_mode()
def test_frames_do_not_see_each_other_without_temporal_attention() -> None:
    unet = UNet(9, 14, options_of(GOLDEN["l4gm"]["config"], use_temp_attn=False)).eval()
    x = torch.randn(1, 3, 2, 9, 32, 32)
    torch.testing.assert_close(unet(x)[:, 1:2], unet(x[:, 1:2]), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"up_channels": (64, 32)}, r"up_channels\[1\] is 32 but must equal down_channels\[1\], which is 64"),
        ({"splat_size": 32}, r"splat_size is 32 .* gives 16"),
        ({"input_size": 30}, "input_size 30 must be a multiple of 4"),
        ({"down_attention": (True,)}, "1 values for 3 encoder levels"),
        ({"num_heads": 5}, "multiple of norm_groups 32 and num_heads 5"),
        ({"up_channels": (64, 64, 32, 32), "up_attention": (False,) * 4}, "4 levels, more than the 3"),
    ],
)
def test_sizes_that_cannot_fit_are_refused_with_both_numbers(changes: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        replace(options_of(GOLDEN["l4gm"]["config"]), **changes)
