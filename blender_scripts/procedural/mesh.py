"""Triangle meshes of grids: everything round, extruded or swept is a grid of points, closed on one side or both."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

_EPSILON = 1e-9


@dataclass(frozen=True)
class Mesh:
    """Triangles, counter-clockwise seen from outside. World: y up, the front looks along +z.

    Attributes:
        points: ``[N, 3]``.
        faces: ``[F, 3]`` indices of points.
        uv: ``[F, 3, 2]`` texture coordinates of the corners.
    """

    points: np.ndarray
    faces: np.ndarray
    uv: np.ndarray

    def moved(self, offset: object = (0.0, 0.0, 0.0), turn: np.ndarray | None = None, scale: object = 1.0) -> Mesh:
        """Scale, then turn by a rotation matrix, then move; a mirroring scale turns the faces round."""
        scale = np.broadcast_to(np.asarray(scale, float), 3)
        points = self.points * scale
        points = (points if turn is None else points @ turn.T) + np.asarray(offset, float)
        if np.prod(scale) >= 0:
            return replace(self, points=points)
        return Mesh(points, self.faces[:, ::-1], self.uv[:, ::-1])

    def with_uv_scale(self, u: float, v: float) -> Mesh:
        """Repeat the texture u and v times."""
        return replace(self, uv=self.uv * (u, v))

    def box_mapped(self, scale: float = 1.0) -> Mesh:
        """Texture coordinates from the side of a box that a face looks at; ``scale`` repeats a unit of length."""
        corners = self.points[self.faces]
        axis = np.abs(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])).argmax(1)
        kept = np.array([[2, 1], [0, 2], [0, 1]])[axis]  # the two coordinates that span the side
        return replace(self, uv=np.take_along_axis(corners, kept[:, None], axis=2) * scale)

    def normals(self, crease: float = 40.0) -> np.ndarray:
        """Corner normals ``[F, 3, 3]``: faces that meet at less than ``crease`` degrees are shaded as one surface."""
        corners = self.points[self.faces]
        area = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        unit = area / np.maximum(np.linalg.norm(area, axis=1, keepdims=True), _EPSILON)
        _, place = np.unique(np.round(self.points, 6), axis=0, return_inverse=True)  # meshes meet in equal points
        vertex = place.reshape(-1)[self.faces].reshape(-1)
        order = np.argsort(vertex, kind="stable")
        _, first, count = np.unique(vertex[order], return_index=True, return_counts=True)
        # All ordered pairs of corners at one point.
        group = np.repeat(np.arange(len(count)), count**2)
        rank = np.arange(len(group)) - np.repeat(np.cumsum(count**2) - count**2, count**2)
        a, b = order[first[group] + rank // count[group]], order[first[group] + rank % count[group]]
        smooth = np.einsum("pi,pi->p", unit[a // 3], unit[b // 3]) > np.cos(np.deg2rad(crease))
        total = np.zeros((len(vertex), 3))
        np.add.at(total, a[smooth], area[b[smooth] // 3])
        total /= np.maximum(np.linalg.norm(total, axis=1, keepdims=True), _EPSILON)
        return total.reshape(-1, 3, 3)


def merge(meshes: list[Mesh]) -> Mesh:
    """One mesh of several."""
    starts = np.cumsum([0, *(len(mesh.points) for mesh in meshes[:-1])])
    return Mesh(
        np.concatenate([mesh.points for mesh in meshes]),
        np.concatenate([mesh.faces + start for mesh, start in zip(meshes, starts, strict=True)]),
        np.concatenate([mesh.uv for mesh in meshes]),
    )


def from_quads(points: np.ndarray, quads: np.ndarray, uv: np.ndarray) -> Mesh:
    """Split quads ``[Q, 4]`` with corner coordinates ``[Q, 4, 2]`` into triangles; those without area are left out."""
    faces = np.concatenate([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]])
    coordinates = np.concatenate([uv[:, [0, 1, 2]], uv[:, [0, 2, 3]]])
    a, b, c = points[faces].transpose(1, 0, 2)
    solid = np.linalg.norm(np.cross(b - a, c - a), axis=1) > _EPSILON
    return Mesh(points, faces[solid], coordinates[solid])


def grid(points: np.ndarray, wrap_rows: bool = False) -> Mesh:
    """Rings ``[V, U, 3]`` skinned: every ring is closed; ``wrap_rows`` joins the last to the first (a torus)."""
    rows, columns, _ = points.shape
    v, u = np.mgrid[: rows if wrap_rows else rows - 1, :columns]
    v, u = v.reshape(-1), u.reshape(-1)
    steps = np.array([[0, 0], [0, 1], [1, 1], [1, 0]])
    quads = [(v + dv) % rows * columns + (u + du) % columns for dv, du in steps]
    uv = [np.stack([(u + du) / columns, (v + dv) / max(rows - 1, 1)], axis=1) for dv, du in steps]
    return from_quads(points.reshape(-1, 3), np.stack(quads, axis=1), np.stack(uv, axis=1))


def ring(segments: int, squareness: float = 1.0) -> np.ndarray:
    """A unit circle ``[segments, 2]``; below 1 it swells towards a square, above it shrinks towards a diamond."""
    angle = 2.0 * np.pi * (np.arange(segments) + 0.5) / segments
    circle = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    return np.sign(circle) * np.abs(circle) ** squareness


def lathe(profile: object, segments: int = 20, squareness: float = 1.0, depth: float = 1.0) -> Mesh:
    """Turn a profile of (radius, y) from bottom to top about the y axis; ``depth`` scales z."""
    radius, y = np.asarray(profile, float).T
    outline = ring(segments, squareness)
    points = np.empty((len(radius), segments, 3))
    points[..., 0] = radius[:, None] * outline[:, 0]
    points[..., 1] = y[:, None]
    points[..., 2] = -radius[:, None] * outline[:, 1] * depth
    return grid(points)


def ellipsoid(size: object, segments: int = 20, squareness: float = 1.0) -> Mesh:
    """An ellipsoid of half axes ``size``; below 1 ``squareness`` makes it a cushion."""
    angle = np.linspace(-0.5 * np.pi, 0.5 * np.pi, max(segments // 2, 3) + 1)
    sine, cosine = np.sin(angle), np.cos(angle)
    profile = np.stack([np.abs(cosine) ** squareness, np.sign(sine) * np.abs(sine) ** squareness], axis=1)
    profile[[0, -1], 0] = 0.0
    return lathe(profile, segments, squareness).moved(scale=size)


def cylinder(radius: float, height: float, segments: int = 20, top: float | None = None, bevel: float = 0.0) -> Mesh:
    """A cylinder about y, centred; ``top`` is the upper radius (0 for a cone), ``bevel`` rounds the rims off."""
    top, half = radius if top is None else top, 0.5 * height
    profile = [(0, -half), (radius - bevel, -half), (radius, bevel - half)]
    return lathe([*profile, (top, half - bevel), (max(top - bevel, 0), half), (0, half)], segments)


def torus(radius: float, thickness: float, segments: int = 24, sides: int = 10) -> Mesh:
    """A ring about y."""
    around = 2.0 * np.pi * np.arange(segments) / segments
    section = ring(sides)[::-1] * thickness
    distance = radius + section[None, :, 0]
    x, z = distance * np.sin(around)[:, None], distance * np.cos(around)[:, None]
    return grid(np.stack([x, np.broadcast_to(section[:, 1], x.shape), z], axis=2), wrap_rows=True)


def tube(path: object, radii: object, segments: int = 10, squareness: float = 1.0, flat: float = 1.0) -> Mesh:
    """Sweep a circle along points ``[P, 3]`` with radii ``[P]``, both ends closed; ``flat`` squeezes it sideways."""
    path = np.asarray(path, float)
    radii = np.broadcast_to(np.asarray(radii, float), len(path))
    tangents = np.gradient(path, axis=0)
    tangents /= np.maximum(np.linalg.norm(tangents, axis=1, keepdims=True), _EPSILON)
    outline, rings = ring(segments, squareness), []
    side = np.eye(3)[np.abs(tangents[0]).argmin()]
    for centre, tangent, radius in zip(path, tangents, radii, strict=True):
        side = side - tangent * (side @ tangent)  # carried along: the tube does not twist
        side /= np.linalg.norm(side)
        up = np.cross(tangent, side)
        rings.append(centre + radius * (outline[:, :1] * side * flat + outline[:, 1:] * up))
    ends = [np.repeat(path[[i]], segments, axis=0) for i in (0, -1)]
    return grid(np.stack([ends[0], *rings, ends[1]]))


def extrude(outline: np.ndarray, depth: float, bevel: float = 0.0) -> Mesh:
    """A flat shape in x and y with thickness ``depth`` along z, centred in z; its own middle must see all corners.

    Args:
        outline: ``[M, 2]``, counter-clockwise.
    """
    middle, half = outline.mean(0), 0.5 * depth
    inner = middle + (outline - middle) * (1.0 - bevel)
    layers = [(np.repeat(middle[None], len(outline), 0), -half), (inner, -half), (outline, -half + 0.5 * bevel * depth)]
    layers += [(shape, -z) for shape, z in reversed(layers)]
    return grid(np.stack([np.column_stack([shape, np.full(len(shape), z)]) for shape, z in layers])).box_mapped()


def rectangle(width: float, height: float, corner: float = 0.0, steps: int = 4) -> np.ndarray:
    """A rectangle's outline, its corners rounded with the radius ``corner``."""
    if corner <= 0:
        return 0.5 * np.array([[-width, -height], [width, -height], [width, height], [-width, height]])
    angle = np.linspace(0.0, 0.5 * np.pi, steps)
    outline = []
    for quarter, (x, y) in enumerate(((1, 1), (-1, 1), (-1, -1), (1, -1))):
        turned = angle + 0.5 * np.pi * quarter
        centre = (x * (0.5 * width - corner), y * (0.5 * height - corner))
        outline.append(centre + corner * np.stack([np.cos(turned), np.sin(turned)], axis=1))
    return np.concatenate(outline)


def box(size: object, corner: float = 0.0, bevel: float = 0.0) -> Mesh:
    """A box of edge lengths ``size``, its edges along z rounded, the others bevelled."""
    width, height, depth = (float(value) for value in size)
    return extrude(rectangle(width, height, min(corner, 0.49 * width, 0.49 * height)), depth, bevel)


def star(points: int, inner: float, teeth: bool = False) -> np.ndarray:
    """A star of outer radius 1 as an outline; with ``teeth`` a gear."""
    radii = [1.0, 1.0, inner, inner] if teeth else [1.0, inner]
    angle = 2.0 * np.pi * np.arange(points * len(radii)) / (points * len(radii))
    radius = np.tile(radii, points)
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)


def rotation(axis: object, degrees: float) -> np.ndarray:
    """Rotation matrix ``[3, 3]`` about an axis through the origin (Rodrigues)."""
    x, y, z = np.asarray(axis, float) / np.linalg.norm(axis)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    angle = np.deg2rad(degrees)
    return np.eye(3) + np.sin(angle) * cross + (1.0 - np.cos(angle)) * cross @ cross


def towards(direction: object) -> np.ndarray:
    """A rotation that takes +y to ``direction``."""
    y = np.asarray(direction, float) / np.linalg.norm(direction)
    x = np.cross(y, np.eye(3)[np.abs(y).argmin()])
    x /= np.linalg.norm(x)
    return np.stack([x, y, np.cross(x, y)], axis=1)
