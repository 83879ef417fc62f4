"""LaCT against published names and recorded numbers, and the laws of its views, chunks and number types."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from core.cameras import Cameras
from core.errors import UserError
from core.lact import FastWeights, LaCT
from core.lact.fast_weights import Rates, gradients, newton_schulz
from core.lact.layer import FastWeightLayer, Operation
from core.options.lact import LACT_PRESETS, LactOptions, lact_preset
from tests.golden import filled
from tests.lact_place import GOLDEN, TINY, pictures, ring, tiny_lact

TENSORS = Path(__file__).parent / "data" / "published_tensors"
PUBLISHED = ("l14_d768_ttt2x", "l24_d768_ttt2x", "l24_d768_ttt4x")


@pytest.mark.parametrize("name", PUBLISHED)
def test_names_and_shapes_are_the_published_ones(name: str) -> None:
    lines = (TENSORS / f"lact_{name}.txt").read_text().splitlines()
    expected = {key: tuple(map(int, shape)) for key, *shape in map(str.split, lines)}
    with torch.device("meta"):
        model = LaCT(LACT_PRESETS[name])
    assert {key: tuple(tensor.shape) for key, tensor in model.state_dict().items()} == expected


@pytest.fixture(scope="module")
def recorded() -> dict[str, Tensor]:
    """What the recorded network gives, under the names of the recording."""
    model, inputs, targets = filled(LaCT(TINY), GOLDEN["fill_scale"]), ring(3), ring(2, offset=15)
    with torch.inference_mode():
        state = model.reconstruct(pictures(3), inputs)
        return {
            "forward": model(pictures(3), inputs, targets),
            "rendering_after_reconstruct": model.render(state, targets),
            "target_ray_d": targets.rays()[1].movedim(-1, 2),
            "state_block0_w0": state[0].w0,
            "state_block0_w1": state[0].w1,
        }


@pytest.mark.parametrize(
    "name", ["forward", "rendering_after_reconstruct", "target_ray_d", "state_block0_w0", "state_block0_w1"]
)
def test_recorded_outputs_are_reproduced(recorded: dict[str, Tensor], name: str) -> None:
    golden, found = GOLDEN[name], recorded[name].flatten().double()
    assert found.numel() == golden["numel"]
    assert found.mean().item() == pytest.approx(golden["mean"], abs=1e-4)
    assert found.std().item() == pytest.approx(golden["std"], abs=1e-4)
    assert found.abs().max().item() == pytest.approx(golden["abs_max"], abs=2e-3)
    values = torch.tensor(golden["value"], dtype=torch.float64)
    torch.testing.assert_close(found[golden["index"]], values, atol=2e-3, rtol=0)


@torch.inference_mode()
def test_forward_is_reconstruct_then_render(recorded: dict[str, Tensor]) -> None:
    """To the bit in the recorded sizes; elsewhere a product of another height may round differently."""
    assert torch.equal(recorded["forward"], recorded["rendering_after_reconstruct"])
    model, size = tiny_lact(layers=3), (12, 20)
    inputs, targets = ring(5, size=size), ring(3, 15, size=size)
    joint = model(pictures(5, size), inputs, targets)
    apart = model.render(model.reconstruct(pictures(5, size), inputs), targets)
    torch.testing.assert_close(joint, apart, atol=2e-6, rtol=0)


@torch.inference_mode()
def test_targets_do_not_see_each_other() -> None:
    model, targets = tiny_lact(), ring(4, offset=15)
    state = model.reconstruct(pictures(3), ring(3))
    together = model.render(state, targets)
    alone = torch.cat([model.render(state, targets[:, i : i + 1]) for i in range(4)], dim=1)
    torch.testing.assert_close(together, alone, atol=2e-6, rtol=0)


@torch.inference_mode()
def test_the_order_of_input_views_does_not_matter() -> None:
    """The sums over tokens are reordered, and Newton-Schulz rounds to bfloat16: equal to its precision."""
    model, inputs, targets, order = tiny_lact(), ring(4), ring(2, 15), torch.tensor([2, 0, 3, 1])
    images = pictures(4)
    ordered = model(images, inputs, targets)
    mixed = model(images[:, order], inputs[:, order], targets)
    torch.testing.assert_close(ordered, mixed, atol=1e-3, rtol=0)
    other = model(images.flip(1), inputs, targets)  # other pictures to the cameras: a difference that shows
    assert (other - ordered).abs().max() > 10 * (mixed - ordered).abs().max()


@torch.inference_mode()
def test_the_order_of_several_chunks_matters_and_one_chunk_of_all_is_the_default() -> None:
    model, inputs, images = tiny_lact(), ring(4), pictures(4)
    one, two = (model.reconstruct(images, inputs, chunks=n) for n in (1, 2))
    again = model.reconstruct(images, inputs)
    assert torch.equal(one[0].w0, again[0].w0)
    turned = model.reconstruct(images.flip(1), inputs[:, torch.tensor([3, 2, 1, 0])], chunks=2)
    assert (two[0].w0 - one[0].w0).abs().max() > 1e-2
    assert (two[0].w0 - turned[0].w0).abs().max() > 1e-2


@torch.inference_mode()
def test_a_state_goes_on_where_it_stopped() -> None:
    """Two chunks in one call, and one call each: the first block's weights agree, as it sees the same tokens."""
    model, inputs, images = tiny_lact(layers=1), ring(4), pictures(4)
    at_once = model.reconstruct(images, inputs, chunks=2)
    state = model.reconstruct(images[:, :2], inputs[:, :2])
    state = model.reconstruct(images[:, 2:], inputs[:, 2:], state)
    for a, b in zip(at_once[0], state[0], strict=True):
        torch.testing.assert_close(a, b, atol=2e-3, rtol=0)


@torch.inference_mode()
def test_samples_of_a_batch_do_not_see_each_other() -> None:
    model, images = tiny_lact(), torch.cat([pictures(3), 1 - pictures(3)])
    inputs, targets = ring(3).expand(2, 3), ring(2, 15).expand(2, 2)
    torch.testing.assert_close(
        model(images, inputs, targets)[:1], model(images[:1], ring(3), ring(2, 15)), atol=1e-3, rtol=0
    )


@torch.inference_mode()
def test_fast_weights_stay_float32_and_keep_their_norms_under_autocast() -> None:
    model = tiny_lact()
    with torch.autocast("cpu", torch.bfloat16):
        state = model.reconstruct(pictures(3), ring(3))
    before = model.blocks[0].module_list[1].f.initial_weights(1)
    for old, new in zip(before, state[0], strict=True):
        assert new.dtype == torch.float32
        torch.testing.assert_close(new.norm(dim=1), old.norm(dim=1), atol=1e-3, rtol=1e-3)
        assert (new - old).abs().max() > 1e-2


def weights_of(seed: int) -> tuple[FastWeights, Tensor, Tensor, Rates]:
    torch.manual_seed(seed)
    kind = {"dtype": torch.float64}
    weights = FastWeights(torch.randn(2, 6, 8, **kind), torch.randn(2, 8, 6, **kind), torch.randn(2, 6, 8, **kind))
    return weights, torch.randn(2, 9, 6, **kind), torch.randn(2, 9, 6, **kind), Rates(*torch.rand(3, 2, 9, 1, **kind))


def test_the_written_gradients_are_those_of_autograd() -> None:
    """Of the sum over tokens of rate x <f(k), v>, for each matrix with its own rates."""
    weights, k, v, rates = weights_of(0)
    weights = FastWeights(*(weight.requires_grad_() for weight in weights))
    found = gradients(weights, k, v, rates)
    for name, rate in (("w0", rates.lr0), ("w1", rates.lr1), ("w2", rates.lr2)):
        (expected,) = torch.autograd.grad((weights(k) * v * rate).sum(), getattr(weights, name))
        torch.testing.assert_close(getattr(found, name), expected)


@pytest.mark.parametrize("shape", [(3, 16, 40), (3, 40, 16), (1, 16, 16)])
def test_newton_schulz_makes_singular_values_about_one(shape: tuple[int, ...]) -> None:
    torch.manual_seed(1)
    matrix = torch.randn(shape)
    found = newton_schulz(matrix, 5)
    assert found.dtype == torch.bfloat16
    values = torch.linalg.svdvals(found.float())
    assert 0.6 < values.min() and values.max() < 1.3
    u, _, v = torch.linalg.svd(matrix, full_matrices=False)
    assert (
        (found.float() * (u @ v)).sum((1, 2)) / found.float().norm(dim=(1, 2)) / (u @ v).norm(dim=(1, 2))
    ).min() > 0.95


def test_a_fresh_layer_asks_for_the_base_rate() -> None:
    layer = FastWeightLayer(8, 4, 2, base_lr=0.01, muon_steps=5)
    torch.nn.init.zeros_(layer.lr_fc.weight)
    torch.nn.init.zeros_(layer.lr_fc.bias)
    for rate in layer._rates(torch.randn(1, 5, 8)):
        torch.testing.assert_close(rate, torch.full_like(rate, 0.01))


def test_a_layer_that_only_writes_returns_no_tokens() -> None:
    layer = FastWeightLayer(8, 4, 2, base_lr=0.01, muon_steps=5)
    tokens, weights = layer(torch.randn(2, 5, 8), [Operation(0, 5, update=True, apply=False)])
    assert tokens.shape == (2, 0, 8) and weights.w0.shape == (4, 4, 8)


def test_computing_activations_again_changes_no_gradient() -> None:
    model = tiny_lact().train()
    found = []
    for model.recompute in (False, True):
        model.zero_grad()
        model(pictures(2), ring(2), ring(2, 15)).square().mean().backward()
        found.append(model.blocks[0].module_list[1].f.w0.grad.clone())
    assert torch.equal(*found) and found[0].abs().max() > 0


@torch.inference_mode()
def test_the_attention_twin_has_the_same_laws() -> None:
    model, inputs, targets, images = tiny_lact(mixer="attention"), ring(4), ring(2, 15), pictures(4)
    joint = model(images, inputs, targets)
    state = model.reconstruct(images, inputs)
    torch.testing.assert_close(joint, model.render(state, targets), atol=2e-6, rtol=0)
    mixed = model(images.flip(1), inputs[:, torch.tensor([3, 2, 1, 0])], targets)
    torch.testing.assert_close(joint, mixed, atol=2e-6, rtol=0)


def test_sizes_that_cannot_be_are_refused_with_both_numbers() -> None:
    with pytest.raises(UserError, match="head_dim is 48 and must divide dim, which is 64"):
        LactOptions(dim=64, head_dim=48, fast_head_dim=64)
    with pytest.raises(UserError, match="15 x 16 pixels do not divide into patches of 4 x 4"):
        tiny_lact()(pictures(1, (15, 16)), ring(1, size=(15, 16)), ring(1))
    with pytest.raises(UserError, match="--config l99 is unknown; choose one of l24_d768_ttt2x"):
        lact_preset("l99")
    assert lact_preset("config/lact_l14_d768_ttt2x.yaml") is LACT_PRESETS["l14_d768_ttt2x"]


@torch.inference_mode()
def test_a_cold_camera_is_no_copy_of_an_input() -> None:
    """The image depends on inputs and on the target camera."""
    model, targets = tiny_lact(), ring(2, 15)
    state = model.reconstruct(pictures(3), ring(3))
    images = model.render(state, targets)
    moved = Cameras(targets.c2w.roll(1, dims=1), targets.intrinsics, targets.size)
    torch.testing.assert_close(model.render(state, moved), images.roll(1, dims=1), atol=2e-6, rtol=0)
    assert (images[:, 0] - images[:, 1]).abs().max() > 1e-4
