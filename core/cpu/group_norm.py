"""Group normalisation, alone or with SiLU behind it, in one pass of fused kernels on the CPU."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

from core.cpu.group_norm_kernels import channel_sums, gradient_of_input, gradient_sums, scale_shift
from core.cpu.jit import run_parallel

_ROW = 256  # values of a kernel's row, at least where the image has them: several vectors
_BAND = 1 << 16  # values of a piece of work


class FusedGroupNorm(torch.autograd.Function):
    """The fused kernels with their gradient; the result is channels-last."""

    @staticmethod
    @np.errstate(invalid="ignore")  # NaN and infinity are passed on, the caller looks for them
    def forward(
        ctx: FunctionCtx, x: Tensor, weight: Tensor, bias: Tensor, groups: int, eps: float, silu: bool
    ) -> Tensor:
        x = x.contiguous(memory_format=torch.channels_last)
        rows, bands = _rows(x), _bands(x)
        (images, channels), pixels = x.shape[:2], x.shape[2] * x.shape[3]
        sums = np.zeros((images * bands, 2, channels))
        run_parallel(channel_sums, len(sums), bands, rows, sums)
        total, square = (_per_group(part, groups) / pixels for part in _over_bands(sums, images))
        first = _per_group(x[:, :, 0, 0].double().numpy(), groups)
        mean = (first + total).mean(axis=-1, keepdims=True)
        variance = (square - total**2 + (first + total - mean) ** 2).mean(axis=-1, keepdims=True)
        inverse = 1 / np.sqrt(np.maximum(variance, 0) + eps)
        weights, biases = (parameter.detach().double().numpy().reshape(groups, -1) for parameter in (weight, bias))
        scale = inverse * weights
        shift = biases - mean * scale
        y = torch.empty_like(x)
        scale, shift = (np.ascontiguousarray(part.reshape(images, -1), np.float32) for part in (scale, shift))
        run_parallel(scale_shift, len(sums), bands, silu, rows, scale, shift, _rows(y))
        ctx.save_for_backward(x, weight, bias)
        ctx.mean, ctx.inverse, ctx.silu = mean, inverse, silu
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, bias = ctx.saved_tensors
        grad = grad.to(x.dtype).contiguous(memory_format=torch.channels_last)
        rows, slopes, bands = _rows(x), _rows(grad), _bands(x)
        images, channels = x.shape[:2]
        groups = ctx.mean.shape[1]
        channel = np.empty((6, images, channels), np.float32)
        for k, part in enumerate((ctx.mean, ctx.inverse)):
            channel[k] = np.repeat(part[..., 0], channels // groups, axis=1)
        for k, parameter in enumerate((weight, bias)):
            channel[2 + k] = parameter.detach().float().numpy()
        sums = np.zeros((images * bands, 2, channels))
        run_parallel(gradient_sums, len(sums), bands, ctx.silu, rows, slopes, channel[:4], sums)
        total, product = _over_bands(sums, images)
        # The mean and the variance depend on every value of their group: what leaves through them.
        size = x.shape[2] * x.shape[3] * channels // groups
        weights = weight.detach().double().numpy()
        for k, part in enumerate((total, product)):
            through = _per_group(part * weights, groups).sum(axis=-1) * ctx.inverse[..., 0] / size
            channel[4 + k] = np.repeat(through, channels // groups, axis=1)
        g_x = torch.empty_like(x)
        run_parallel(gradient_of_input, len(sums), bands, ctx.silu, rows, slopes, channel, _rows(g_x))
        g_weight, g_bias = (torch.from_numpy(part.sum(axis=0)).to(weight.dtype) for part in (product, total))
        return g_x, g_weight, g_bias, None, None, None


def _rows(x: Tensor) -> np.ndarray:
    """Channels-last ``[N, C, H, W]`` as ``[N, rows, values]``, several pixels a row; bfloat16 as the bits in int16."""
    images, channels, height, width = x.shape
    together, pixels = 1, height * width
    while together * channels < _ROW and pixels % (2 * together) == 0:
        together *= 2
    rows = x.detach().permute(0, 2, 3, 1).view(images, pixels // together, together * channels)
    return (rows.view(torch.int16) if x.dtype == torch.bfloat16 else rows).numpy()


def _bands(x: Tensor) -> int:
    """Parts of an image, whatever the number of threads."""
    return max(1, x.shape[1:].numel() // _BAND)


def _over_bands(sums: np.ndarray, images: int) -> tuple[np.ndarray, np.ndarray]:
    """``[images * bands, 2, C]`` -> two ``[images, C]``."""
    first, second = sums.reshape(images, -1, *sums.shape[1:]).sum(axis=1).swapaxes(0, 1)
    return first, second


def _per_group(values: np.ndarray, groups: int) -> np.ndarray:
    """``[images, C]`` -> ``[images, groups, C / groups]``."""
    return values.reshape(len(values), groups, -1)
