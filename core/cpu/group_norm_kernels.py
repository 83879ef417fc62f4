"""Group normalisation with SiLU behind it, and its gradient, over channels-last images in float32 or bfloat16.

torch's kernels take channels one by one where a group has fewer than a vector's width: half of a training step. Here a
row is several pixels long, so that every loop fills its vectors whatever the number of channels.
"""

from __future__ import annotations

import numpy as np

from core.cpu.bfloat16 import read, rounded
from core.cpu.jit import exp2_of_any, f32, kernel, next_unit


@kernel
def _sigmoid(x: float) -> float:
    """1 / (1 + exp(-x)) to float32 precision."""
    return f32(1.0) / (f32(1.0) + exp2_of_any(x * f32(-1.4426950408889634)))


@kernel
def channel_sums(counter: np.ndarray, units: int, bands: int, x: np.ndarray, sums: np.ndarray) -> None:
    """Sums of x - x0 and of its square for each channel, x0 being the image's first pixel: nothing cancels.

    Args:
        counter, units, bands: a unit is one of the ``bands`` parts of an image.
        x: ``[N, rows, pixels of a row * C]``.
        sums: ``[units, 2, C]``, zeros at the start.
    """
    _, rows, length = x.shape
    channels = sums.shape[2]
    total, square, first = np.empty(length, f32), np.empty(length, f32), np.empty(length, f32)
    unit = next_unit(counter)
    while unit < units:
        image, band = unit // bands, unit % bands
        for i in range(length):
            total[i], square[i], first[i] = f32(0), f32(0), read(x[image, 0, i % channels])
        for row in range(band * rows // bands, (band + 1) * rows // bands):
            pixels = x[image, row]
            for i in range(length):
                value = read(pixels[i]) - first[i]
                total[i] += value
                square[i] += value * value
        for i in range(length):
            sums[unit, 0, i % channels] += total[i]
            sums[unit, 1, i % channels] += square[i]
        unit = next_unit(counter)


@kernel
def scale_shift(
    counter: np.ndarray, units: int, bands: int, silu: bool, x: np.ndarray, scale: np.ndarray, shift: np.ndarray,
    y: np.ndarray,
) -> None:  # fmt: skip
    """y = x scale + shift, with SiLU or without. ``scale`` and ``shift``: ``[N, C]``; x and y as in `channel_sums`."""
    _, rows, length = x.shape
    channels = scale.shape[1]
    factor, offset = np.empty(length, f32), np.empty(length, f32)
    unit = next_unit(counter)
    while unit < units:
        image, band = unit // bands, unit % bands
        for i in range(length):
            factor[i], offset[i] = scale[image, i % channels], shift[image, i % channels]
        for row in range(band * rows // bands, (band + 1) * rows // bands):
            pixels, out = x[image, row], y[image, row]
            if silu:
                for i in range(length):
                    value = read(pixels[i]) * factor[i] + offset[i]
                    out[i] = rounded(value * _sigmoid(value), y)
            else:
                for i in range(length):
                    out[i] = rounded(read(pixels[i]) * factor[i] + offset[i], y)
        unit = next_unit(counter)


@kernel
def _gradient_before_silu(gradient: float, value: float) -> float:
    """The gradient with respect to ``value``, given that with respect to SiLU(value)."""
    s = _sigmoid(value)
    return gradient * s * (f32(1.0) + value * (f32(1.0) - s))


@kernel
def gradient_sums(
    counter: np.ndarray, units: int, bands: int, silu: bool, x: np.ndarray, grad: np.ndarray, channel: np.ndarray,
    sums: np.ndarray,
) -> None:  # fmt: skip
    """Sums of the gradient before SiLU, and of its product with the normalised x, for each channel.

    Args:
        x, grad: ``[N, rows, pixels of a row * C]``.
        channel: ``[4, N, C]``: mean, 1 / deviation, weight, bias.
        sums: ``[units, 2, C]``, zeros at the start.
    """
    _, rows, length = x.shape
    channels = sums.shape[2]
    mean, inverse = np.empty(length, f32), np.empty(length, f32)
    weight, bias = np.empty(length, f32), np.empty(length, f32)
    total, product = np.empty(length, f32), np.empty(length, f32)
    unit = next_unit(counter)
    while unit < units:
        image, band = unit // bands, unit % bands
        for i in range(length):
            c = i % channels
            mean[i], inverse[i] = channel[0, image, c], channel[1, image, c]
            weight[i], bias[i] = channel[2, image, c], channel[3, image, c]
            total[i], product[i] = f32(0), f32(0)
        for row in range(band * rows // bands, (band + 1) * rows // bands):
            pixels, slopes = x[image, row], grad[image, row]
            for i in range(length):
                normal = (read(pixels[i]) - mean[i]) * inverse[i]
                slope = read(slopes[i])
                if silu:
                    slope = _gradient_before_silu(slope, normal * weight[i] + bias[i])
                total[i] += slope
                product[i] += slope * normal
        for i in range(length):
            sums[unit, 0, i % channels] += total[i]
            sums[unit, 1, i % channels] += product[i]
        unit = next_unit(counter)


@kernel
def gradient_of_input(
    counter: np.ndarray, units: int, bands: int, silu: bool, x: np.ndarray, grad: np.ndarray, channel: np.ndarray,
    y: np.ndarray,
) -> None:  # fmt: skip
    """weight / deviation * (gradient before SiLU) - constant - (normalised x) * slope, into ``y``.

    Args:
        x, grad, y: ``[N, rows, pixels of a row * C]``.
        channel: ``[6, N, C]``: mean, 1 / deviation, weight, bias, constant, slope.
    """
    _, rows, length = x.shape
    channels = channel.shape[2]
    mean, inverse = np.empty(length, f32), np.empty(length, f32)
    weight, bias = np.empty(length, f32), np.empty(length, f32)
    constant, along = np.empty(length, f32), np.empty(length, f32)
    unit = next_unit(counter)
    while unit < units:
        image, band = unit // bands, unit % bands
        for i in range(length):
            c = i % channels
            mean[i], inverse[i] = channel[0, image, c], channel[1, image, c]
            weight[i], bias[i] = channel[2, image, c], channel[3, image, c]
            constant[i], along[i] = channel[4, image, c], channel[5, image, c]
        for row in range(band * rows // bands, (band + 1) * rows // bands):
            pixels, slopes, out = x[image, row], grad[image, row], y[image, row]
            for i in range(length):
                normal = (read(pixels[i]) - mean[i]) * inverse[i]
                slope = read(slopes[i])
                if silu:
                    slope = _gradient_before_silu(slope, normal * weight[i] + bias[i])
                value = slope * inverse[i] * weight[i] - constant[i] - normal * along[i]
                out[i] = rounded(value, y)
        unit = next_unit(counter)
