"""Fused group normalisation against torch's, in values and gradients."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from core.cpu.dispatch import group_norm
from core.cpu.group_norm import FusedGroupNorm
from core.cpu.group_norm_kernels import _sigmoid


def norm_and_input(images: int, channels: int, side: int, groups: int) -> tuple[nn.GroupNorm, Tensor]:
    torch.manual_seed(0)
    norm = nn.GroupNorm(groups, channels)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    # Far from zero, where a sum of squares alone would cancel.
    return norm, 5 + 2 * torch.randn(images, channels, side, side)


def values_and_gradients(norm: nn.GroupNorm, x: Tensor, silu: bool, fused: bool) -> list[Tensor]:
    """The result, and the gradients of x, weight and bias for a fixed gradient of the result."""
    x, weight, bias = (tensor.detach().clone().requires_grad_() for tensor in (x, norm.weight, norm.bias))
    if fused:
        y = FusedGroupNorm.apply(x, weight, bias, norm.num_groups, norm.eps, silu)
    else:
        y = F.group_norm(x, norm.num_groups, weight, bias, norm.eps)
        y = F.silu(y) if silu else y
    generator = torch.Generator().manual_seed(1)
    grad = torch.randn(y.shape, generator=generator).to(y.dtype)
    return [y.detach(), *torch.autograd.grad(y, [x, weight, bias], grad)]


SHAPES = [(3, 24, 16, 8), (2, 20, 7, 5), (40, 8, 4, 8), (1, 64, 32, 32), (2, 512, 2, 32)]


@pytest.mark.parametrize("silu", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_fused_kernels_agree_with_torch_in_double_precision(shape: tuple[int, ...], silu: bool) -> None:
    norm, x = norm_and_input(*shape)
    fused = values_and_gradients(norm, x, silu, fused=True)
    exact = values_and_gradients(norm.double(), x.double(), silu, fused=False)
    for ours, expected in zip(fused, exact, strict=True):
        torch.testing.assert_close(ours.double(), expected, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("silu", [False, True])
def test_bfloat16_is_rounded_once(silu: bool) -> None:
    """The result is the exact one to half a unit in the last place, not the sum of several roundings."""
    norm, x = norm_and_input(3, 24, 16, 8)
    x = x.bfloat16()
    y, g_x, *_ = values_and_gradients(norm, x, silu, fused=True)
    exact, exact_g_x, *_ = values_and_gradients(norm.double(), x.double(), silu, fused=False)
    assert y.dtype == g_x.dtype == torch.bfloat16
    torch.testing.assert_close(y.double(), exact, rtol=2**-8, atol=1e-5)
    # The gradient that comes in is rounded as well.
    assert (g_x - exact_g_x).norm() < 4e-3 * exact_g_x.norm()


def test_contiguous_and_channels_last_inputs_give_the_same() -> None:
    norm, x = norm_and_input(3, 24, 64, 8)
    y = group_norm(x, norm, silu=True)
    torch.testing.assert_close(group_norm(x.to(memory_format=torch.channels_last), norm, silu=True), y, rtol=0, atol=0)
    assert y.is_contiguous(memory_format=torch.channels_last)


def test_small_and_double_inputs_take_torch() -> None:
    norm, x = norm_and_input(1, 24, 8, 8)
    assert torch.equal(group_norm(x, norm), norm(x))
    large = torch.randn(8, 24, 64, 64, dtype=torch.float64)
    assert torch.equal(group_norm(large, norm.double(), silu=True), F.silu(norm(large)))


def test_the_number_of_threads_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    norm, x = norm_and_input(3, 24, 64, 8)
    results = []
    for threads in (1, 2, 3):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        results.append(values_and_gradients(norm, x, silu=True, fused=True))
    for result in results[1:]:
        assert all(map(torch.equal, result, results[0]))


def test_nan_and_infinity_are_seen() -> None:
    norm, x = norm_and_input(2, 24, 64, 8)
    for value in (float("nan"), float("inf")):
        x[1, 3, 5, 6] = value
        y = group_norm(x, norm, silu=True)
        assert y[0].isfinite().all() and not y[1, 3].isfinite().any()


def test_sigmoid_is_exact_to_float32() -> None:
    """Up to the rounding of its argument: half a unit in the last place of 80 is a relative 4e-6 of exp(80)."""
    for reach, relative in ((5, 6e-7), (80, 4e-6)):
        x = torch.linspace(-reach, reach, 1001)
        ours = torch.tensor([_sigmoid(value) for value in x.numpy()])
        torch.testing.assert_close(ours.double(), x.double().sigmoid(), rtol=relative, atol=0)


def test_activation_checkpointing_gives_the_same_gradients() -> None:
    norm, x = norm_and_input(3, 24, 64, 8)
    x.requires_grad_()
    plain = torch.autograd.grad(group_norm(x, norm, silu=True).sum(), [x, norm.weight, norm.bias])
    again = checkpoint(lambda x: group_norm(x, norm, silu=True), x, use_reentrant=False)
    assert all(map(torch.equal, plain, torch.autograd.grad(again.sum(), [x, norm.weight, norm.bias])))
