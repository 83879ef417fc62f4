"""Renderers: Gaussians and cameras become images. One interface, one file per backend, chosen once by name."""

from __future__ import annotations

import importlib.util
import logging
from typing import Literal

import torch

from ..errors import UserError
from .base import FAR, NEAR, RasterizeMode, Renderer, RenderOutput

RendererName = Literal["auto", "numba", "gsplat", "diff-gaussian"]

__all__ = ["FAR", "NEAR", "RasterizeMode", "RenderOutput", "Renderer", "RendererName", "make_renderer"]

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
            gsplat where there is a CUDA device and gsplat is installed, numba otherwise. The choice is logged and
            stands in the renderer's ``name``.
        device: where the Gaussians will be; ``auto`` goes by it. None: the CUDA device where there is one.
        near, far: Gaussians whose centre is nearer or farther along the viewing axis are not drawn; world units.
        rasterize_mode: what the blur by a pixel does to opacity, see `core.rendering.base.RasterizeMode`.

    Raises:
        UserError: unknown name, or the backend cannot run here.
        ValueError: not 0 < near < far.
    """
    if name == "auto":
        on_cuda = torch.cuda.is_available() if device is None else device.type != "cpu"
        cuda = on_cuda and importlib.util.find_spec("gsplat") is not None
        name = "gsplat" if cuda else "numba"
        _log.info("renderer: %s (chosen by 'auto')", name)
    if device is not None and (name == "numba") != (device.type == "cpu"):
        raise UserError(
            f"the renderer {name} cannot draw on {device.type}: on a GPU install gsplat (pip install gsplat==1.5.3 "
            f"packaging) and use --renderer gsplat, on a CPU use --renderer numba"
        )
    if name == "numba":
        from .numba_backend import NumbaRenderer

        return NumbaRenderer(near, far, rasterize_mode)
    if name == "gsplat":
        from .gsplat_backend import GsplatRenderer

        return GsplatRenderer(near, far, rasterize_mode)
    if name == "diff-gaussian":
        from .diff_gaussian_backend import DiffGaussianRenderer

        return DiffGaussianRenderer(near, far, rasterize_mode)
    raise UserError(f"unknown renderer {name!r}: choose one of auto, numba, gsplat, diff-gaussian")
