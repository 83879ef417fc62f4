"""Renderers: Gaussians and cameras become images. One interface, one file per backend, chosen once by name."""

from __future__ import annotations

import importlib.util
import logging
from typing import Literal

import torch

from ..errors import UserError
from ..options import CameraOptions
from .base import FAR, NEAR, RasterizeMode, Renderer, RenderOutput

RendererName = Literal["auto", "numba", "gsplat", "diff-gaussian"]

__all__ = [
    "FAR",
    "NEAR",
    "RasterizeMode",
    "RenderOutput",
    "Renderer",
    "RendererName",
    "configured_renderer",
    "make_renderer",
]

_log = logging.getLogger(__name__)


def make_renderer(
    name: RendererName = "auto",
    *,
    near: float = NEAR,
    far: float = FAR,
    rasterize_mode: RasterizeMode = "classic",
    device: torch.device | None = None,
) -> Renderer:
    """Build a renderer.

    Args:
        name: ``numba`` (CPU), ``gsplat`` (CUDA), ``diff-gaussian`` (CUDA, the fork with depth and alpha), or ``auto``:
            gsplat where there is a CUDA device and gsplat is installed and compiles, numba otherwise. The choice is
            logged and stands in the renderer's ``name``.
        device: where the Gaussians will be; None: the CUDA device where there is one. numba draws copies of what lies
            on a GPU, which is slow and logged.
        near, far: Gaussians whose centre is nearer or farther along the viewing axis are not drawn; world units.
        rasterize_mode: what the blur by a pixel does to opacity, see `core.rendering.base.RasterizeMode`.

    Raises:
        UserError: unknown name, or the backend cannot run here.
        ValueError: not 0 < near < far.
    """
    on_gpu = torch.cuda.is_available() if device is None else device.type != "cpu"
    if name == "auto":
        return _choose(near, far, rasterize_mode, device, on_gpu)
    if name == "numba":
        from .numba_backend import NumbaRenderer

        if on_gpu:
            _log.info("renderer: numba draws on the CPU, on copies of the GPU's tensors, which is slow")
        return NumbaRenderer(near, far, rasterize_mode)
    if device is not None and not on_gpu and name in ("gsplat", "diff-gaussian"):
        raise UserError(f"the renderer {name} draws on a GPU, and the device is {device}: use --renderer numba")
    if name == "gsplat":
        from .gsplat_backend import GsplatRenderer

        return GsplatRenderer(near, far, rasterize_mode)
    if name == "diff-gaussian":
        from .diff_gaussian_backend import DiffGaussianRenderer

        return DiffGaussianRenderer(near, far, rasterize_mode)
    raise UserError(f"unknown renderer {name!r}: choose one of auto, numba, gsplat, diff-gaussian")


def configured_renderer(options: CameraOptions, device: torch.device | None = None) -> Renderer:
    """The renderer that the options name, with their clipping planes and mode; raises as `make_renderer`."""
    planes = {"near": options.znear, "far": options.zfar}
    return make_renderer(options.renderer, **planes, rasterize_mode=options.rasterize_mode, device=device)


def _choose(
    near: float, far: float, rasterize_mode: RasterizeMode, device: torch.device | None, on_gpu: bool
) -> Renderer:
    """gsplat on a GPU where it runs, else numba; says which and, on a GPU, why not gsplat."""
    why = "there is no GPU in use"
    if on_gpu and importlib.util.find_spec("gsplat") is None:
        why = "gsplat is not installed: pip install -e '.[cuda]' -c constraints.txt"
    elif on_gpu:
        try:
            renderer = make_renderer("gsplat", near=near, far=far, rasterize_mode=rasterize_mode)
        except UserError as error:
            why = str(error)
        else:
            _log.info("renderer: gsplat (chosen by 'auto')")
            return renderer
    _log.info("renderer: numba (chosen by 'auto': %s)", why)
    return make_renderer("numba", near=near, far=far, rasterize_mode=rasterize_mode, device=device)
