"""The CPU renderer against the dense float64 reference: values and gradients of every input."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from core.cameras import Cameras, orbit_cameras
from core.gaussians import Gaussians
from core.rendering import make_renderer
from tests.reference_rasterizer import render_reference
from tests.splat_scenes import WHITE, cameras_around, random_gaussians, values_and_gradients


def assert_same(gaussians: Gaussians, cameras: Cameras, background: Tensor = WHITE, **settings: object) -> None:
    """Values and all gradients agree with the reference and are finite."""
    values, grads = values_and_gradients(
        make_renderer("numba", **settings), torch.float32, gaussians, cameras, background
    )
    expected_values, expected_grads = values_and_gradients(
        lambda *inputs: render_reference(*inputs, **settings), torch.float64, gaussians, cameras, background
    )
    for name, expected in expected_values.items():
        error = (values[name] - expected).abs()
        assert torch.isfinite(values[name]).all() and error.max() < 2e-5 * (1 + expected.abs().max()), name
    for name, expected in expected_grads.items():
        assert torch.isfinite(grads[name]).all(), name
        error = (grads[name] - expected).norm()
        assert error <= 2e-4 * expected.norm() + 1e-6, f"gradient of {name}: {error} of {expected.norm()}"


@pytest.mark.parametrize("size", [(32, 32), (33, 47), (16, 70), (5, 3)])
@pytest.mark.parametrize("scale", [0.01, 0.1])
def test_random_gaussians(size: tuple[int, int], scale: float) -> None:
    assert_same(random_gaussians(1, 1, num=60, scale=scale), cameras_around(1, 1, 2, size=size), torch.rand(3))


@pytest.mark.parametrize("scale", [0.003, 0.01, 0.1])
def test_random_gaussians_anti_aliased(scale: float) -> None:
    """Gaussians far smaller than a pixel, about as large, and larger."""
    scene = random_gaussians(1, 1, num=60, scale=scale), cameras_around(1, 1, 2, size=(33, 47))
    assert_same(*scene, torch.rand(3), rasterize_mode="antialiased")


def test_anti_aliased_small_gaussians_keep_their_sum_over_the_image_at_every_size() -> None:
    """The law of the mode: with one faint Gaussian, alpha summed over the world's area is the same at all sizes."""
    one = random_gaussians(1, 1, num=1, scale=0.01)
    one = replace(one, opacities=torch.full_like(one.opacities, 0.9), means=torch.zeros_like(one.means))
    sums = {}
    for mode in ("classic", "antialiased"):
        draw = make_renderer("numba", rasterize_mode=mode)
        shown = [draw(one, orbit_cameras(torch.zeros(1, 1, 1), size=(s, s))).alpha.sum() / s**2 for s in (48, 192, 768)]
        sums[mode] = torch.stack(shown) / shown[-1]
    assert (sums["antialiased"] - 1).abs().max() < 0.05
    assert sums["classic"][0] > 2


def test_many_gaussians_in_many_blocks() -> None:
    """More in a band than one block holds, and light that ends inside a later block."""
    dense = random_gaussians(1, 1, num=1500, scale=0.03)
    assert_same(replace(dense, opacities=dense.opacities * 0.1), cameras_around(1, 1, 1, size=(40, 40)))


def test_many_opaque_gaussians() -> None:
    """Pixels finish early: the Gaussian that would leave at most 1e-4 of the light is not drawn."""
    dense = random_gaussians(1, 1, num=300, scale=0.1)
    assert_same(replace(dense, opacities=0.5 + 0.5 * dense.opacities), cameras_around(1, 1, 1, size=(40, 40)))


def test_batches_times_and_views() -> None:
    background = torch.rand(2, 3, 2, 3)
    assert_same(random_gaussians(2, 3, num=20), cameras_around(2, 3, 2, size=(24, 20)), background)


def _edit(gaussians: Gaussians, **values: object) -> Gaussians:
    """The Gaussians, with the given values for every third one."""
    fields_ = {name: getattr(gaussians, name).clone() for name in values}
    for name, value in values.items():
        fields_[name][..., ::3, *(() if name == "opacities" else (slice(None),))] = torch.as_tensor(
            value, dtype=torch.float64
        )
    return replace(gaussians, **fields_)


DEGENERATE = {
    "zero scale": {"scales": 0.0},
    "flat": {"scales": [0.1, 0.1, 0.0]},
    "needle": {"scales": [0.5, 1e-4, 1e-4]},
    "huge": {"scales": 50.0},
    "opacity 0": {"opacities": 0.0},
    "opacity 1": {"opacities": 1.0},
    "opacity just below the threshold": {"opacities": 0.99 / 255},
    "opacity just above the threshold": {"opacities": 1.01 / 255},
    "behind the camera": {"means": [0.0, 0.0, 3.0]},
    "beyond the far plane": {"means": [0.0, 0.0, -20.0]},
    "in front of the near plane": {"means": [0.0, 0.0, 1.49]},
    "far off screen": {"means": [40.0, 0.0, 0.0]},
    "off screen but large": {"means": [1.2, -1.1, 0.2], "scales": [0.5, 0.2, 0.3]},
    "beside the camera": {"means": [1.0, 0.1, 1.2], "scales": [0.4, 0.3, 0.2]},
    "tiny quaternion": {"quats": [1e-6, 2e-6, -1e-6, 3e-6]},
    "one depth for all": {"means": [0.1, 0.1, 0.1]},
}


@pytest.mark.parametrize("mode", ["classic", "antialiased"])
@pytest.mark.parametrize("case", DEGENERATE)
def test_degenerate_gaussians(case: str, mode: str) -> None:
    cameras = orbit_cameras(torch.zeros(1, 1, 1), size=(35, 28), dtype=torch.float64)
    assert_same(_edit(random_gaussians(1, 1, num=40), **DEGENERATE[case]), cameras, rasterize_mode=mode)


def test_zero_quaternion_is_the_identity_without_a_gradient() -> None:
    gaussians, cameras = random_gaussians(1, 1, num=9), cameras_around(1, 1, 1, size=(20, 20))
    renderer = make_renderer("numba")
    values, grads = values_and_gradients(
        renderer, torch.float32, _edit(gaussians, quats=[0.0, 0, 0, 0]), cameras, WHITE
    )
    expected, _ = values_and_gradients(
        render_reference, torch.float64, _edit(gaussians, quats=[1.0, 0, 0, 0]), cameras, WHITE
    )
    torch.testing.assert_close(values["image"].double(), expected["image"], rtol=0, atol=1e-5)
    assert not grads["quats"][..., ::3, :].any() and grads["quats"].any()
    assert all(torch.isfinite(grad).all() for grad in grads.values())


@pytest.mark.parametrize("mode", ["classic", "antialiased"])
@pytest.mark.parametrize("scale", [1e4, 1e9, 1e18, 1e30])
def test_absurd_scales_stay_finite(scale: float, mode: str) -> None:
    gaussians = _edit(random_gaussians(1, 1, num=9), scales=scale)
    values, grads = values_and_gradients(
        make_renderer("numba", rasterize_mode=mode),
        torch.float32,
        gaussians,
        cameras_around(1, 1, 1, size=(20, 20)),
        WHITE,
    )
    assert all(torch.isfinite(value).all() for value in [*values.values(), *grads.values()])


def test_no_gaussians_show_the_background() -> None:
    background = torch.tensor([0.2, 0.5, 0.9])
    assert_same(random_gaussians(2, 1, num=0), cameras_around(2, 1, 3, size=(9, 20)), background)
    out = make_renderer("numba")(random_gaussians(1, 1, num=0), cameras_around(1, 1, 1, size=(4, 6)), background)
    assert torch.equal(out.image, background[:, None, None].expand(1, 1, 1, 3, 4, 6))
    assert not out.alpha.any() and not out.depth.any()


def test_no_images() -> None:
    out = make_renderer("numba")(random_gaussians(2, 0, num=5), cameras_around(2, 0, 3, size=(4, 6)))
    assert out.image.shape == (2, 0, 3, 3, 4, 6)


def test_near_and_far_planes() -> None:
    assert_same(random_gaussians(1, 1, num=40), cameras_around(1, 1, 2, size=(24, 24)), near=1.3, far=1.7)
