"""Values of float32 and bfloat16 arrays in kernels; numpy has no bfloat16, so int16 stands for its bits."""

from __future__ import annotations

import numpy as np
from numba.core import types
from numba.extending import overload

from core.cpu.jit import bits_of_float, float_from_bits


# numba wants the same signature from what it overloads, from the overload and from what that returns: bare names.
def read(value):  # noqa: ANN001, ANN201
    """A value of an image or a matrix as float32, in kernels."""


def rounded(value, array):  # noqa: ANN001, ANN201
    """A float32 as what ``array`` keeps, in kernels."""


@overload(read, inline="always")
def _read_as_float(value):  # noqa: ANN001, ANN202
    """A pixel as float32; int16 holds the bits of a bfloat16."""
    if isinstance(value, types.Integer):
        return lambda value: float_from_bits(np.int32(value) << np.int32(16))
    return lambda value: value


@overload(rounded, inline="always")
def _rounded_to_type(value, array):  # noqa: ANN001, ANN202
    """A float32 as what ``array`` keeps; to bfloat16 it is rounded to the nearest, ties to even."""
    if not isinstance(array.dtype, types.Integer):
        return lambda value, array: value

    def to_bfloat16(value, array):  # noqa: ANN001, ANN202
        bits = bits_of_float(value)
        return np.int16((bits + np.int32(0x7FFF) + ((bits >> np.int32(16)) & np.int32(1))) >> np.int32(16))

    return to_bfloat16
