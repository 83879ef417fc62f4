"""Images that occur several times: found for certain, and their gradients summed."""

from __future__ import annotations

import pytest
import torch

from core.model.distinct import distinct, rows


def test_equal_images_are_found_wherever_they_are() -> None:
    a, b, c = torch.randn(3, 2, 20, 20)
    first, place = distinct(torch.stack([a, b, a, c, b, a]))
    assert first.tolist() == [0, 1, 3]
    assert place.tolist() == [0, 1, 0, 2, 1, 0]
    assert distinct(torch.stack([a, b, c])) is None
    assert distinct(a[None]) is None


@pytest.mark.parametrize("value", [1.0, float("nan")])
def test_a_single_value_tells_images_apart(value: float) -> None:
    images = torch.zeros(3, 2, 20, 20)
    images[1, 1, 13, 19] = value
    first, place = distinct(images)
    assert first.tolist() == [0, 1] and place.tolist() == [0, 1, 0]
    images[2, 0, 0, 1] = 3.0
    assert distinct(images) is None


def test_images_that_need_gradients_stay_apart() -> None:
    assert distinct(torch.zeros(2, 1, 4, 4, requires_grad=True)) is None


def test_rows_keep_their_layout_and_gradients_are_summed_before_they_are_rounded() -> None:
    x = torch.randn(2, 3, 4, 5).bfloat16().to(memory_format=torch.channels_last).requires_grad_()
    index = torch.tensor([1] + 64 * [0] + [1])
    out = rows(x, index)
    assert out.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(out, x[index])
    grad = (1 + torch.rand(out.shape, generator=torch.Generator().manual_seed(0))).bfloat16()
    (ours,) = torch.autograd.grad(out, x, grad)
    exact = torch.zeros(x.shape, dtype=torch.float64).index_add_(0, index, grad.double())
    assert torch.equal(ours, exact.float().bfloat16())
