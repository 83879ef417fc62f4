"""One smooth mesh over many capsules, and its skinning weights."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from blender_scripts.procedural.mesh import Mesh, from_quads

_CORNERS = np.array([[x, y, z] for x in (0, 1) for y in (0, 1) for z in (0, 1)])
_EDGES = np.array([(a, b) for a in range(8) for b in range(a + 1, 8) if np.abs(_CORNERS[a] - _CORNERS[b]).sum() == 1])


@dataclass(frozen=True)
class Capsule:
    """A rounded cone from ``a`` (radius ``ra``) to ``b`` (radius ``rb``) that moves with a joint (an index)."""

    a: object
    b: object
    ra: float
    rb: float
    joint: int = 0

    def distance(self, points: np.ndarray) -> np.ndarray:
        """Approximate signed distance to its surface, negative inside."""
        a, b = np.asarray(self.a, float), np.asarray(self.b, float)
        along = np.clip(((points - a) @ (b - a)) / max(float((b - a) @ (b - a)), 1e-12), 0.0, 1.0)
        nearest = a + along[..., None] * (b - a)
        return np.linalg.norm(points - nearest, axis=-1) - (self.ra + along * (self.rb - self.ra))


def field(capsules: list[Capsule], points: np.ndarray, blend: float) -> np.ndarray:
    """Signed distance to the smooth union of all; surfaces closer than ``blend`` are joined smoothly."""
    total = np.full(points.shape[:-1], np.inf)
    for capsule in capsules:
        other = capsule.distance(points)
        if not np.isfinite(total).any():
            total = other
            continue
        overlap = np.maximum(blend - np.abs(total - other), 0.0) / blend
        total = np.minimum(total, other) - 0.25 * overlap**2 * blend  # Quilez' quadratic smooth minimum
    return total


def surface(capsules: list[Capsule], cells: int = 40, blend: float = 0.1) -> Mesh:
    """Mesh of the union (naive surface nets: one point a cell that the surface crosses).

    Args:
        cells: along the longest side.
        blend: smoothing length, world units.
    """
    ends = np.array([[np.asarray(c.a) - c.ra, np.asarray(c.b) - c.rb] for c in capsules]).reshape(-1, 3)
    tops = np.array([[np.asarray(c.a) + c.ra, np.asarray(c.b) + c.rb] for c in capsules]).reshape(-1, 3)
    low, high = ends.min(0) - blend, tops.max(0) + blend
    step = float((high - low).max()) / cells
    low = low - 1.5 * step
    counts = np.ceil((high + 1.5 * step - low) / step).astype(int)
    axes = [low[i] + step * np.arange(counts[i] + 1) for i in range(3)]
    values = field(capsules, np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1), blend)
    inside = values < 0
    corner = np.stack([inside[tuple(slice(o, o + n) for o, n in zip(c, counts, strict=True))] for c in _CORNERS])
    cell = np.argwhere(corner.any(0) & ~corner.all(0))
    at = np.stack([values[tuple((cell + c).T)] for c in _CORNERS], axis=1)  # [cells, 8]
    first, second = at[:, _EDGES[:, 0]], at[:, _EDGES[:, 1]]
    crossed = (first < 0) != (second < 0)
    share = np.where(crossed, first / np.where(crossed, first - second, 1.0), 0.0)[..., None]
    points = _CORNERS[_EDGES[:, 0]] * (1.0 - share) + _CORNERS[_EDGES[:, 1]] * share
    points = (points * crossed[..., None]).sum(1) / crossed.sum(1)[:, None]
    number = np.full(counts, -1)
    number[tuple(cell.T)] = np.arange(len(cell))
    quads = []
    for axis in range(3):  # a grid edge that the surface crosses is the middle of four cells
        u, v = (axis + 1) % 3, (axis + 2) % 3
        one, two = (np.take(inside, range(size), axis) for size in (counts[axis], counts[axis]))
        two = np.take(inside, range(1, counts[axis] + 1), axis)
        edge = np.argwhere(one != two)
        edge = edge[(edge[:, u] > 0) & (edge[:, v] > 0) & (edge[:, u] < counts[u]) & (edge[:, v] < counts[v])]
        around = []
        for du, dv in ((1, 1), (0, 1), (0, 0), (1, 0)):
            index = edge.copy()
            index[:, u] -= du
            index[:, v] -= dv
            around.append(number[tuple(index.T)])
        around = np.stack(around, axis=1)
        outward = one[tuple(edge.T)]
        quads.append(np.where(outward[:, None], around, around[:, ::-1]))
    quads = np.concatenate(quads)
    return from_quads(low + (cell + points) * step, quads, np.zeros((len(quads), 4, 2))).box_mapped()


def skin_weights(capsules: list[Capsule], points: np.ndarray, softness: float) -> tuple[np.ndarray, np.ndarray]:
    """Skinning: the four joints ``[N, 4]`` of largest weight and their weights, from distances to the capsules."""
    joints = sorted({capsule.joint for capsule in capsules})
    distance = np.stack(
        [np.min([c.distance(points) for c in capsules if c.joint == joint], axis=0) for joint in joints], axis=1
    )
    nearest = np.argsort(distance, axis=1, kind="stable")[:, :4]
    chosen = np.take_along_axis(distance, nearest, axis=1)
    weights = np.exp(-(chosen - chosen[:, :1]) / softness)
    weights /= weights.sum(1, keepdims=True)
    spare = 4 - nearest.shape[1]
    return np.pad(np.array(joints)[nearest], ((0, 0), (0, spare))), np.pad(weights, ((0, 0), (0, spare)))
