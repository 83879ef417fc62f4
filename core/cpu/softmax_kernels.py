"""Softmax over the rows of a bfloat16 matrix and its gradient, in place: float32 inside, one rounding at the end.

torch's softmax takes several times as long, half of all attention.
"""

from __future__ import annotations

import numpy as np

from core.cpu.bfloat16 import read, rounded
from core.cpu.jit import bits_of_float, f32, float_from_bits, kernel, next_unit

ROWS = 16  # of a unit
_LANES = 64  # columns that are summed apart: several vectors
_LOG2_E = f32(1.4426950408889634)
_INFINITY = 0x7F80  # bits of a bfloat16


@kernel
def _exp2(exponent: float) -> float:
    """2 ** exponent for exponents up to 0, relative error below 8e-5, a fiftieth of bfloat16's; least 2 ** -126.

    A polynomial (minimax on [-0.5, 0.5]); a large number added leaves the whole part in the lowest bits.
    """
    exponent = max(exponent, f32(-126.0))
    whole = exponent + f32(12582912.0)
    x = exponent - (whole - f32(12582912.0))
    p = f32(0.9999280736) + x * (f32(0.6932609858) + x * (f32(0.2426111221) + x * f32(0.05517166722)))
    return float_from_bits(bits_of_float(p) + (bits_of_float(whole) << np.int32(23)))


@kernel
def softmax_rows(counter: np.ndarray, units: int, matrix: np.ndarray) -> None:
    """Softmax of every row of ``matrix`` ``[rows, columns]``, bfloat16 bits in int16; a unit is `ROWS` rows."""
    count, length = matrix.shape
    whole = length // _LANES * _LANES
    values, lanes = np.empty(length, f32), np.empty(_LANES, f32)
    unit = next_unit(counter)
    while unit < units:
        for k in range(unit * ROWS, min((unit + 1) * ROWS, count)):
            row = matrix[k]
            # As integers, positive floats are in order and negative ones in reverse, all of them below.
            largest, smallest, farthest = row[0], row[0], np.uint16(0)
            bits = row.view(np.uint16)
            for i in range(length):
                largest, smallest = max(largest, row[i]), min(smallest, row[i])
                farthest = max(farthest, bits[i])
            top = read(largest if largest >= 0 else smallest) * _LOG2_E
            for i in range(_LANES):
                lanes[i] = f32(0)
            for start in range(0, whole, _LANES):
                part, out = row[start : start + _LANES], values[start : start + _LANES]
                for i in range(_LANES):
                    value = _exp2(read(part[i]) * _LOG2_E - top)
                    out[i] = value
                    lanes[i] += value
            # NaN and infinity are passed on.
            total = f32(0) if max(largest, farthest - 0x8000) < _INFINITY else f32(np.nan)
            for i in range(_LANES):
                total += lanes[i]
            for i in range(whole, length):
                values[i] = _exp2(read(row[i]) * _LOG2_E - top)
                total += values[i]
            inverse = f32(1) / total
            for i in range(length):  # to the nearest; ties, which hardly occur, away from zero
                row[i] = np.int16((bits_of_float(values[i] * inverse) + np.int32(0x8000)) >> np.int32(16))
        unit = next_unit(counter)


@kernel
def gradient_rows(
    counter: np.ndarray, units: int, gradient: np.ndarray, weights: np.ndarray, taken: np.ndarray
) -> None:
    """From the gradient of softmax's weights to that of its scores: ``(gradient - taken) * weights`` in ``gradient``.

    Both are ``[rows, columns]``, bfloat16 bits in int16; ``taken`` ``[rows]``, float32, is the sum of their product
    over the row. A unit is `ROWS` rows.
    """
    unit = next_unit(counter)
    while unit < units:
        for k in range(unit * ROWS, min((unit + 1) * ROWS, len(gradient))):
            row, weight, away = gradient[k], weights[k], taken[k]
            for i in range(len(row)):
                row[i] = rounded((read(row[i]) - away) * read(weight[i]), row)
        unit = next_unit(counter)
