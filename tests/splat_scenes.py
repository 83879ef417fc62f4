"""Scenes for the renderer tests, and a functional of all outputs to differentiate."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace

import torch
from torch import Tensor

from core.cameras import Cameras, orbit_cameras
from core.gaussians import Gaussians

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
    """Cameras on the orbit at random places, with principal points a little off the centre."""
    generator = torch.Generator().manual_seed(seed)

    def uniform(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(*lead, generator=generator, dtype=torch.float64)

    cameras = orbit_cameras(uniform(0, 360), uniform(-30, 30), size=size, dtype=torch.float64)
    shift = torch.stack([torch.stack([uniform(0, 0), uniform(0, 0), uniform(-2, 2)], dim=-1) for _ in range(3)], dim=-2)
    shift[..., 2, :] = 0
    return replace(cameras, intrinsics=cameras.intrinsics + shift)


def rigid_part(c2w: Tensor, grad: Tensor) -> Tensor:
    """Gradient along the six rigid motions of a camera; along others it stops being one."""
    turn = c2w[..., :3, :3].mT @ grad[..., :3, :3]
    return torch.cat([(turn - turn.mT)[..., [0, 0, 1], [1, 2, 2]], grad[..., :3, 3]], dim=-1)


def values_and_gradients(
    draw: Callable, dtype: torch.dtype, gaussians: Gaussians, cameras: Cameras, background: Tensor
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Outputs of ``draw`` and the gradients of a fixed random functional of all of them."""
    leaves = {f.name: getattr(gaussians, f.name).to(dtype).clone().requires_grad_() for f in fields(Gaussians)}
    others = {"c2w": cameras.c2w, "intrinsics": cameras.intrinsics, "background": background}
    others = {name: value.to(dtype).clone().requires_grad_() for name, value in others.items()}
    views = Cameras(others["c2w"], others["intrinsics"], cameras.size)
    out = draw(Gaussians(**leaves), views, others["background"])
    generator = torch.Generator().manual_seed(7)
    loss = 0.0
    for part in (out.image, out.alpha, out.depth):
        loss = loss + (torch.randn(part.shape, generator=generator, dtype=torch.float64).to(dtype) * part).sum()
    leaves |= others
    grads = dict(zip(leaves, torch.autograd.grad(loss, list(leaves.values())), strict=True))
    grads["c2w"] = rigid_part(cameras.c2w.to(dtype), grads["c2w"])
    return {"image": out.image, "alpha": out.alpha, "depth": out.depth}, grads
