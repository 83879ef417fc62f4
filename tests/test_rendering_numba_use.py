"""The CPU renderer in use: shapes, types, threads, processes, bad input."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from core.cameras import Cameras, orbit_cameras
from core.cpu.jit import exp2, run_parallel
from core.gaussians import Gaussians
from core.rendering import make_renderer
from core.rendering.numba_rasterize import rasterize
from core.training.build import prepare_worker
from tests.splat_scenes import WHITE, cameras_around, random_gaussians, values_and_gradients


def test_leading_axes_may_be_fewer() -> None:
    gaussians, cameras = random_gaussians(2, 3, num=20), cameras_around(2, 3, 2, size=(12, 10))
    renderer = make_renderer("numba")
    whole = renderer(gaussians, cameras).image
    assert torch.equal(renderer(gaussians[1], cameras[1]).image, whole[1])
    assert torch.equal(renderer(gaussians[1, 2], cameras[1, 2]).image, whole[1, 2])


@pytest.mark.parametrize("field", ["means", "opacities", "scales", "quats", "colors"])
@pytest.mark.parametrize("value", [torch.nan, torch.inf])
@pytest.mark.parametrize("opacity", [0.0, 0.5])
def test_non_finite_gaussians_are_refused(field: str, value: float, opacity: float) -> None:
    """Those too that nobody would see."""
    gaussians = random_gaussians(2, 1, num=20)
    gaussians.opacities.fill_(opacity)
    bad = getattr(gaussians, field).clone()
    bad[1, 0, 7] = value
    with pytest.raises(ValueError, match=r"1 of 20 Gaussians hold NaN or infinity \(set 1\)"):
        make_renderer("numba")(replace(gaussians, **{field: bad}), cameras_around(2, 1, 2, size=(8, 8)))


def test_non_finite_cameras_are_refused() -> None:
    cameras = cameras_around(1, 1, 2, size=(8, 8))
    cameras.c2w[0, 0, 1, 0, 3] = torch.nan
    with pytest.raises(ValueError, match="camera holds NaN"):
        make_renderer("numba")(random_gaussians(1, 1, num=20), cameras)


def _gradients(gaussians: Gaussians, cameras: Cameras) -> dict[str, Tensor]:
    values, grads = values_and_gradients(make_renderer("numba"), torch.float32, gaussians, cameras, WHITE)
    return values | grads


def test_results_do_not_depend_on_threads_or_waves(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bit for bit, so that a resumed training run goes on as the first would have."""
    gaussians, cameras = random_gaussians(2, 1, num=3000), cameras_around(2, 1, 3, size=(50, 40))
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = _gradients(gaussians, cameras)
        torch.set_num_threads(4)
        four = _gradients(gaussians, cameras)
    finally:
        torch.set_num_threads(threads)
    again = _gradients(gaussians, cameras)
    for other in (four, again):
        assert all(torch.equal(one[name], other[name]) for name in one)
    monkeypatch.setattr("core.rendering.numba_backend._WAVE", 4 * 3000)  # one and a third frames at a time
    waves = _gradients(gaussians, cameras)
    for name in one:
        torch.testing.assert_close(waves[name], one[name], rtol=1e-5, atol=1e-5)


def test_two_python_threads_at_once() -> None:
    jobs = [(random_gaussians(1, 1, num=500, seed=seed), cameras_around(1, 1, 2, size=(64, 48))) for seed in range(4)]
    renderer = make_renderer("numba")
    expected = [renderer(*job).image for job in jobs]
    with ThreadPoolExecutor(4) as pool:
        got = list(pool.map(lambda job: renderer(*job).image, jobs * 4))
    assert all(torch.equal(image, expected[k % 4]) for k, image in enumerate(got))


class _Rendered(torch.utils.data.Dataset):
    """Images that a data-loader worker renders."""

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> Tensor:
        return make_renderer("numba")(
            random_gaussians(1, 1, num=50, seed=index), cameras_around(1, 1, 1, size=(40, 40))
        ).image


def test_forked_data_loader_workers_can_render(monkeypatch: pytest.MonkeyPatch) -> None:
    # Two threads in the worker too, for the renderer alone: torch itself does not survive more than one after a fork.
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    expected = torch.stack([_Rendered()[k] for k in range(2)])  # also starts this process's threads before the fork
    loader = torch.utils.data.DataLoader(
        _Rendered(), num_workers=2, multiprocessing_context="fork", timeout=300, worker_init_fn=prepare_worker
    )
    assert torch.equal(torch.cat(list(loader)), expected)


def test_no_grad_keeps_nothing_and_draws_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = []

    def run(function: Callable, units: int, *args: object) -> None:
        if function is rasterize:
            kept.append(args[-1].size)  # for every pixel, the last Gaussian drawn
        run_parallel(function, units, *args)

    monkeypatch.setattr("core.rendering.numba_backend.run_parallel", run)
    gaussians, cameras = random_gaussians(1, 1, num=50), cameras_around(1, 1, 2, size=(20, 20))
    gaussians = gaussians.map(lambda field: field.requires_grad_())
    renderer = make_renderer("numba")
    with_graph = renderer(gaussians, cameras)
    with torch.no_grad():
        without = renderer(gaussians, cameras)
    assert kept == [2 * 20 * 20, 0]
    assert with_graph.image.grad_fn is not None and without.image.grad_fn is None
    assert torch.equal(with_graph.image, without.image) and torch.equal(with_graph.depth, without.depth)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_other_types_come_in_and_float32_goes_out(dtype: torch.dtype) -> None:
    gaussians = random_gaussians(1, 1, num=50).map(lambda field: field.to(dtype).requires_grad_())
    out = make_renderer("numba")(gaussians, cameras_around(1, 1, 2, size=(20, 20)))
    assert out.image.dtype == out.alpha.dtype == out.depth.dtype == torch.float32
    out.image.sum().backward()
    assert gaussians.means.grad.dtype == dtype and gaussians.means.grad.any()


def test_autocast_does_not_reach_the_renderer() -> None:
    gaussians, cameras = random_gaussians(1, 1, num=50), cameras_around(1, 1, 2, size=(20, 20))
    with torch.autocast("cpu", torch.bfloat16):
        inside = make_renderer("numba")(gaussians, cameras).image
    assert torch.equal(inside, make_renderer("numba")(gaussians, cameras).image)


def test_strided_and_expanded_inputs() -> None:
    gaussians, cameras = random_gaussians(1, 1, num=50), cameras_around(1, 1, 2, size=(20, 20))
    expected = make_renderer("numba")(gaussians, cameras).image
    wide = gaussians.map(lambda field: torch.stack([field, field], dim=-1)[..., 0].expand(3, 1, *field.shape[2:]))
    out = make_renderer("numba")(wide, cameras.expand(3, 1, 2))
    assert torch.equal(out.image, expected.expand(3, -1, -1, -1, -1, -1))


def test_an_opaque_disk_is_where_the_camera_model_puts_it() -> None:
    """By hand: a small opaque ball on the axis, 1.5 away; alpha 0.999 at the centre, depth 1.5 times that."""
    cameras = orbit_cameras(torch.zeros(1, 1, 1), size=(21, 31))
    one = torch.ones(1, 1, 1)
    gaussians = Gaussians(
        torch.zeros(1, 1, 1, 3),
        one,
        0.05 * torch.ones(1, 1, 1, 3),
        torch.eye(4)[:1][None, None],
        torch.tensor([1.0, 0.5, 0.0])[None, None, None],
    )
    out = make_renderer("numba")(gaussians, cameras, torch.zeros(3))
    assert out.alpha[0, 0, 0, 0, 10, 15] == pytest.approx(0.999)
    assert out.depth[0, 0, 0, 0, 10, 15] == pytest.approx(0.999 * 1.5)
    assert out.image[0, 0, 0, :, 10, 15].tolist() == pytest.approx([0.999, 0.4995, 0.0])
    variance = 0.3 + (cameras.intrinsics[0, 0, 0, 0, 0] * 0.05 / 1.5) ** 2
    assert out.alpha[0, 0, 0, 0, 10, 17] == pytest.approx(float(torch.exp(-2 / variance)), rel=1e-5)


def test_exp2_is_exact_to_float32() -> None:
    exponents = torch.linspace(-8, 0, 5001).numpy()
    relative = [abs(exp2(x) / 2.0 ** float(x) - 1) for x in exponents]
    assert max(relative) < 2.5e-7


_SECOND_PROCESS = """
import torch
from core.cameras import orbit_cameras
from core.gaussians import Gaussians
from core.rendering import make_renderer, numba_project, numba_rasterize, numba_rasterize_backward
fields = [torch.rand(1, 1, 9, *shape, requires_grad=True) for shape in [(3,), (), (3,), (4,), (3,)]]
make_renderer("numba")(Gaussians(*fields), orbit_cameras(torch.zeros(1, 1, 1))).image.sum().backward()
kernels = numba_project.project, numba_rasterize.rasterize, numba_rasterize_backward.rasterize_backward
assert all(kernel.stats.cache_hits and not kernel.stats.cache_misses for kernel in kernels)
"""


def test_a_second_process_compiles_nothing() -> None:
    _gradients(random_gaussians(1, 1, num=9), cameras_around(1, 1, 1, size=(8, 8)))
    root = Path(__file__).parents[1]
    subprocess.run([sys.executable, "-c", _SECOND_PROCESS], check=True, cwd=root, timeout=300)
