"""Gaussian splatting on the CPU: all images of a call at once, multi-threaded, differentiable.

Pixel values follow gsplat's: image covariance blurred by 0.3 px^2 (anti-aliased: by 0.1 px^2, with the factor that it
puts on the opacity), contributions under 1/255 left out, alpha at most 0.999, a pixel stops at the Gaussian that would
leave a transmittance of at most 1e-4. Computed in float32. Gradients are bit-exact for any number of threads.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

from core.cameras import Cameras
from core.cpu.jit import run_parallel
from core.gaussians import Gaussians
from core.rendering.base import RasterizeMode, RenderOutput, check_planes, flatten_inputs
from core.rendering.numba_lists import list_bands
from core.rendering.numba_project import BAND, CHUNK, PARTIALS, RECORD, project
from core.rendering.numba_project_backward import CAMERA, project_backward
from core.rendering.numba_rasterize import rasterize
from core.rendering.numba_rasterize_backward import rasterize_backward

_WAVE = 1 << 18  # Gaussian-image pairs projected at a time: bounds the memory of a call with many images
_MAX_GAUSSIANS = 1 << 24  # positions in a list are kept as float32


class NumbaRenderer:
    """CPU renderer; see `core.rendering.base.Renderer` for the call.

    In addition to that contract: NaN or infinity in a Gaussian or camera is a ValueError; a quaternion of norm below
    1e-12 counts as the identity and gets no gradient; a Gaussian too large for float32 is not drawn. Results are
    float32 for any input type, also under autocast. Skew in the intrinsics is not used.
    """

    name = "numba"
    on_gpu = False

    def __init__(self, near: float, far: float, rasterize_mode: RasterizeMode = "classic") -> None:
        check_planes(near, far)
        self.planes, self.rasterize_mode = (near, far), rasterize_mode

    def __call__(self, gaussians: Gaussians, cameras: Cameras, background: Tensor | None = None) -> RenderOutput:
        """Render on the CPU; see `core.rendering.base.Renderer`. Tensors elsewhere are copied here and images back."""
        if gaussians.means.device.type != "cpu":
            background = None if background is None else background.cpu()
            return self(gaussians.to("cpu"), cameras.to("cpu"), background).to(gaussians.means.device)
        batch = flatten_inputs(gaussians, cameras, background)
        g = batch.gaussians
        if g.num >= _MAX_GAUSSIANS:
            raise ValueError(f"the numba renderer draws fewer than {_MAX_GAUSSIANS} Gaussians per frame, got {g.num}")
        with torch.autocast("cpu", enabled=False):  # bfloat16 would shift the cameras by 1e-3
            views = batch.cameras.to(torch.float32)
            w2c, intrinsics = views.w2c.flatten(0, 1), views.intrinsics.flatten(0, 1)
        if not (w2c.isfinite().all() and intrinsics.isfinite().all()):
            raise ValueError("a camera holds NaN or infinity")
        inputs = (g.means, g.quats, g.scales, g.opacities, g.colors, w2c, intrinsics, batch.background.flatten(0, 1))
        inputs = [tensor.float().contiguous() for tensor in inputs]
        keep = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in inputs)
        return batch.output(
            *_Splat.apply(*inputs, cameras.size, self.planes, self.rasterize_mode == "antialiased", keep)
        )


class _Wave:
    """Projected, sorted and listed Gaussians of the images ``first .. end - 1``."""

    def __init__(
        self, first: int, end: int, arrays: list[np.ndarray], size: tuple, planes: tuple, antialiased: bool
    ) -> None:
        means, quats, scales, opacities, colors, w2c, intrinsics, _ = arrays
        groups, count = opacities.shape
        views = w2c.shape[0] // groups
        spanned = (end - 1) // views - first // views + 1
        images, chunks, bands = end - first, -(-count // CHUNK), -(-size[0] // BAND)
        self.first, self.end, self.views, self.spanned, self.units = first, end, views, spanned, images * bands
        self.records = np.empty((images, count, RECORD), np.float32)
        self.keys = np.empty((images, count), np.uint32)
        self.bands = np.empty((images, count, 2), np.int32)
        totals, broken = np.empty((2, images, chunks), np.int64)
        run_parallel(
            project, spanned * chunks, first, end, views, size, tuple(np.float32(planes)), antialiased,
            means, quats, scales, opacities, colors, w2c, intrinsics,
            self.records, self.keys, self.bands, totals, broken,
        )  # fmt: skip
        if broken.any():
            i = int(broken.any(axis=1).argmax())
            raise ValueError(
                f"{broken[i].sum()} of {count} Gaussians hold NaN or infinity (set {(first + i) // views})"
            )
        totals = totals.sum(axis=1)
        self.starts = np.zeros((images, bands + 1), np.int64)
        self.starts[1:, 0] = totals.cumsum()[:-1]
        self.rows = int(totals.sum())
        self.entries = np.empty(self.rows, np.int32)
        self.slots = np.empty((images, count), np.int64)
        run_parallel(list_bands, images, self.keys, self.bands, self.starts, self.entries, self.slots)


def _waves(arrays: list[np.ndarray], size: tuple, planes: tuple, antialiased: bool):  # noqa: ANN202 - a generator of _Wave
    images, count = arrays[5].shape[0], arrays[0].shape[1]
    step = max(1, _WAVE // max(count, 1))
    for first in range(0, images, step):
        yield _Wave(first, min(first + step, images), arrays, size, planes, antialiased)


class _Splat(torch.autograd.Function):
    """Differentiable splatting of [G, N] Gaussians to [I] images, I = G V; gradients of all tensors."""

    @staticmethod
    def forward(ctx: FunctionCtx, *args: object) -> tuple[Tensor, Tensor, Tensor]:
        *tensors, size, planes, antialiased, keep = args
        arrays = [tensor.detach().numpy() for tensor in tensors]
        images, (height, width) = tensors[5].shape[0], size
        image = torch.empty(images, 3, height, width)
        alpha, depth = torch.empty(2, images, 1, height, width)
        left_over = torch.empty(images, *(size if keep else (0, 0)))
        last = torch.empty(left_over.shape, dtype=torch.int32)
        outputs = [tensor.numpy() for tensor in (image, alpha, depth, left_over, last)]
        for wave in _waves(arrays, size, planes, antialiased):
            run_parallel(
                rasterize, wave.units, wave.first, arrays[7], wave.records, wave.starts, wave.entries, *outputs
            )
        ctx.save_for_backward(*tensors, left_over, last)
        ctx.size, ctx.planes, ctx.antialiased = size, planes, antialiased
        return image, alpha, depth

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, *g_outputs: Tensor) -> tuple[Tensor | None, ...]:
        *tensors, left_over, last = ctx.saved_tensors
        arrays = [tensor.detach().numpy() for tensor in tensors]
        g_outputs = [g.contiguous() for g in g_outputs]
        g_tensors = [torch.zeros_like(tensor) for tensor in tensors[:5]]
        chunks = -(-tensors[0].shape[1] // CHUNK)
        g_cameras = torch.zeros(tensors[5].shape[0], chunks, CAMERA, dtype=torch.float64)
        if any(ctx.needs_input_grad[:7]):
            _splat_backward(ctx, arrays, left_over, last, g_outputs, [*g_tensors, g_cameras])
        g_cameras = g_cameras.sum(dim=1).float()
        g_w2c, g_intrinsics = torch.zeros_like(tensors[5]), torch.zeros_like(tensors[6])
        g_w2c[:, :3] = g_cameras[:, :12].reshape(-1, 3, 4)
        for column, (row, col) in enumerate([(0, 0), (1, 1), (0, 2), (1, 2)]):
            g_intrinsics[:, row, col] = g_cameras[:, 12 + column]
        g_background = torch.einsum("ichw,ihw->ic", g_outputs[0], left_over) if ctx.needs_input_grad[7] else None
        return *g_tensors, g_w2c, g_intrinsics, g_background, None, None, None, None


def _splat_backward(
    ctx: FunctionCtx, arrays: list[np.ndarray], left_over: Tensor, last: Tensor, g_outputs: list[Tensor],
    g_inputs: list[Tensor],
) -> None:  # fmt: skip
    """Project and list wave after wave once more, then add up the gradients in ``g_inputs``."""
    chunks = g_inputs[-1].shape[1]
    for wave in _waves(arrays, ctx.size, ctx.planes, ctx.antialiased):
        table = np.zeros((wave.rows, PARTIALS), np.float32)
        run_parallel(
            rasterize_backward, wave.units, wave.first, arrays[7],
            wave.records, wave.bands, wave.starts, wave.entries, wave.slots,
            left_over.numpy(), last.numpy(), *(g.numpy() for g in g_outputs), table,
        )  # fmt: skip
        run_parallel(
            project_backward, wave.spanned * chunks, wave.first, wave.end, wave.views, ctx.size, ctx.antialiased,
            *arrays[:4], *arrays[5:7], wave.keys, wave.bands, wave.slots, table, *(g.numpy() for g in g_inputs),
        )  # fmt: skip
