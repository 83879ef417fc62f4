"""Shared by kernels that follow rays through other views: work items, and a ray projected into a view."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from core.cpu.jit import kernel

_RAYS = 256  # rays of one view in a work item


def pieces_of(rays: Tensor) -> int:
    """Number of work items of rays ``[N, V, R]``."""
    return rays.shape[:2].numel() * -(-rays.shape[2] // _RAYS)


@kernel
def piece_at(unit: int, views: int, rays: int) -> tuple:
    """Time step, view, first ray and end ray of a work item."""
    pieces = (rays + _RAYS - 1) // _RAYS
    first = unit % pieces * _RAYS
    return unit // (views * pieces), unit // pieces % views, first, min(rays, first + _RAYS)


@kernel
def ray_in_view(matrix: np.ndarray, offset: np.ndarray, point: np.ndarray, direction: np.ndarray) -> tuple:
    """Homogeneous pixel of a ray's point, and how it changes along the ray."""
    start, slope = _transformed(matrix, point), _transformed(matrix, direction)
    return (start[0] + offset[0], start[1] + offset[1], start[2] + offset[2]), slope


@kernel
def _transformed(matrix: np.ndarray, vector: np.ndarray) -> tuple:
    """A 3x3 matrix times a vector."""
    x, y, z = vector[0], vector[1], vector[2]
    return (
        matrix[0, 0] * x + matrix[0, 1] * y + matrix[0, 2] * z,
        matrix[1, 0] * x + matrix[1, 1] * y + matrix[1, 2] * z,
        matrix[2, 0] * x + matrix[2, 1] * y + matrix[2, 2] * z,
    )


@kernel
def pixel_along(start: tuple, slope: tuple, distance: float) -> tuple:
    """Where the point at this distance along the ray is seen, (x, y)."""
    depth = start[2] + distance * slope[2]
    return (start[0] + distance * slope[0]) / depth, (start[1] + distance * slope[1]) / depth
