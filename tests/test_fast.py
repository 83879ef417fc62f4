"""The fast network against the plain one, in values and gradients: repeated images, frame masks, precisions."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from core.architectures import build_model
from core.cameras import input_cameras
from core.data.side_views import insertion_grid, interval_grid, side_view_grid
from core.errors import UserError
from core.model import L4GM, FastL4GM
from core.model.fast import select
from core.model.unet import TemporalAttention
from core.nano.model import NanoL4GM
from core.options import PRESETS, ModelOptions
from core.view_grid import ViewGrid

SIZE = 32
OPTIONS = ModelOptions(
    input_size=SIZE,
    down_channels=(32, 32, 64),
    down_attention=(False, True, True),
    up_channels=(64, 32),
    up_attention=(True, False),
    splat_size=16,
    num_heads=2,
)
CAMERAS = input_cameras(size=SIZE)


def pair(options: ModelOptions = OPTIONS, dtype: torch.dtype = torch.float32) -> tuple[L4GM, FastL4GM]:
    """The plain network and the fast one with its weights."""
    torch.manual_seed(0)
    plain, fast = L4GM(options), FastL4GM(options)
    fast.load_state_dict(plain.state_dict())
    return plain.to(dtype).eval(), fast.to(dtype).eval()


def video(samples: int = 2, frames: int = 3) -> ViewGrid:
    """Fronts of their own, side views repeated: of 24 images 12 are distinct."""
    generator = torch.Generator().manual_seed(1)
    front = torch.rand(samples, frames, 3, SIZE, SIZE, generator=generator)
    sides = torch.rand(samples, 3, 3, SIZE, SIZE, generator=generator)
    return side_view_grid(front, sides, CAMERAS.expand(samples, frames, 4), "first")


def shared_ends() -> ViewGrid:
    return interval_grid(torch.rand(4, 4, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(2)), CAMERAS, 2)


def inserted() -> ViewGrid:
    images = torch.rand(10, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(3))
    return insertion_grid(images[0], images[1:7].unflatten(0, (3, 2)), images[7:], CAMERAS)


def all_distinct() -> ViewGrid:
    return ViewGrid.of(torch.rand(1, 2, 4, 3, SIZE, SIZE), CAMERAS.expand(1, 2, 4))


GRIDS = [video, shared_ends, inserted, all_distinct]


def test_the_keys_are_those_of_the_plain_network() -> None:
    plain, fast = pair()
    shapes = [{name: value.shape for name, value in model.state_dict().items()} for model in (plain, fast)]
    assert shapes[0] == shapes[1] and list(plain.state_dict()) == list(fast.state_dict())


@pytest.mark.parametrize("make", GRIDS)
def test_values_and_gradients_are_those_of_the_plain_network(make: object) -> None:
    grid, (plain, fast) = make(), pair()
    slow, quick = plain.raw_channels(grid.tensor()), fast.raw_channels(grid)
    torch.testing.assert_close(quick, slow, atol=1e-5, rtol=1e-4)
    slopes = torch.randn(slow.shape, generator=torch.Generator().manual_seed(4)) / slow.numel() ** 0.5
    gradients = [
        torch.autograd.grad((raw * slopes).sum(), list(model.parameters()))
        for raw, model in ((slow, plain), (quick, fast))
    ]
    for expected, found in zip(*gradients, strict=True):
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("make", GRIDS)
def test_bfloat16_differs_by_its_rounding_alone(make: object) -> None:
    """As far from the exact result as the plain network in bfloat16 is, or nearer."""
    grid, (exact, _), (plain, fast) = make(), pair(), pair(dtype=torch.bfloat16)
    with torch.inference_mode():
        ground_truth, slow, quick = (
            exact.raw_channels(grid.tensor()),
            plain.raw_channels(grid.tensor()),
            fast.raw_channels(grid),
        )
    errors = [float((raw.float() - ground_truth).norm() / ground_truth.norm()) for raw in (slow, quick)]
    assert errors[1] < 1.2 * errors[0] + 1e-3


@pytest.mark.parametrize("make", GRIDS)
def test_distinct_images_are_encoded_once(make: object) -> None:
    grid, (_, fast) = make(), pair()
    images = []
    fast.unet.conv_in.register_forward_hook(lambda module, args, out: images.append(len(out)))
    fast.unet.mid_block.register_forward_hook(lambda module, args, out: images.append(len(out)))
    with torch.inference_mode():
        fast(grid)
    assert images == [len(grid.images), grid.index.numel()]


@pytest.mark.parametrize("attends", [(True, True), (True, False), (False, False)])
def test_masked_time_steps_are_those_of_the_whole(attends: tuple[bool, bool]) -> None:
    _, fast = pair(replace(OPTIONS, up_attention=attends))
    images = []
    fast.unet.conv_out.register_forward_hook(lambda module, args, out: images.append(len(out)))
    grid = shared_ends()
    frame_mask = torch.tensor([[True, True, True], [False, True, True], [False, False, True]])
    with torch.inference_mode():
        whole, some, result = fast.raw_channels(grid), fast.raw_channels(grid, frame_mask), fast(grid, frame_mask)
    assert images == [3 * 3 * 4, 6 * 4, 6 * 4]
    assert some.shape == (6, 1, 4, 14, 16, 16) and result.shape == (6,)
    torch.testing.assert_close(some[:, 0], whole[frame_mask], atol=1e-5, rtol=1e-4)


def test_a_network_without_attention_before_the_decoder_shares_until_there() -> None:
    plain, fast = pair(replace(OPTIONS, down_attention=(False,) * 3, mid_attention=False))
    grid = video()
    with torch.inference_mode():
        torch.testing.assert_close(fast.raw_channels(grid), plain.raw_channels(grid.tensor()), atol=1e-5, rtol=1e-4)


def test_activation_checkpointing_changes_no_gradient() -> None:
    _, fast = pair()
    whole = torch.autograd.grad(fast.raw_channels(video()).square().mean(), list(fast.parameters()))
    fast.unet.recompute_activations()
    again = torch.autograd.grad(fast.raw_channels(video()).square().mean(), list(fast.parameters()))
    assert all(map(torch.equal, whole, again))


def test_selected_rows_keep_their_layout_and_gradients_are_summed_before_they_are_rounded() -> None:
    x = torch.randn(2, 3, 4, 5).bfloat16().to(memory_format=torch.channels_last).requires_grad_()
    rows = torch.tensor([1] + 64 * [0] + [1])
    out = select(x, rows)
    assert out.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(out, x[rows])
    grad = (1 + torch.rand(out.shape, generator=torch.Generator().manual_seed(0))).bfloat16()
    (ours,) = torch.autograd.grad(out, x, grad)
    exact = torch.zeros(x.shape, dtype=torch.float64).index_add_(0, rows, grad.double())
    assert torch.equal(ours, exact.float().bfloat16())


NANO = replace(OPTIONS, architecture="nano", gaussian_perpixel=4)


def nano(**changes: object) -> NanoL4GM:
    """With coarse outputs and temporal layers that count."""
    torch.manual_seed(0)
    model = build_model(replace(NANO, **changes)).eval()
    for name, value in model.named_parameters():
        if "coarse_outs" in name or "t_attns" in name:
            nn.init.normal_(value, std=0.1)
    return model


@pytest.mark.parametrize("make", GRIDS)
def test_nano_gives_the_masked_time_steps_of_the_whole(make: object) -> None:
    model, grid = nano(), make()
    frame_mask = torch.ones(grid.shape[:2], dtype=torch.bool)
    frame_mask[:, 0] = False
    with torch.inference_mode():
        whole, some = model(grid), model(grid, frame_mask)
    assert some.shape == (int(frame_mask.sum()),) and some.num == whole.num
    for name, field in vars(some).items():
        torch.testing.assert_close(field, getattr(whole, name)[frame_mask], atol=1e-4, rtol=1e-4)


def test_nano_starts_as_a_network_without_time_and_coarse_outputs() -> None:
    torch.manual_seed(0)
    model = build_model(NANO).eval()
    still = build_model(replace(NANO, use_temp_attn=False)).eval()
    added = [name for name in model.state_dict() if "t_attns" in name]
    still.load_state_dict({name: value for name, value in model.state_dict().items() if name not in added})
    assert any(isinstance(module, TemporalAttention) for module in model.modules())
    with torch.inference_mode():
        torch.testing.assert_close(model.raw_channels(video()), still.raw_channels(video()))


def test_every_decoder_level_of_nano_adds_its_own_part_to_the_output() -> None:
    torch.manual_seed(0)
    model = build_model(NANO).eval()
    assert len(model.unet.coarse_outs) == len(NANO.up_channels) - 1

    def output() -> Tensor:
        with torch.inference_mode():
            return model.unet(torch.ones(4, 31, SIZE, SIZE), torch.arange(4).reshape(1, 1, 4))

    before = output()
    for k, layer in enumerate(model.unet.coarse_outs):
        nn.init.constant_(layer.bias, 1.0 + k)
    torch.testing.assert_close(output(), before + sum(1.0 + k for k in range(len(model.unet.coarse_outs))))


def test_nano_sees_its_neighbours_without_attention() -> None:
    """One view changes; the others' raw channels follow it through the cost volume."""
    model = nano(down_attention=(False,) * 5, up_attention=(False,) * 5, mid_attention=False)
    images = torch.full((1, 1, 4, 3, SIZE, SIZE), 0.4)
    other = images.clone()
    other[:, :, 1, 0] = 0.8
    with torch.inference_mode():
        one, two = (model.raw_channels(ViewGrid.of(x, CAMERAS[None, None]))[:, :, 0] for x in (images, other))
    assert not torch.equal(one, two)


def test_each_architecture_is_built_by_its_options_alone() -> None:
    assert type(build_model(OPTIONS)) is FastL4GM and type(build_model(NANO)) is NanoL4GM
    with pytest.raises(UserError, match="architecture 'nano' of these options"):
        L4GM(PRESETS["nano"].model)
    with pytest.raises(UserError, match="build_model"):
        NanoL4GM(OPTIONS)
