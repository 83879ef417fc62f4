"""Renderers: Gaussians and cameras become images. One interface, one file per backend, chosen once by name.

To add a renderer ``my-fast``, add the name to `core.options.camera.RendererName` and the file ``my_fast_backend.py``
with the class ``MyFastRenderer``, which implements `core.rendering.base.Renderer`.
"""

from __future__ import annotations

import importlib.util
import logging
from importlib import import_module
from typing import get_args

import torch

from core.conventions import FAR, NEAR
from core.errors import UserError
from core.options import CameraOptions
from core.options.camera import RendererName
from core.rendering.base import RasterizeMode, Renderer, RenderOutput

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
            logged and is the renderer's ``name``.
        device: where the Gaussians will be; None: the CUDA device where there is one. A CPU renderer draws copies of
            what lies on a GPU, which is slow and logged.
        near, far: Gaussians whose centre is nearer or farther along the viewing axis are not drawn; world units.
        rasterize_mode: whether opacity compensates the low-pass filter, see `core.rendering.base.RasterizeMode`.

    Raises:
        UserError: unknown name, or the backend cannot run here.
        ValueError: not 0 < near < far.
    """
    on_gpu = torch.cuda.is_available() if device is None else device.type != "cpu"
    if name == "auto":
        return _choose(near, far, rasterize_mode, device, on_gpu)
    if name not in get_args(RendererName):
        raise UserError(f"unknown renderer {name!r}: choose one of {', '.join(get_args(RendererName))}")
    backend = _backend(name)
    if on_gpu and not backend.on_gpu:
        _log.info("renderer: %s draws on the CPU, on copies of the GPU's tensors, which is slow", name)
    if backend.on_gpu and device is not None and not on_gpu:
        raise UserError(f"the renderer {name} draws on a GPU, and the device is {device}: use --renderer numba")
    return backend(near, far, rasterize_mode)


def _backend(name: str) -> type[Renderer]:
    """The class of a backend, by the naming convention above; imported lazily."""
    module = import_module(f"core.rendering.{name.replace('-', '_')}_backend")
    return getattr(module, f"{name.title().replace('-', '')}Renderer")


def configured_renderer(options: CameraOptions, device: torch.device | None = None) -> Renderer:
    """The renderer that the options name, with their clipping planes and mode; raises as `make_renderer`."""
    planes = {"near": options.znear, "far": options.zfar}
    return make_renderer(options.renderer, **planes, rasterize_mode=options.rasterize_mode, device=device)


def _choose(
    near: float, far: float, rasterize_mode: RasterizeMode, device: torch.device | None, on_gpu: bool
) -> Renderer:
    """gsplat on a GPU if it runs, else numba; logs the choice and, on a GPU, why it is not gsplat."""
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
