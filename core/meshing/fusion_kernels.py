"""Truncated signed distances of grid points from depth pictures, averaged over views, on the CPU."""

from __future__ import annotations

import numpy as np
import torch

from core.cpu.jit import f32, kernel, next_unit, run_parallel

NEAR = f32(0.01)  # of what lies closer to a camera nothing is known


@kernel
def _fuse(
    counter: np.ndarray, units: int, field: np.ndarray, low: np.ndarray, voxel: float, projections: np.ndarray,
    depths: np.ndarray, truncation: float, prior: float,
) -> None:  # fmt: skip
    """One plane of the grid a unit; view by view along the rows, where the projection grows linearly."""
    views, height, width = depths.shape
    count = field.shape[2]
    total, weight = np.empty(count, np.float32), np.empty(count, np.float32)
    while True:
        i = next_unit(counter)
        if i >= units:
            return
        x = low[0] + f32(i) * voxel
        for j in range(field.shape[1]):
            y = low[1] + f32(j) * voxel
            total[:] = -prior
            weight[:] = prior
            for view in range(views):
                p = projections[view]
                u0 = p[0, 0] * x + p[0, 1] * y + p[0, 2] * low[2] + p[0, 3]
                v0 = p[1, 0] * x + p[1, 1] * y + p[1, 2] * low[2] + p[1, 3]
                w0 = p[2, 0] * x + p[2, 1] * y + p[2, 2] * low[2] + p[2, 3]
                du, dv, dw = p[0, 2] * voxel, p[1, 2] * voxel, p[2, 2] * voxel
                for k in range(count):
                    ahead = w0 + f32(k) * dw
                    if ahead < NEAR:
                        continue
                    column = np.int64(np.floor((u0 + f32(k) * du) / ahead))
                    row = np.int64(np.floor((v0 + f32(k) * dv) / ahead))
                    if row < 0 or column < 0 or row >= height or column >= width:
                        continue
                    distance = (depths[view, row, column] - ahead) / truncation
                    if distance > f32(-1.0):
                        total[k] += min(distance, f32(1.0))
                        weight[k] += f32(1.0)
            for k in range(count):
                field[i, j, k] = total[k] / weight[k]


def fuse_depths(
    shape: tuple[int, int, int], low: np.ndarray, voxel: float, projections: np.ndarray, depths: np.ndarray,
    truncation: float, prior: float,
) -> torch.Tensor:  # fmt: skip
    """Mean truncated signed distance of grid points, in units of ``truncation``: 1 outside, -1 inside.

    A view has no say about what lies more than ``truncation`` behind its surface (Curless and Levoy, SIGGRAPH 1996).
    ``prior`` views say -1 everywhere, so that what no view sees is solid.

    Args:
        shape: points along x, y, z.
        low: first point ``[3]``; ``voxel``: distance between points.
        projections: ``[V, 3, 4]`` from the world to homogeneous pixels, whose third coordinate is the depth.
        depths: ``[V, H, W]`` along the viewing axis; infinite where a picture is empty. All arrays float32.
        truncation: world units.
        prior: above 0.

    Returns:
        float32 of ``shape``.
    """
    field = np.empty(shape, np.float32)
    run_parallel(
        _fuse, shape[0], field, low, np.float32(voxel), projections, depths, np.float32(truncation), np.float32(prior)
    )
    return torch.from_numpy(field)
