"""The CPU renderer against the dense float64 reference: values and gradients of every input."""

from __future__ import annotations

from dataclasses import fields

import pytest
import torch
from reference_rasterizer import render_reference
from torch import Tensor

from core.cameras import Cameras, orbit_cameras
from core.gaussians import Gaussians
from core.rendering import make_renderer

WHITE = torch.ones(3)


def random_gaussians(*lead: int, num: int, scale: float = 0.05, seed: int = 0) -> Gaussians:
    """A cloud inside the cube, anisotropic, of mixed opacity."""
    generator = torch.Generator().manual_seed(seed)

    def uniform(*shape: int) -> Tensor:
        return torch.rand(*lead, num, *shape, generator=generator, dtype=torch.float64)

    return Gaussians(
        means=uniform(3) * 1.4 - 0.7,
        opacities=uniform() * 0.95 + 0.02,
        scales=scale * torch.exp(uniform(3) * 2 - 1),
        quats=uniform(4) * 4 - 2,
        colors=uniform(3),
    )


def cameras_around(*lead: int, size: tuple[int, int], seed: int = 1) -> Cameras:
    """Cameras on the orbit at random places."""
    generator = torch.Generator().manual_seed(seed)
    azimuth = 360 * torch.rand(*lead, generator=generator, dtype=torch.float64)
    elevation = 60 * torch.rand(*lead, generator=generator, dtype=torch.float64) - 30
    return orbit_cameras(azimuth, elevation, size=size, dtype=torch.float64)


def assert_same(gaussians: Gaussians, cameras: Cameras, background: Tensor = WHITE, **planes: float) -> None:
    """Values and all gradients of the CPU renderer agree with the reference, and all are finite."""
    results = []
    for draw, dtype in ((make_renderer("numba", **planes), torch.float32), (render_reference, torch.float64)):
        leaves = {f.name: getattr(gaussians, f.name).to(dtype).clone().requires_grad_() for f in fields(Gaussians)}
        extra = [x.to(dtype).clone().requires_grad_() for x in (cameras.c2w, cameras.intrinsics, background)]
        inputs = (Gaussians(**leaves), Cameras(extra[0], extra[1], cameras.size), extra[2])
        out = draw(*inputs) if dtype == torch.float32 else draw(*inputs, **planes)
        generator = torch.Generator().manual_seed(7)
        loss = sum(
            (torch.randn(part.shape, generator=generator, dtype=torch.float64).to(dtype) * part).sum()
            for part in (out.image, out.alpha, out.depth)
        )
        names = [*leaves, "c2w", "intrinsics", "background"]
        grads = torch.autograd.grad(loss, [*leaves.values(), *extra])
        results.append(({"image": out.image, "alpha": out.alpha, "depth": out.depth}, dict(zip(names, grads))))
    (values, grads), (expected_values, expected_grads) = results
    for name, expected in expected_values.items():
        torch.testing.assert_close(values[name].double(), expected, rtol=1e-5, atol=2e-5, msg=lambda m: f"{name}: {m}")
    for name, expected in expected_grads.items():
        # A rigid inverse and a general one differ in directions that leave the rigid motions: compare inside them.
        got = grads[name].double()
        if name == "c2w":
            got, expected = _rigid_part(cameras.c2w, got), _rigid_part(cameras.c2w, expected)
        assert torch.isfinite(got).all(), name
        scale = expected.abs().amax().clamp(min=1e-6) if expected.numel() else 1.0
        error = (got - expected).abs() / (expected.abs() + 1e-3 * scale)
        assert error.numel() == 0 or error.max() < 2e-2, f"gradient of {name}: {error.max()}"
        assert error.numel() == 0 or (got - expected).norm() <= 1e-3 * expected.norm() + 1e-5, name


def _rigid_part(c2w: Tensor, grad: Tensor) -> Tensor:
    """Gradient along the six rigid motions of the camera: a turn and a shift in its own frame."""
    turn = c2w[..., :3, :3].mT @ grad[..., :3, :3]
    return torch.cat([(turn - turn.mT)[..., [0, 0, 1], [1, 2, 2]], grad[..., :3, 3]], dim=-1)


@pytest.mark.parametrize("size", [(32, 32), (33, 47), (16, 70), (5, 3)])
@pytest.mark.parametrize("scale", [0.01, 0.1])
def test_random_sets(size: tuple[int, int], scale: float) -> None:
    assert_same(random_gaussians(1, 1, num=60, scale=scale), cameras_around(1, 1, 2, size=size), torch.rand(3))


def test_batches_times_and_views() -> None:
    background = torch.rand(2, 3, 2, 3)
    assert_same(random_gaussians(2, 3, num=20), cameras_around(2, 3, 2, size=(24, 20)), background)
