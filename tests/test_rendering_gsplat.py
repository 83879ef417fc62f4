"""The gsplat renderer: its own Python on the CPU with replaced kernels, its projection as an oracle, the GPU itself."""

from __future__ import annotations

import sys
from dataclasses import replace
from types import ModuleType, SimpleNamespace

import pytest
import torch
from torch import Tensor

from core.cameras import Cameras
from core.errors import UserError
from core.gaussians import Gaussians
from core.rendering import gsplat_backend
from core.rendering.gsplat_backend import GsplatRenderer
from tests.reference_rasterizer import project
from tests.test_rendering import FAR, NEAR, assert_as_reference, odd_scene, random_scene, values_and_gradients


@pytest.fixture
def kernels(monkeypatch: pytest.MonkeyPatch) -> list[dict]:
    """gsplat's Python and its torch projection run on the CPU; the tile kernels are replaced by dense compositing.

    Returns:
        the arguments of every `rasterization` call.
    """
    gsplat = pytest.importorskip("gsplat")
    from gsplat import rendering
    from gsplat.cuda import _torch_impl as torch_impl

    def fully_fused_projection(
        means,
        covars,
        quats,
        scales,
        viewmats,
        ks,
        width,
        height,
        *,
        packed,
        radius_clip,
        sparse_grad,
        opacities,
        **options,
    ):
        covars, _ = torch_impl._quat_scale_to_covar_preci(quats, scales, compute_preci=False)
        return torch_impl._fully_fused_projection(means, covars, viewmats, ks, width, height, **options)

    def isect_tiles(means2d, radii, depths, *_, **__):
        seen = (radii > 0).all(-1)
        order = torch.where(seen, depths, torch.inf).argsort(dim=-1, stable=True)
        return None, None, (order, seen.gather(-1, order))

    def rasterize_to_pixels(
        means2d, conics, colors, opacities, width, height, tile, offsets, flatten_ids, *, backgrounds, packed, absgrad
    ):
        order, seen = flatten_ids
        means2d, conics, colors = (
            x.gather(-2, order[..., None].expand_as(x)) for x in (means2d, conics, colors)
        )  # [G, V, N, .]
        xs, ys = torch.arange(width) + 0.5, torch.arange(height) + 0.5
        dx = xs - means2d[..., 0, None, None]  # [G, V, N, 1, W]
        dy = ys[:, None] - means2d[..., 1, None, None]
        a, b, c = conics[..., None, None].unbind(-3)
        power = -0.5 * (a * dx * dx + c * dy * dy) - b * dx * dy
        alpha = ((opacities.gather(-1, order) * seen)[..., None, None] * power.exp()).clamp(max=0.999)
        alpha = alpha * (alpha >= 1 / 255)
        alpha = alpha * (torch.cumprod(1 - alpha, dim=2) > 1e-4)
        light = torch.cumprod(1 - alpha, dim=2)
        weights = alpha * torch.cat([torch.ones_like(light[:, :, :1]), light[:, :, :-1]], dim=2)
        left = light[:, :, -1, ..., None]
        pixels = torch.einsum("gvnhw,gvnc->gvhwc", weights, colors)
        return pixels + left * backgrounds[:, :, None, None], 1 - left

    calls = []
    real = rendering.rasterization

    def rasterization(**arguments):
        calls.append(arguments)
        return real(**arguments)

    for replacement in (fully_fused_projection, isect_tiles, rasterize_to_pixels):
        monkeypatch.setattr(rendering, replacement.__name__, replacement)
    monkeypatch.setattr(rendering, "isect_offset_encode", lambda ids, images, w, h: torch.zeros(images * w * h))
    monkeypatch.setattr(gsplat, "rasterization", rasterization)
    monkeypatch.setitem(sys.modules, "gsplat.cuda._backend", SimpleNamespace(_C=object()))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(gsplat_backend, "DEVICE", "cpu")
    return calls


def test_samples_times_and_views_in_one_call(kernels: list[dict]) -> None:
    gaussians, cameras = random_scene(2, 3, views=2, num=12, size=(12, 17))
    generator = torch.Generator().manual_seed(3)
    background = torch.rand(2, 3, 2, 3, generator=generator, dtype=torch.float64)
    assert_as_reference(GsplatRenderer(NEAR, FAR), gaussians, cameras, background)
    assert len(kernels) == 1
    assert all(x.dtype == torch.float32 for x in kernels[0].values() if isinstance(x, Tensor))


def test_degenerate_gaussians(kernels: list[dict]) -> None:
    assert_as_reference(GsplatRenderer(NEAR, FAR), *odd_scene(), torch.rand(3, dtype=torch.float64))


def test_the_anti_aliased_mode(kernels: list[dict]) -> None:
    scene = random_scene(1, 2, views=2, num=12, size=(12, 17))
    scene = replace(scene[0], scales=0.2 * scene[0].scales), scene[1]
    background = torch.rand(3, dtype=torch.float64)
    assert_as_reference(GsplatRenderer(NEAR, FAR, "antialiased"), *scene, background, rasterize_mode="antialiased")


def test_autocast_does_not_reach_the_renderer(kernels: list[dict]) -> None:
    gaussians, cameras = random_scene(1, 1, views=1, num=5, size=(8, 8))
    plain = GsplatRenderer(NEAR, FAR)(gaussians, cameras)
    assert plain.image.dtype == torch.float32  # from float64 inputs
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(GsplatRenderer(NEAR, FAR)(gaussians, cameras).image, plain.image)


@pytest.mark.parametrize("empty", ["gaussians", "frames", "views"])
def test_nothing_to_draw_is_the_background(kernels: list[dict], empty: str) -> None:
    num, lead, views = (
        (0 if empty == "gaussians" else 4),
        (0 if empty == "frames" else 2),
        (0 if empty == "views" else 3),
    )
    gaussians, cameras = random_scene(lead, 1, views=views, num=num, size=(5, 4))
    background = torch.tensor([0.1, 0.2, 0.3], dtype=torch.float64)
    out = values_and_gradients(GsplatRenderer(NEAR, FAR), gaussians, cameras, background, torch.float32)
    image, depth = out["image"], out["depth"]
    assert image.shape == (lead, 1, views, 3, 5, 4) and depth.shape == (lead, 1, views, 1, 5, 4)
    torch.testing.assert_close(image, background[:, None, None].expand_as(image), rtol=0, atol=1e-7)
    assert not kernels and not depth.any()


def test_bad_inputs(kernels: list[dict], monkeypatch: pytest.MonkeyPatch) -> None:
    renderer = GsplatRenderer(NEAR, FAR)
    gaussians, cameras = random_scene(1, 1, views=1, num=3, size=(4, 4))
    gaussians.scales[0, 0, 1, 2] = torch.nan
    with pytest.raises(ValueError, match="NaN or infinity in scales"):
        renderer(gaussians, cameras)
    gaussians.scales[0, 0, 1, 2] = 0.1
    with pytest.raises(ValueError, match="no gradient for the intrinsics"):
        renderer(gaussians, Cameras(cameras.c2w, cameras.intrinsics.clone().requires_grad_(), cameras.size))
    cameras.c2w[..., 0, 3] = torch.inf
    with pytest.raises(ValueError, match="NaN or infinity in c2w"):
        renderer(gaussians, cameras)
    monkeypatch.setattr(gsplat_backend, "DEVICE", "cuda")
    with pytest.raises(ValueError, match="one cuda device, got means on cpu"):
        renderer(gaussians, cameras)
    assert not kernels


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UserError, match=r"CUDA device.*--renderer numba"):
        GsplatRenderer(NEAR, FAR)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setitem(sys.modules, "gsplat", SimpleNamespace(rasterization=None))
    monkeypatch.setitem(sys.modules, "gsplat.cuda._backend", SimpleNamespace(_C=None))
    with pytest.raises(UserError, match=r"no CUDA toolkit.*nvcc.*--renderer numba"):
        GsplatRenderer(NEAR, FAR)
    monkeypatch.setitem(sys.modules, "gsplat", None)
    with pytest.raises(UserError, match=r"pip install gsplat==1\.5\.3.*--renderer numba"):
        GsplatRenderer(NEAR, FAR)


COMPILER = "Error building extension 'gsplat_cuda': [1/9] nvcc\nFAILED: a.o\nfoo.cu(3): error: no room\nninja: stopped"


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (
            OSError("CUDA_HOME environment variable is not set.\nSet it"),
            "OSError: CUDA_HOME environment",
        ),
        (ValueError("Unknown CUDA arch (9.9)"), r"ValueError: Unknown CUDA arch \(9.9\)"),
        (TypeError("expected str, bytes or os.PathLike object, not NoneType"), "TypeError: expected str"),
        (RuntimeError(COMPILER), r"RuntimeError: foo.cu\(3\): error: no room"),
        (RuntimeError(), "RuntimeError: no message"),
    ],
)
def test_a_failed_build_is_one_line_with_its_cause(
    monkeypatch: pytest.MonkeyPatch, error: Exception, cause: str
) -> None:
    class Unbuilt(ModuleType):
        @property
        def _C(self) -> None:
            raise error

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setitem(sys.modules, "gsplat", SimpleNamespace(rasterization=None))
    monkeypatch.setitem(sys.modules, "gsplat.cuda._backend", Unbuilt("gsplat.cuda._backend"))
    with pytest.raises(UserError, match=cause) as raised:
        GsplatRenderer(NEAR, FAR)
    assert "\n" not in str(raised.value) and "nvcc" in str(raised.value)


def test_gsplat_projects_as_our_cameras_and_the_reference_do() -> None:
    """The oracle: gsplat's projection in torch, fed with our matrices, also for an off-centre principal point."""
    pytest.importorskip("gsplat")
    from gsplat.cuda._torch_impl import _fully_fused_projection, _quat_scale_to_covar_preci

    gaussians, cameras = random_scene(2, 1, views=3, num=9, size=(24, 32))
    cameras = Cameras(
        cameras.c2w, cameras.intrinsics + torch.tensor([[0, 0, 5.0], [0, 0, -3], [0, 0, 0]]), cameras.size
    )
    covars, _ = _quat_scale_to_covar_preci(gaussians.quats, gaussians.scales, compute_preci=False)
    _, means, depths, conics, _ = _fully_fused_projection(
        gaussians.means, covars, cameras.w2c, cameras.intrinsics, width=32, height=24
    )
    pixels, ours = cameras.project(gaussians.means[:, :, None])
    torch.testing.assert_close(means, pixels)
    torch.testing.assert_close(depths, ours)
    for b, v in ((0, 0), (1, 2)):
        pixels, covariances, z = project(gaussians[b, 0], cameras[b, 0, v])
        inverse = torch.linalg.inv(covariances)
        torch.testing.assert_close(means[b, 0, v], pixels)
        torch.testing.assert_close(conics[b, 0, v], inverse[:, [0, 0, 1], [0, 1, 1]])
        torch.testing.assert_close(depths[b, 0, v], z)


@pytest.mark.gpu
@pytest.mark.parametrize("kind", ["random", "degenerate"])
def test_on_the_gpu(kind: str) -> None:
    """The real kernels, compiled with fast mathematics: hence the tolerances."""
    gaussians, cameras = odd_scene() if kind == "degenerate" else random_scene(2, 2, views=2, num=60, size=(33, 47))
    background = torch.tensor([0.2, 0.9, 0.5], dtype=torch.float64).expand(*cameras.shape, 3)
    renderer = GsplatRenderer(NEAR, FAR)

    def draw(gaussians: Gaussians, cameras: Cameras, background: Tensor) -> object:
        return renderer(gaussians.to(torch.float32), cameras.to(torch.float32), background)

    assert_as_reference(draw, gaussians, cameras, background, to="cuda", atol=2e-4, rtol=1e-2)
