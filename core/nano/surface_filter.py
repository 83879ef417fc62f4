"""A 3D smoothing filter and higher opacities, which make `nano`'s surfaces solid at every image size.

The shipped weights were trained on 128 px images with the classic rasteriser. There the blur of 0.3 px^2 closes the gap
between Gaussians of a fifth of a pixel; at 512 px it is a quarter as wide, and the surface is a lattice. Here the blur
becomes part of the Gaussians, as in Mip-Splatting's 3D filter, so that renders, files and every viewer share it.
"""

from __future__ import annotations

from torch import Tensor

VARIANCE = 0.28
"""Of the filter, in squared distances between neighbouring Gaussians' rays."""
_SHARE = 0.75  # of 1 - (1 - o)^2 - o
_FAINT = 0.02  # opacities far below stay as they are: what is too faint to be drawn


def filled_scales(scales: Tensor, spacing: Tensor) -> Tensor:
    """Standard deviations ``[..., 3]`` after the filter; ``spacing``: between rays, broadcast, the same unit."""
    return (scales.square() + VARIANCE * spacing.square()).sqrt()


def filled_opacities(opacities: Tensor) -> Tensor:
    """Opacities as if every Gaussian but the faintest existed almost twice; with full doubling novel views of the
    validation clips lose more than input views gain."""
    return opacities + _SHARE * opacities.square() * (1 - opacities) / (opacities + _FAINT)
