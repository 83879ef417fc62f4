"""The surface of a scalar grid as one closed body: marching cubes, the largest body, smoothed, simplified."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from core.errors import UserError
from core.meshing.grid import Grid

if TYPE_CHECKING:
    from manifold3d import Manifold

SMOOTHING = 0.7
"""Standard deviation of the grid's smoothing in voxels: closes pores of one voxel."""
ROUNDS = 5
"""Of Taubin's smoothing, which takes the steps of the grid out of the surface and keeps its volume."""
_FIRST_TOLERANCE, _GROWTH = 0.1, 1.5  # of the simplification: voxels, and factor from one round to the next


@dataclass(frozen=True)
class Surface:
    """A closed triangle mesh, counter-clockwise seen from outside.

    Attributes:
        vertices: float32 ``[P, 3]``, world units.
        faces: int64 ``[M, 3]``.
        colors: float32 ``[P, 3]`` sRGB in [0, 1]; None before they are known.
    """

    vertices: Tensor
    faces: Tensor
    colors: Tensor | None = None

    def normals(self) -> Tensor:
        """Outward unit normals of the vertices ``[P, 3]``: the faces' mean, weighted by area."""
        a, b, c = self.vertices[self.faces].unbind(1)
        crossed = torch.linalg.cross(b - a, c - a)
        total = torch.zeros_like(self.vertices)
        for corner in range(3):
            total.index_add_(0, self.faces[:, corner], crossed)
        return F.normalize(total, dim=-1)


def largest_body(field: Tensor, grid: Grid, max_faces: int) -> Surface:
    """The surface where ``field`` is 0: of all closed bodies the one with the largest volume, without its cavities.

    Args:
        field: of the grid's shape, positive outside.
        grid: where the field's values are.
        max_faces: triangles at most.

    Returns:
        a surface without colours, watertight: every edge has two faces.

    Raises:
        UserError: the field is nowhere negative, or an optional package is missing.
    """
    vertices, faces = _marching_cubes(field)
    body = _smoothed(_largest(vertices, faces))
    mesh = _simplified(body, max_faces).to_mesh()
    vertices = torch.from_numpy(np.asarray(mesh.vert_properties[:, :3], np.float32).copy())
    faces = torch.from_numpy(np.asarray(mesh.tri_verts, np.int64).copy())
    return Surface(vertices * grid.voxel + torch.tensor(grid.low), faces)


def _marching_cubes(field: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Vertices in voxels and faces. Beyond the grid everything is outside, so that all surfaces close."""
    from scipy.ndimage import gaussian_filter
    from skimage.measure import marching_cubes

    values = gaussian_filter(field.numpy(), SMOOTHING, mode="nearest")
    values = np.pad(values, 1, constant_values=1.0)
    if not values.min() < 0:
        raise UserError("the Gaussians enclose nothing: they are too small or too faint for a mesh")
    vertices, faces, _, _ = marching_cubes(values, 0.0)  # low values inside: faces look outward
    return vertices - 1, faces


def _largest(vertices: np.ndarray, faces: np.ndarray) -> Manifold:
    bodies = _manifold(vertices, faces).decompose()
    return max(bodies, key=lambda body: body.volume())


def _smoothed(body: Manifold) -> Manifold:
    from trimesh import Trimesh
    from trimesh.smoothing import filter_taubin

    mesh = body.to_mesh()
    smooth = filter_taubin(Trimesh(mesh.vert_properties[:, :3], mesh.tri_verts, process=False), iterations=ROUNDS)
    return _manifold(smooth.vertices, smooth.faces)


def _manifold(vertices: np.ndarray, faces: np.ndarray) -> Manifold:
    from manifold3d import Manifold, Mesh

    return Manifold(Mesh(np.asarray(vertices, np.float32), np.asarray(faces, np.uint32)))


def _simplified(body: Manifold, max_faces: int) -> Manifold:
    """Edges are collapsed within a distance that grows until the faces are few enough; the body stays closed."""
    tolerance = _FIRST_TOLERANCE
    while body.num_tri() > max_faces:
        simpler = body.simplify(tolerance)
        if simpler.is_empty():
            break
        body, tolerance = simpler, tolerance * _GROWTH
    return body
