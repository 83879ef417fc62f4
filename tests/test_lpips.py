"""The kernels of LPIPS against its formula; the rest of it is tested as a loss, in test_losses.py."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from core.lpips import _distance, unit


def distance_formula(own: Tensor, other: Tensor, head: Tensor) -> Tensor:
    difference = unit(own) - unit(other)
    return torch.einsum("nchw,c->nhw", difference.square(), head).mean((-2, -1))


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 2e-3)])
@pytest.mark.parametrize("channels", [37, 64])
def test_the_kernel_of_feature_distances_agrees_with_the_formula(
    dtype: torch.dtype, tolerance: float, channels: int
) -> None:
    generator = torch.Generator().manual_seed(0)
    own = torch.randn(3, channels, 9, 7, generator=generator).relu().to(dtype)
    other = (own + 0.1 * torch.randn(own.shape, generator=generator)).to(dtype)
    own[0, :, 0, 0] = 0  # has no direction
    head, grad = (torch.rand(size, generator=generator) for size in (channels, 3))
    found = []
    for wide, function in ((dtype, _distance), (torch.float64, distance_formula)):
        leaf = own.to(wide).requires_grad_()
        distances = function(leaf, other.to(wide), head if wide == dtype else head.double())
        (gradient,) = torch.autograd.grad(distances, leaf, grad.to(distances.dtype))
        assert gradient[0, :, 0, 0].isfinite().all()
        gradient[0, :, 0, 0] = 0
        found.append((distances.detach().double(), gradient.double()))
    (distances, gradient), (exact, slope) = found
    torch.testing.assert_close(distances, exact, rtol=1e-5, atol=0)
    assert (gradient - slope).norm() < tolerance * slope.norm()
