"""Group normalisation with SiLU behind it, and its gradient, over channels-last images in float32 or bfloat16.

torch's kernels take channels one by one where a group has fewer than a vector's width: half of a training step. Here a
row is several pixels long, so that every loop fills its vectors whatever the number of channels.
"""

from __future__ import annotations

import numpy as np
from numba.core import types
from numba.extending import overload

from .jit import bits_of_float, f32, float_from_bits, kernel, next_unit


# numba wants the same signature from what it overloads, from the overload and from what that returns: bare names.
def _read(value): ...  # noqa: ANN001, ANN202


def _rounded(value, array): ...  # noqa: ANN001, ANN202


@overload(_read, inline="always")
def _read_as_float(value):  # noqa: ANN001, ANN202
    """A pixel as float32; int16 holds the bits of a bfloat16."""
    if isinstance(value, types.Integer):
        return lambda value: float_from_bits(np.int32(value) << np.int32(16))
    return lambda value: value


@overload(_rounded, inline="always")
def _rounded_to_type(value, array):  # noqa: ANN001, ANN202
    """A float32 as what ``array`` keeps; to bfloat16 it is rounded to the nearest, ties to even."""
    if not isinstance(array.dtype, types.Integer):
        return lambda value, array: value

    def to_bfloat16(value, array):  # noqa: ANN001, ANN202
        bits = bits_of_float(value)
        return np.int16((bits + np.int32(0x7FFF) + ((bits >> np.int32(16)) & np.int32(1))) >> np.int32(16))

    return to_bfloat16


@kernel
def _sigmoid(x: float) -> float:
    """1 / (1 + exp(-x)) to float32 precision; the polynomial of `core.kernels.jit.exp2` for any exponent."""
    exponent = min(max(x * f32(-1.4426950408889634), f32(-126.0)), f32(126.0))
    whole = np.int32(exponent + f32(127.5))
    t = exponent - (f32(whole) - f32(127.0))
    p = f32(0.05550713276) + t * (f32(0.00967554154) + t * f32(0.00132764717))
    p = f32(1.0) + t * (f32(0.69314696706) + t * (f32(0.2402211972) + t * p))
    return f32(1.0) / (f32(1.0) + float_from_bits(bits_of_float(p) + ((whole - np.int32(127)) << np.int32(23))))


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
            total[i], square[i], first[i] = f32(0), f32(0), _read(x[image, 0, i % channels])
        for row in range(band * rows // bands, (band + 1) * rows // bands):
            pixels = x[image, row]
            for i in range(length):
                value = _read(pixels[i]) - first[i]
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
                    value = _read(pixels[i]) * factor[i] + offset[i]
                    out[i] = _rounded(value * _sigmoid(value), y)
            else:
                for i in range(length):
                    out[i] = _rounded(_read(pixels[i]) * factor[i] + offset[i], y)
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
                normal = (_read(pixels[i]) - mean[i]) * inverse[i]
                slope = _read(slopes[i])
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
                normal = (_read(pixels[i]) - mean[i]) * inverse[i]
                slope = _read(slopes[i])
                if silu:
                    slope = _gradient_before_silu(slope, normal * weight[i] + bias[i])
                value = slope * inverse[i] * weight[i] - constant[i] - normal * along[i]
                out[i] = _rounded(value, y)
        unit = next_unit(counter)
