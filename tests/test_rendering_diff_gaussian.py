"""The diff-gaussian adapter against a fake module that holds it to the fork's call contract."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from core.cameras import Cameras
from core.errors import UserError
from core.gaussians import Gaussians
from core.rendering import diff_gaussian_backend, gsplat_backend
from core.rendering.diff_gaussian_backend import DiffGaussianRenderer
from tests.reference_rasterizer import render_one
from tests.test_rendering import FAR, NEAR, assert_as_reference, odd_scene, random_scene, values_and_gradients


class GaussianRasterizationSettings(NamedTuple):
    """The fork's settings: every field must be given, none more."""

    image_height: int
    image_width: int
    tanfovx: float
    tanfovy: float
    bg: Tensor
    scale_modifier: float
    viewmatrix: Tensor
    projmatrix: Tensor
    sh_degree: int
    campos: Tensor
    prefiltered: bool
    debug: bool


class GaussianRasterizer(torch.nn.Module):
    """Reads the camera back from the row-vector matrices, checks that they agree, draws with the reference."""

    images = 0

    def __init__(self, raster_settings: GaussianRasterizationSettings) -> None:
        super().__init__()
        self.raster_settings = raster_settings

    def camera(self) -> Cameras:
        s = self.raster_settings
        intrinsics = torch.eye(3)
        intrinsics[0, 0], intrinsics[0, 2] = s.image_width / (2 * s.tanfovx), s.image_width / 2
        intrinsics[1, 1], intrinsics[1, 2] = s.image_height / (2 * s.tanfovy), s.image_height / 2
        return Cameras(torch.linalg.inv(s.viewmatrix.T), intrinsics, (s.image_height, s.image_width))

    def check(self, means: Tensor) -> None:
        s, camera = self.raster_settings, self.camera()
        matrices = (s.viewmatrix, s.projmatrix, s.bg, s.campos)
        assert [tuple(x.shape) for x in matrices] == [(4, 4), (4, 4), (3,), (3,)]
        assert all(x.dtype == torch.float32 and x.is_contiguous() for x in matrices)  # the kernel reads raw memory
        assert (s.scale_modifier, s.sh_degree, s.prefiltered, s.debug) == (1.0, 0, False, False)
        torch.testing.assert_close(s.campos, camera.positions)
        clip = torch.nn.functional.pad(means, (0, 1), value=1.0) @ s.projmatrix
        pixels, depths = camera.project(means)
        torch.testing.assert_close(clip[:, 3], depths)
        size = torch.tensor([s.image_width, s.image_height])
        torch.testing.assert_close(
            ((clip[:, :2] / clip[:, 3:] + 1) * size - 1) / 2 + 0.5,  # its pixel centres are whole numbers, ours at +0.5
            pixels, rtol=1e-4, atol=1e-3,
        )  # fmt: skip
        between = (depths > NEAR) & (depths < FAR)
        z = clip[:, 2] / clip[:, 3]
        assert torch.equal((z > 0) & (z < 1) & (depths > 0), between)

    def forward(
        self, means3D, means2D, opacities, shs=None, colors_precomp=None, scales=None, rotations=None,
        cov3D_precomp=None,
    ):  # fmt: skip
        type(self).images += 1
        self.check(means3D.detach())
        assert shs is None and cov3D_precomp is None
        assert means2D.shape == means3D.shape and means2D.requires_grad and not means2D.any()
        assert opacities.shape == (len(means3D), 1)
        torch.testing.assert_close(rotations.norm(dim=-1), torch.ones(len(rotations)))  # it does not normalise them
        gaussians = Gaussians(means3D, opacities[:, 0], scales, rotations, colors_precomp)
        # No far plane, and a near plane of its own.
        image, alpha, depth = render_one(gaussians, self.camera(), self.raster_settings.bg, near=0.2, far=torch.inf)
        return image, torch.ones(len(means3D), dtype=torch.int32), depth, alpha


@pytest.fixture
def fork(monkeypatch: pytest.MonkeyPatch) -> type[GaussianRasterizer]:
    """The fake module installed as `diff_gaussian_rasterization`, its CUDA device being the CPU."""
    module = ModuleType("diff_gaussian_rasterization")
    module.GaussianRasterizationSettings = GaussianRasterizationSettings
    module.GaussianRasterizer = type("GaussianRasterizer", (GaussianRasterizer,), {"images": 0})
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    for backend in (gsplat_backend, diff_gaussian_backend):
        monkeypatch.setattr(backend, "DEVICE", "cpu")
    return module.GaussianRasterizer


def test_samples_times_and_views(fork: type[GaussianRasterizer]) -> None:
    gaussians, cameras = random_scene(2, 2, views=2, num=12, size=(12, 17))
    # Other focal lengths in x and y; the centre stays.
    cameras = Cameras(cameras.c2w, cameras.intrinsics * torch.tensor([[0.8, 1, 1], [1, 1.2, 1], [1, 1, 1]]), (12, 17))
    background = torch.rand(2, 2, 2, 3, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    assert_as_reference(DiffGaussianRenderer(NEAR, FAR), gaussians, cameras, background, poses=False)
    assert fork.images == 8


def test_the_anti_aliased_mode_is_refused_with_what_to_do(fork: type[GaussianRasterizer]) -> None:
    with pytest.raises(UserError, match=r"no anti-aliased mode.*--rasterize_mode classic"):
        DiffGaussianRenderer(NEAR, FAR, "antialiased")


def test_degenerate_gaussians_and_the_planes(fork: type[GaussianRasterizer]) -> None:
    background = torch.tensor([0.2, 0.9, 0.5], dtype=torch.float64)
    assert_as_reference(DiffGaussianRenderer(NEAR, FAR), *odd_scene(), background, poses=False)


def test_autocast_does_not_reach_the_renderer(fork: type[GaussianRasterizer]) -> None:
    gaussians, cameras = random_scene(1, 1, views=1, num=5, size=(8, 8))
    plain = DiffGaussianRenderer(NEAR, FAR)(gaussians, cameras)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(DiffGaussianRenderer(NEAR, FAR)(gaussians, cameras).image, plain.image)


def test_nothing_to_draw_is_the_background(fork: type[GaussianRasterizer]) -> None:
    gaussians, cameras = random_scene(1, 2, views=3, num=0, size=(5, 4))
    background = torch.tensor([0.1, 0.2, 0.3], dtype=torch.float64)
    out = values_and_gradients(
        DiffGaussianRenderer(NEAR, FAR), gaussians, cameras, background, torch.float32, poses=False
    )
    torch.testing.assert_close(out["image"], background[:, None, None].expand(1, 2, 3, 3, 5, 4), rtol=0, atol=1e-7)
    assert not out["alpha"].any() and not out["depth"].any() and fork.images == 0


def test_what_the_fork_cannot_do_is_refused(fork: type[GaussianRasterizer]) -> None:
    renderer = DiffGaussianRenderer(NEAR, FAR)
    gaussians, cameras = random_scene(1, 1, views=2, num=3, size=(4, 6))
    off = cameras.intrinsics.clone()
    off[0, 0, 1, 0, 2] += 0.5
    with pytest.raises(ValueError, match=r"principal point must be \(3.0, 2.0\), got \(3.5, 2.0\)"):
        renderer(gaussians, Cameras(cameras.c2w, off, cameras.size))
    with pytest.raises(ValueError, match="no gradients for cameras and background"):
        renderer(gaussians, Cameras(cameras.c2w.clone().requires_grad_(), cameras.intrinsics, cameras.size))
    with pytest.raises(ValueError, match="no gradients for cameras and background"):
        renderer(gaussians, cameras, torch.ones(3, requires_grad=True))
    gaussians.means[0, 0, 0, 0] = torch.nan
    with pytest.raises(ValueError, match="NaN or infinity in means"):
        renderer(gaussians, cameras)


def test_tensors_elsewhere_are_refused(fork: type[GaussianRasterizer], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gsplat_backend, "DEVICE", "cuda")
    with pytest.raises(
        ValueError, match="diff-gaussian renderer works on the tensors of one cuda device, got means on cpu"
    ):
        DiffGaussianRenderer(NEAR, FAR)(*random_scene(1, 1, views=1, num=3, size=(4, 6)))


def test_what_is_missing_is_named(fork: type[GaussianRasterizer], monkeypatch: pytest.MonkeyPatch) -> None:
    # The original package returns two values; it has no depth and no alpha.
    forward = fork.forward
    monkeypatch.setattr(fork, "forward", lambda self, **inputs: forward(self, **inputs)[:2])
    with pytest.raises(
        UserError, match=r"returns 2 values instead of \(color, radii, depth, alpha\): install the fork"
    ):
        DiffGaussianRenderer(NEAR, FAR)(*random_scene(1, 1, views=1, num=3, size=(4, 6)))
    monkeypatch.setitem(sys.modules, "diff_gaussian_rasterization", None)
    with pytest.raises(UserError, match=r"install the fork.*--renderer gsplat or numba"):
        DiffGaussianRenderer(NEAR, FAR)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UserError, match=r"diff-gaussian renderer needs a CUDA device.*--renderer numba"):
        DiffGaussianRenderer(NEAR, FAR)
