"""Gaussians become one closed, coloured mesh; tracked ones one that moves."""

from __future__ import annotations

import importlib.util
from dataclasses import replace

import torch

from core.errors import UserError
from core.gaussians import Gaussians
from core.meshing.density import density
from core.meshing.grid import Grid, grid_around, solid
from core.meshing.surface import Surface, largest_body
from core.meshing.views import TRUNCATION, Surround, look_around, point_colors, signed_distance
from core.options import MeshOptions
from core.rendering import Renderer
from core.tracking.carried import carried

DENSITY_LEVEL = 0.2
"""Where ``--mesh_method density`` puts the surface."""
_PACKAGES = ("manifold3d", "scipy", "skimage", "trimesh")


def check_packages() -> None:
    """Raise `UserError` where the optional packages are missing, before any work."""
    if missing := [name for name in _PACKAGES if importlib.util.find_spec(name) is None]:
        raise UserError(f"meshes need {', '.join(missing)}: pip install -e '.[mesh]' -c constraints.txt")


def build_mesh(gaussians: Gaussians, options: MeshOptions, renderer: Renderer) -> Surface:
    """One watertight body with vertex colours.

    Args:
        gaussians: of one frame.
        options: resolution, method, number of faces.
        renderer: draws the frame from all around; colours come from these pictures, with ``fusion`` the shape too.

    Raises:
        UserError: nothing visible, NaN, a grid beyond the memory, a missing package.
    """
    check_packages()
    gaussians = solid(gaussians.detach())
    grid = grid_around(gaussians, options.mesh_resolution)
    surround = look_around(gaussians, grid, renderer, 2 * min(options.mesh_resolution, 1024))
    if options.mesh_method == "fusion":
        field = signed_distance(surround, grid)
    else:
        field = (DENSITY_LEVEL - density(gaussians, grid)).clamp(-DENSITY_LEVEL, DENSITY_LEVEL)
    return _colored(largest_body(field, grid, options.max_faces), surround, grid)


def build_moving_mesh(gaussians: Gaussians, options: MeshOptions, renderer: Renderer) -> list[Surface]:
    """The mesh of a tracked object at all frames: that of frame 0, whose vertices the Gaussians carry.

    Args:
        gaussians: tracked, leading axes ``[T]``.
        options, renderer: as of `build_mesh`.

    Returns:
        a surface a frame; faces and colours are the same.
    """
    first = build_mesh(gaussians[0], options, renderer)
    return [replace(first, vertices=places) for places in carried(first.vertices, gaussians)]


def _colored(surface: Surface, surround: Surround, grid: Grid) -> Surface:
    """Colours from the pictures; a vertex that none of them sees takes those of the nearest one seen."""
    from scipy.spatial import cKDTree

    points = surface.vertices - grid.centre
    colors, seen = point_colors(surround, points, surface.normals(), TRUNCATION * grid.voxel)
    if not seen.any():
        return replace(surface, colors=torch.full_like(points, 0.5))
    _, nearest = cKDTree(points[seen].numpy()).query(points[~seen].numpy())
    colors[~seen] = colors[seen][torch.as_tensor(nearest)]
    return replace(surface, colors=colors)
