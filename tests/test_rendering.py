"""make_renderer and what every backend's call shares; scenes and comparison for the tests of the CUDA backends."""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Callable
from dataclasses import fields
from typing import get_args

import pytest
import torch
from torch import Tensor

from core.cameras import Cameras, orbit_cameras
from core.errors import UserError
from core.gaussians import Gaussians
from core.options.camera import RendererName
from core.rendering import diff_gaussian_backend, gsplat_backend, make_renderer
from core.rendering.base import flatten_inputs
from tests.reference_rasterizer import render_reference

NEAR, FAR = 0.4, 3.0
BACKENDS = [name for name in get_args(RendererName) if name != "auto"]


def random_scene(*lead: int, views: int, num: int, size: tuple[int, int]) -> tuple[Gaussians, Cameras]:
    """A cloud inside the cube, anisotropic, of mixed opacity, seen from the orbit; float64."""
    generator = torch.Generator().manual_seed(num)

    def uniform(*shape: int) -> Tensor:
        return torch.rand(*lead, *shape, generator=generator, dtype=torch.float64)

    gaussians = Gaussians(
        means=uniform(num, 3) * 1.4 - 0.7,
        opacities=uniform(num) * 0.95 + 0.02,
        scales=0.08 * torch.exp(uniform(num, 3) * 2 - 1),
        quats=uniform(num, 4) * 4 - 2,
        colors=uniform(num, 3),
    )
    cameras = orbit_cameras(360 * uniform(views), 60 * uniform(views) - 30, size=size, dtype=torch.float64)
    return gaussians, cameras


def odd_scene() -> tuple[Gaussians, Cameras]:
    """One Gaussian of each degenerate kind among four plain ones, seen from (0, 0, 1.5) between NEAR and FAR."""
    gaussians, _ = random_scene(1, 1, views=1, num=14, size=(20, 24))
    means, opacities, scales, quats, _ = (getattr(gaussians, f.name)[0, 0] for f in fields(Gaussians))
    scales[0], scales[1, 0] = 0.0, 0.0  # a point, a disc
    opacities[2], opacities[3] = 0.0, 1.0
    means[4, 2], means[5, 2] = 1.9, -2.5  # behind the camera, beyond the far plane
    means[6] = torch.tensor([0.02, 0.01, 1.2])  # nearer than the near plane
    scales[7] = 40.0  # huge
    means[8, 0] = 30.0  # off screen
    quats[9] = 0.0
    return gaussians, orbit_cameras(torch.zeros(1, 1, 1, dtype=torch.float64), size=(20, 24), dtype=torch.float64)


def moved(cameras: Cameras, motion: Tensor) -> Cameras:
    """Cameras after the rigid motion ``[..., 6]`` (turn, shift) in their own frames: gradients stay among the poses."""
    turn, shift = motion.split(3, dim=-1)
    x, y, z = turn.unbind(-1)
    zero = torch.zeros_like(x)
    skew = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], dim=-1).unflatten(-1, (3, 3))
    twist = torch.nn.functional.pad(torch.cat([skew, shift[..., None]], dim=-1), (0, 0, 0, 1))
    return Cameras(cameras.c2w @ torch.linalg.matrix_exp(twist), cameras.intrinsics, cameras.size)


def values_and_gradients(
    draw: Callable,
    gaussians: Gaussians,
    cameras: Cameras,
    background: Tensor,
    to: torch.dtype | str,
    poses: bool = True,
) -> dict[str, Tensor]:
    """Image, alpha, depth and the gradients of a fixed random functional of them, all float64 on the CPU."""
    leaves = {f.name: getattr(gaussians, f.name).to(to).clone().requires_grad_() for f in fields(Gaussians)}
    cameras, background = cameras.to(to), background.to(to)
    given = Gaussians(**leaves)
    if poses:
        leaves["motion"] = cameras.c2w.new_zeros(*cameras.shape, 6).requires_grad_()
        leaves["background"] = background = background.clone().requires_grad_()
        cameras = moved(cameras, leaves["motion"])
    out = draw(given, cameras, background)
    generator = torch.Generator().manual_seed(7)
    parts = {"image": out.image, "alpha": out.alpha, "depth": out.depth}
    weights = [torch.randn(part.shape, generator=generator, dtype=torch.float64) for part in parts.values()]
    loss = sum((weight.to(part) * part).sum() for weight, part in zip(weights, parts.values(), strict=True))
    grads = torch.autograd.grad(loss, list(leaves.values()))
    parts |= {f"gradient of {name}": grad for name, grad in zip(leaves, grads, strict=True)}
    return {name: part.detach().double().cpu() for name, part in parts.items()}


def assert_as_reference(
    renderer: Callable, gaussians: Gaussians, cameras: Cameras, background: Tensor, *, poses: bool = True,
    to: torch.dtype | str = torch.float32, atol: float = 2e-5, rtol: float = 1e-3, rasterize_mode: str = "classic",
) -> None:  # fmt: skip
    """Values to ``atol`` (but for one pixel in 200, where float32 falls on the other side of a threshold), gradients
    to ``rtol`` of their norm."""

    def reference(*inputs: object) -> object:
        return render_reference(*inputs, near=NEAR, far=FAR, rasterize_mode=rasterize_mode)

    expected = values_and_gradients(reference, gaussians, cameras, background, torch.float64, poses)
    got = values_and_gradients(renderer, gaussians, cameras, background, to, poses)
    for name, right in expected.items():
        error = (got[name] - right).abs()
        assert got[name].shape == right.shape, name
        if name.startswith("gradient"):
            assert error.norm() <= rtol * right.norm() + 1e-6, f"{name}: {error.norm() / right.norm()}"
        else:
            assert (error > atol).double().mean() <= 1 / 200 and error.max() < 2e-2, f"{name}: {error.max()}"


@pytest.fixture
def backends(monkeypatch: pytest.MonkeyPatch) -> Callable[[bool, bool], None]:
    """Sets whether there is a CUDA device and gsplat; the CUDA backends only keep their settings."""

    class Stub:
        def __init__(self, near: float, far: float, rasterize_mode: str) -> None:
            self.planes, self.rasterize_mode = (near, far), rasterize_mode

    monkeypatch.setattr(gsplat_backend, "GsplatRenderer", type("Gsplat", (Stub,), {"name": "gsplat", "on_gpu": True}))
    diff = type("Diff", (Stub,), {"name": "diff-gaussian", "on_gpu": True})
    monkeypatch.setattr(diff_gaussian_backend, "DiffGaussianRenderer", diff)
    find = importlib.util.find_spec

    def machine(device: bool, gsplat: bool) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: device)
        monkeypatch.setattr(
            importlib.util, "find_spec", lambda name, *rest: (gsplat or None) if name == "gsplat" else find(name, *rest)
        )

    return machine


@pytest.mark.parametrize(("device", "gsplat", "chosen"), [
    (True, True, "gsplat"), (True, False, "numba"), (False, True, "numba"), (False, False, "numba"),
])  # fmt: skip
def test_auto_takes_gsplat_where_it_can_run_and_says_so(
    backends: Callable, caplog: pytest.LogCaptureFixture, device: bool, gsplat: bool, chosen: str
) -> None:
    backends(device, gsplat)
    with caplog.at_level(logging.INFO, logger="core.rendering"):
        assert make_renderer().name == chosen
    assert chosen in caplog.text and "auto" in caplog.text


@pytest.mark.parametrize("name", BACKENDS)
def test_a_name_makes_that_renderer(backends: Callable, name: str) -> None:
    renderer = make_renderer(name, near=0.25, far=4.0, rasterize_mode="antialiased")
    assert (renderer.name, renderer.planes, renderer.rasterize_mode) == (name, (0.25, 4.0), "antialiased")
    assert make_renderer(name).rasterize_mode == "classic"


def test_an_unknown_name_is_refused_with_the_known_ones() -> None:
    with pytest.raises(UserError, match=r"'cuda'.*auto, numba, gsplat, diff-gaussian"):
        make_renderer("cuda")


@pytest.mark.parametrize(("near", "far"), [(0.0, 1.0), (-1.0, 1.0), (2.0, 2.0), (3.0, 1.0), (float("nan"), 1.0)])
@pytest.mark.parametrize("name", BACKENDS)
def test_planes_must_be_in_order(name: str, near: float, far: float) -> None:
    with pytest.raises(ValueError, match="0 < near < far"):
        make_renderer(name, near=near, far=far)


@pytest.mark.parametrize("lead", [(), (3,), (2, 3), (0, 3)])
def test_leading_axes_flatten_and_come_back_in_order(lead: tuple[int, ...]) -> None:
    gaussians, cameras = random_scene(*lead, views=2, num=4, size=(3, 5))
    background = torch.rand(*lead, 2, 3)
    batch = flatten_inputs(gaussians, cameras, background)
    groups = gaussians.shape.numel()
    assert batch.gaussians.shape == (groups,) and batch.cameras.shape == (groups, 2)
    assert batch.lead == (*lead, 2) and batch.background.dtype == gaussians.means.dtype
    plane = batch.background.flatten(0, 1)[..., None, None].expand(-1, 3, 3, 5)
    out = batch.output(plane, plane[:, :1], plane[:, :1])
    assert out.alpha.shape == out.depth.shape == (*lead, 2, 1, 3, 5)
    torch.testing.assert_close(out.image, background.double()[..., None, None].expand(*lead, 2, 3, 3, 5))


def test_background_is_white_or_broadcasts() -> None:
    gaussians, cameras = random_scene(2, 3, views=4, num=1, size=(2, 2))
    assert flatten_inputs(gaussians, cameras, None).background.eq(1).all()
    per_time = torch.rand(3, 1, 3)
    flat = flatten_inputs(gaussians, cameras, per_time).background
    torch.testing.assert_close(flat, per_time.double().expand(2, 3, 4, 3).reshape(6, 4, 3))
    for wrong in ((4,), (3, 4), (5, 4, 3)):
        with pytest.raises(ValueError, match=r"background must be \[3\] or broadcast to \(2, 3, 4, 3\)"):
            flatten_inputs(gaussians, cameras, torch.rand(wrong))


def test_axes_that_do_not_fit_are_refused() -> None:
    gaussians, cameras = random_scene(2, 3, views=4, num=1, size=(2, 2))
    for wrong in (cameras[0], cameras[:1], cameras[:, :2], cameras[..., 0], cameras[0, 0, 0]):
        with pytest.raises(ValueError, match=r"leading axes \(2, 3\) and one more for the views"):
            flatten_inputs(gaussians, wrong, None)
    with pytest.raises(ValueError, match="size must be positive"):
        flatten_inputs(gaussians, Cameras(cameras.c2w, cameras.intrinsics, (0, 4)), None)
