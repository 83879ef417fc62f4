"""The distance of LPIPS between feature vectors, and its gradient: each vector is read once and stays in the cache."""

from __future__ import annotations

import numpy as np

from core.cpu.bfloat16 import read, rounded
from core.cpu.jit import f32, kernel, next_unit, summing_kernel

_LEAST = f32(1e-20)  # squared length; below, a vector is not made longer


@summing_kernel
def _dot(x: np.ndarray, y: np.ndarray) -> float:
    """Scalar product of two float32 vectors."""
    total = f32(0)
    for i in range(len(x)):
        total += x[i] * y[i]
    return total


@kernel
def _unit(features: np.ndarray, out: np.ndarray) -> tuple[float, bool]:
    """The vector at length one in ``out``; what it was multiplied by, and whether by its length."""
    for i in range(len(out)):
        out[i] = read(features[i])
    square = _dot(out, out)
    inverse = f32(1) / np.sqrt(max(square, _LEAST))
    for i in range(len(out)):
        out[i] *= inverse
    return inverse, square > _LEAST


@kernel
def feature_distances(
    counter: np.ndarray, units: int, bands: int, own: np.ndarray, other: np.ndarray, weights: np.ndarray,
    sums: np.ndarray,
) -> None:  # fmt: skip
    """Sums over pixels of the weighted squared difference of unit vectors.

    Args:
        counter, units, bands: a unit is one of the ``bands`` parts of an image.
        own, other: ``[N, pixels, C]``, float32 or bfloat16 bits in int16.
        weights: of the channels ``[C]``.
        sums: ``[units]``.
    """
    _, pixels, channels = own.shape
    x, y = np.empty(channels, f32), np.empty(channels, f32)
    unit = next_unit(counter)
    while unit < units:
        image, band, total = unit // bands, unit % bands, 0.0
        for pixel in range(band * pixels // bands, (band + 1) * pixels // bands):
            _unit(own[image, pixel], x)
            _unit(other[image, pixel], y)
            for i in range(channels):
                x[i] -= y[i]
                y[i] = x[i] * weights[i]
            total += _dot(x, y)
        sums[unit] = total
        unit = next_unit(counter)


@kernel
def feature_gradients(
    counter: np.ndarray, units: int, bands: int, own: np.ndarray, other: np.ndarray, weights: np.ndarray,
    slopes: np.ndarray, gradient: np.ndarray,
) -> None:  # fmt: skip
    """Gradients of what `feature_distances` sums with respect to ``own``, times ``slopes`` ``[N]``."""
    _, pixels, channels = own.shape
    x, y = np.empty(channels, f32), np.empty(channels, f32)
    unit = next_unit(counter)
    while unit < units:
        image, band = unit // bands, unit % bands
        slope = f32(2) * slopes[image]
        for pixel in range(band * pixels // bands, (band + 1) * pixels // bands):
            inverse, by_length = _unit(own[image, pixel], x)
            _unit(other[image, pixel], y)
            for i in range(channels):
                y[i] = slope * weights[i] * (x[i] - y[i])
            along = _dot(x, y) if by_length else f32(0)  # what only makes the vector longer changes nothing
            out = gradient[image, pixel]
            for i in range(channels):
                out[i] = rounded(inverse * (y[i] - along * x[i]), gradient)
        unit = next_unit(counter)
