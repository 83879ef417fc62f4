"""Attention in blocks against PyTorch's, in values and gradients."""

from __future__ import annotations

from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from core.cpu import attention as module
from core.cpu import dispatch
from core.cpu.jit import run_parallel
from core.cpu.softmax_kernels import ROWS, gradient_rows, softmax_rows
from core.model.attention import attention as plain_attention

attention = partial(dispatch.attention, otherwise=plain_attention)
SHAPE = (2, 3, 70, 16)  # batch, heads, tokens, width


def values_and_gradients(function: object, qkv: list[Tensor]) -> list[Tensor]:
    qkv = [tensor.detach().requires_grad_() for tensor in qkv]
    out = function(*qkv)
    grad = torch.randn(out.shape, generator=torch.Generator().manual_seed(1)).to(out.dtype)
    return [out.detach(), *torch.autograd.grad(out, qkv, grad)]


@pytest.fixture
def qkv() -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(SHAPE, generator=generator).bfloat16() for _ in range(3)]


# One block; several heads in one; one head in several blocks; rows one by one.
@pytest.mark.parametrize("block", [1 << 20, 2 * 70 * 70, 1000, 1])
def test_blocks_of_any_size_agree_with_double_precision(
    qkv: list[Tensor], block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_BLOCK", block)
    ours = values_and_gradients(attention, qkv)
    exact = values_and_gradients(F.scaled_dot_product_attention, [tensor.double() for tensor in qkv])
    theirs = values_and_gradients(F.scaled_dot_product_attention, qkv)
    for mine, expected, torchs in zip(ours, exact, theirs, strict=True):
        assert mine.dtype == torch.bfloat16
        error, limit = (mine - expected).norm() / expected.norm(), 0.01
        if block == 1:  # key and value gradients are summed up in bfloat16, here 70 times
            limit = 0.03
        assert error < limit
        assert (torchs - expected).norm() / expected.norm() < 0.01  # the yardstick is itself in bfloat16


def test_query_and_key_counts_may_differ_and_layout_does_not_matter(qkv: list[Tensor]) -> None:
    q, k, v = qkv
    out = attention(q[:, :, :30], k, v)
    strided = [tensor.transpose(1, 2).contiguous().transpose(1, 2) for tensor in (q[:, :, :30], k, v)]
    assert torch.equal(out, attention(*strided))
    torch.testing.assert_close(out, F.scaled_dot_product_attention(q[:, :, :30], k, v), rtol=0.05, atol=0.02)


def test_float32_is_pytorchs_own(qkv: list[Tensor]) -> None:
    q, k, v = (tensor.float() for tensor in qkv)
    assert torch.equal(attention(q, k, v), F.scaled_dot_product_attention(q, k, v))


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (5, 63), (17, 64), (40, 333)])
def test_softmax_of_rows_is_rounded_once(rows: int, columns: int) -> None:
    scores = (30 * torch.randn(rows, columns, generator=torch.Generator().manual_seed(0))).bfloat16()
    exact = torch.softmax(scores.double(), dim=-1)
    run_parallel(softmax_rows, -(-rows // ROWS), scores.view(torch.int16).numpy())
    # Half a unit in the last place and the polynomial's error, a fiftieth of it; far below one, float32's smallest
    # exponents count as zero or nearly so.
    torch.testing.assert_close(scores.double(), exact, rtol=1.02 * 2**-8, atol=1e-30)


def test_softmax_of_rows_on_either_side_of_zero() -> None:
    scores = torch.linspace(0.5, 80, 100).repeat(3, 1)
    scores[1:] *= -1
    scores[2, ::7] *= -1
    scores = scores.bfloat16()
    exact = torch.softmax(scores.double(), dim=-1)
    run_parallel(softmax_rows, 1, scores.view(torch.int16).numpy())
    torch.testing.assert_close(scores.double(), exact, rtol=1.02 * 2**-8, atol=1e-30)


def test_softmax_passes_nan_on_whatever_its_sign() -> None:
    scores = torch.zeros(5, 100).bfloat16()
    scores[1, 7] = float("nan")
    scores[2, 99] = -scores[1, 7]
    scores[3, 0], scores[4, 50] = torch.inf, -torch.inf
    run_parallel(softmax_rows, 1, scores.view(torch.int16).numpy())
    assert scores[0].isfinite().all() and scores[1:].isnan().all()


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (17, 64), (40, 333)])
def test_gradients_of_rows_are_rounded_once(rows: int, columns: int) -> None:
    generator = torch.Generator().manual_seed(0)
    slopes, weights = (torch.randn(rows, columns, generator=generator).bfloat16() for _ in range(2))
    taken = torch.randn(rows, generator=generator)
    exact = (slopes.double() - taken.double()[:, None]) * weights.double()
    bits = (matrix.view(torch.int16).numpy() for matrix in (slopes, weights))
    run_parallel(gradient_rows, -(-rows // ROWS), *bits, taken.numpy())
    torch.testing.assert_close(slopes.double(), exact, rtol=1.02 * 2**-8, atol=1e-6)


@pytest.mark.parametrize("queries", [70, 1 << 14])
def test_a_single_key_has_nothing_to_learn(queries: int) -> None:
    """Its weight is 1 whatever the query, with few and with many of them, where the kernel takes over."""
    generator = torch.Generator().manual_seed(0)
    qkv = [torch.randn(1, 2, count, 16, generator=generator).bfloat16() for count in (queries, 1, 1)]
    _, g_query, _, g_value = values_and_gradients(attention, qkv)
    assert g_query.float().abs().mean() < 2e-5 and g_value.any()


def test_long_rows_take_the_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    taken = []
    monkeypatch.setattr(module, "run_parallel", lambda *args: [taken.append(args[0]), run_parallel(*args)])
    q, k, v = (torch.randn(1, 1, 200, 16, generator=torch.Generator().manual_seed(k)).bfloat16() for k in range(3))
    out = attention(q.requires_grad_(), k, v)
    assert taken == [softmax_rows]
    out.sum().backward()
    assert taken == [softmax_rows, softmax_rows, gradient_rows]
    exact = F.scaled_dot_product_attention(q.double(), k.double(), v.double())
    assert (out - exact).norm() < 0.01 * exact.norm()


def test_activation_checkpointing_gives_the_same_gradients(qkv: list[Tensor]) -> None:
    plain = values_and_gradients(attention, qkv)
    again = values_and_gradients(lambda *qkv: checkpoint(attention, *qkv, use_reentrant=False), qkv)
    assert all(map(torch.equal, plain, again))
