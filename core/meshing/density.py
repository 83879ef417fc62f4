"""The sum of a frame's Gaussians on a grid."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from core.gaussians import Gaussians
from core.meshing.density_kernels import FAR_SQUARED, fill_density
from core.meshing.grid import Grid
from core.rotations import covariances

THINNEST = 0.3
"""Smallest standard deviation in voxels: a thinner Gaussian could fall between the points of the grid."""


def density(gaussians: Gaussians, grid: Grid, thinnest: float = THINNEST) -> Tensor:
    """``sum_i o_i exp(-1/2 (x - mu_i)^T Sigma_i^-1 (x - mu_i))`` at the grid's points x, on the CPU.

    Args:
        gaussians: of one frame, finite.
        grid: the points.
        thinnest: scales below it, in voxels, are raised to it.

    Returns:
        float32 of the grid's shape. A Gaussian counts as 0 where it has fallen below 1e-4 of its peak.
    """
    wide = gaussians.detach().to("cpu").to(torch.float64)
    wide = replace(wide, scales=wide.scales.clamp_min(thinnest * grid.voxel))
    covariance = covariances(wide)
    inverses = torch.linalg.inv(covariance)
    upper = torch.triu_indices(3, 3)
    reach = (float(FAR_SQUARED) * covariance.diagonal(dim1=-2, dim2=-1)).sqrt()
    values = (wide.means, reach, inverses[:, upper[0], upper[1]], wide.opacities)
    low = torch.tensor(grid.low, dtype=torch.float32).numpy()
    return fill_density(grid.shape, low, grid.voxel, *(value.float().contiguous().numpy() for value in values))
