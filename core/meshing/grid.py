"""The regular grid around a frame's Gaussians on which their surface is sought."""

from __future__ import annotations

import logging
import math
import os
from dataclasses import dataclass

import torch
from torch import Tensor

from core.errors import UserError
from core.gaussians import Gaussians
from core.rotations import covariances

MIN_OPACITY = 0.05
"""Fainter Gaussians say nothing about where the object ends."""
_MARGIN = 4  # empty points on every side
_REACH = 2.0  # standard deviations that a Gaussian takes up
_BYTES = 24  # a grid point at the peak: field, its smoothed and padded copies, marching cubes
_SHARE = 0.5  # of the machine's memory

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Grid:
    """Points ``low + voxel * (i, j, k)``.

    Attributes:
        low: the first point, world units.
        voxel: distance between neighbours, world units.
        shape: number of points along x, y, z.
    """

    low: tuple[float, float, float]
    voxel: float
    shape: tuple[int, int, int]

    @property
    def centre(self) -> Tensor:
        """``[3]``, world units."""
        return torch.tensor(self.low) + 0.5 * self.voxel * (torch.tensor(self.shape) - 1)

    @property
    def radius(self) -> float:
        """Of the sphere around the grid, world units."""
        return 0.5 * self.voxel * math.dist(self.shape, (1, 1, 1))


def solid(gaussians: Gaussians) -> Gaussians:
    """Those of one frame that stand for the object: not faint, centre within the world's cube.

    Raises:
        UserError: there are none, or a value is NaN or infinite.
    """
    if not gaussians.is_finite():
        raise UserError("the Gaussians hold NaN or infinite values; export them again")
    seen = gaussians.opacities >= MIN_OPACITY
    inside = (gaussians.means.abs() <= 1).all(-1)
    if not (seen & inside).any():
        raise UserError(
            f"none of the {gaussians.num} Gaussians has an opacity of {MIN_OPACITY} or more and lies within [-1, 1]^3; "
            "there is no object to make a mesh of"
        )
    if outside := int((seen & ~inside).sum()):
        _log.info("%d Gaussians outside of [-1, 1]^3 are left out", outside)
    return gaussians.select(seen & inside)


def grid_around(gaussians: Gaussians, resolution: int) -> Grid:
    """A grid around one frame with ``resolution`` points along the object's longest side.

    Raises:
        UserError: it takes more than half of the machine's memory.
    """
    reach = _REACH * covariances(gaussians).diagonal(dim1=-2, dim2=-1).sqrt()
    low = (gaussians.means - reach).amin(0).clamp_min(-1.5)
    high = (gaussians.means + reach).amax(0).clamp_max(1.5)
    voxel = max(float((high - low).max()), 1e-4) / (resolution - 1)
    shape = tuple(math.ceil(float(side) / voxel) + 1 + 2 * _MARGIN for side in high - low)
    _check_memory(shape, resolution)
    return Grid(tuple((low - _MARGIN * voxel).tolist()), voxel, shape)


def _check_memory(shape: tuple[int, ...], resolution: int) -> None:
    needed, there = _BYTES * math.prod(shape), _machine_bytes()
    if needed > _SHARE * there:
        fits = int(resolution * (_SHARE * there / needed) ** (1 / 3))
        raise UserError(
            f"--mesh_resolution {resolution}: a grid of {' x '.join(map(str, shape))} points takes about "
            f"{needed / 2**30:.1f} GiB, more than half of this machine's {there / 2**30:.1f} GiB; {fits} fits"
        )


def _machine_bytes() -> float:
    """Memory of the machine; infinite where it cannot be asked."""
    try:
        return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    except (AttributeError, ValueError, OSError):
        return math.inf
