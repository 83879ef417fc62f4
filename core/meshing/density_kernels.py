"""The sum of Gaussians on a regular grid, on the CPU."""

from __future__ import annotations

import numpy as np
import torch

from core.cpu.jit import f32, kernel, next_unit, run_parallel

SLAB = 4  # planes of the grid that one thread fills at a time
FAR_SQUARED = f32(18.420681)  # squared Mahalanobis distance at which a Gaussian has fallen to 1e-4: 2 ln(1e4)


@kernel
def _fill(
    counter: np.ndarray, units: int, grid: np.ndarray, low: np.ndarray, voxel: float, means: np.ndarray,
    reach: np.ndarray, inverses: np.ndarray, opacities: np.ndarray,
) -> None:  # fmt: skip
    """Add every Gaussian to the planes of a slab that it reaches; slabs share no voxel, so threads never meet."""
    depth, height, width = grid.shape
    while True:
        unit = next_unit(counter)
        if unit >= units:
            return
        first, end = unit * SLAB, min(depth, (unit + 1) * SLAB)
        for n in range(len(means)):
            i0 = max(first, np.int64(np.ceil((means[n, 0] - reach[n, 0] - low[0]) / voxel)))
            i1 = min(end, np.int64(np.floor((means[n, 0] + reach[n, 0] - low[0]) / voxel)) + 1)
            if i0 >= i1:
                continue
            j0 = max(0, np.int64(np.ceil((means[n, 1] - reach[n, 1] - low[1]) / voxel)))
            j1 = min(height, np.int64(np.floor((means[n, 1] + reach[n, 1] - low[1]) / voxel)) + 1)
            k0 = max(0, np.int64(np.ceil((means[n, 2] - reach[n, 2] - low[2]) / voxel)))
            k1 = min(width, np.int64(np.floor((means[n, 2] + reach[n, 2] - low[2]) / voxel)) + 1)
            xx, xy, xz, yy, yz, zz = inverses[n]
            for i in range(i0, i1):
                x = low[0] + f32(i) * voxel - means[n, 0]
                for j in range(j0, j1):
                    y = low[1] + f32(j) * voxel - means[n, 1]
                    fixed = xx * x * x + yy * y * y + f32(2.0) * xy * x * y
                    slope = f32(2.0) * (xz * x + yz * y)
                    for k in range(k0, k1):
                        z = low[2] + f32(k) * voxel - means[n, 2]
                        squared = fixed + z * (slope + zz * z)
                        if squared <= FAR_SQUARED:
                            grid[i, j, k] += opacities[n] * np.exp(f32(-0.5) * squared)


def fill_density(
    shape: tuple[int, int, int], low: np.ndarray, voxel: float, means: np.ndarray, reach: np.ndarray,
    inverses: np.ndarray, opacities: np.ndarray,
) -> torch.Tensor:  # fmt: skip
    """Opacity-weighted sum of Gaussians at grid points; what has fallen below 1e-4 of its peak is left out.

    Args:
        shape: points along x, y, z.
        low: first point ``[3]``; ``voxel``: distance between points.
        means: ``[N, 3]``.
        reach: ``[N, 3]`` half sides of the box outside which a Gaussian counts as 0.
        inverses: ``[N, 6]`` inverse covariances: xx, xy, xz, yy, yz, zz.
        opacities: ``[N]``. All arrays float32.

    Returns:
        float32 of ``shape``.
    """
    grid = np.zeros(shape, np.float32)
    slabs = -(-shape[0] // SLAB)
    run_parallel(_fill, slabs, grid, low, np.float32(voxel), means, reach, inverses, opacities)
    return torch.from_numpy(grid)
