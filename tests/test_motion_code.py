"""The motion code of `nano`: no effect when fresh nor on the first frame; else sides follow the front."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from core.architectures import build_model
from core.cameras import input_cameras
from core.checkpoint import load_weights, save_weights
from core.data.side_views import side_view_grid
from core.errors import UserError
from core.nano.model import NanoL4GM
from core.options import ModelOptions
from core.view_grid import ViewGrid

SIZE = 16
# Nothing but the code joins frames: no attention over time, and none over views.
OPTIONS = ModelOptions(
    architecture="nano", input_size=SIZE, down_channels=(8, 16), down_attention=(False, False), mid_attention=False,
    up_channels=(16,), up_attention=(False,), splat_size=8, gaussian_perpixel=4, num_heads=2, norm_groups=4,
    use_temp_attn=False, motion_code=8,
)  # fmt: skip


def network(trained: bool = True) -> NanoL4GM:
    torch.manual_seed(0)
    model = build_model(OPTIONS).eval()
    if trained:
        for layer in model.unet.motion.decode:
            nn.init.normal_(layer.weight)
    return model


def video(fronts: Tensor) -> ViewGrid:
    """Fronts ``[T, 3, S, S]`` with side views that are always the same."""
    sides = torch.rand(1, 3, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1))
    return side_view_grid(fronts[None], sides, input_cameras(size=SIZE).expand(1, len(fronts), 4), "first")


def fronts() -> Tensor:
    return torch.rand(3, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(2))


@torch.inference_mode()
def test_a_fresh_code_changes_nothing() -> None:
    coded, grid = network(trained=False), video(fronts())
    plain = build_model(replace(OPTIONS, motion_code=0)).eval()
    state = {name: value for name, value in coded.state_dict().items() if ".motion." not in name}
    plain.load_state_dict(state)
    assert len(state) < len(coded.state_dict())
    assert torch.equal(coded.raw_channels(grid), plain.raw_channels(grid))


@torch.inference_mode()
def test_the_sides_of_later_frames_follow_the_front_and_the_first_frame_does_not() -> None:
    model, images = network(), fronts()
    before = model.raw_channels(video(images))[0]
    images[2] = images[2].flip(-1)
    after = model.raw_channels(video(images))[0]
    torch.testing.assert_close(after[:2], before[:2])
    assert (after[2, 1:] - before[2, 1:]).abs().amin(dim=0).max() > 0.01
    images[:] = images[0]  # nothing moves: every frame is as the first one
    still = model.raw_channels(video(images))[0]
    torch.testing.assert_close(still, still[:1].expand_as(still))
    torch.testing.assert_close(still[0], before[0])


@torch.inference_mode()
def test_masked_frames_are_told_their_own_codes() -> None:
    model, grid = network(), video(fronts())
    mask = torch.tensor([[False, True, True]])
    torch.testing.assert_close(model.raw_channels(grid, mask)[:, 0], model.raw_channels(grid)[0, 1:])


def test_gradients_reach_the_encoder() -> None:
    model = network()
    model.raw_channels(video(fronts())).square().sum().backward()
    assert all(parameter.grad.abs().max() > 0 for parameter in model.unet.motion.parameters())


def test_weights_without_a_code_start_training_and_are_refused_by_inference(tmp_path: Path) -> None:
    plain = build_model(replace(OPTIONS, motion_code=0))
    save_weights(plain.state_dict(), tmp_path / "plain.safetensors")
    report = load_weights(network(trained=False), tmp_path / "plain.safetensors", strict=False)
    assert report.missing and all(name.startswith("unet.motion.") for name in report.missing)
    with pytest.raises(UserError, match=r"unet\.motion"):
        load_weights(network(), tmp_path / "plain.safetensors")
