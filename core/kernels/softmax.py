"""Softmax over the rows of a bfloat16 matrix, in place: float32 inside, one rounding at the end.

torch's kernel takes twice as long, half of all attention.
"""

from __future__ import annotations

import numpy as np

from .bfloat16 import read, rounded
from .jit import exp2_of_any, f32, kernel, next_unit

ROWS = 16  # of a unit
_LANES = 64  # columns that are summed apart: several vectors


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
            largest, magnitude = np.int32(-0x8000), np.int32(0)
            for i in range(length):
                bits = np.int32(row[i])
                magnitude = max(magnitude, bits & np.int32(0x7FFF))
                largest = max(largest, bits ^ ((bits >> np.int32(31)) & np.int32(0x7FFF)))  # ordered as the floats are
            top = read(np.int16(largest ^ ((largest >> np.int32(31)) & np.int32(0x7FFF))))
            for i in range(_LANES):
                lanes[i] = f32(0)
            for start in range(0, whole, _LANES):
                part, out = row[start : start + _LANES], values[start : start + _LANES]
                for i in range(_LANES):
                    value = exp2_of_any((read(part[i]) - top) * f32(1.4426950408889634))
                    out[i] = value
                    lanes[i] += value
            total = f32(0) if magnitude < 0x7F80 else f32(np.nan)  # NaN and infinity are passed on
            for i in range(_LANES):
                total += lanes[i]
            for i in range(whole, length):
                values[i] = exp2_of_any((read(row[i]) - top) * f32(1.4426950408889634))
                total += values[i]
            inverse = f32(1) / total
            for i in range(length):
                row[i] = rounded(values[i] * inverse, matrix)
        unit = next_unit(counter)
