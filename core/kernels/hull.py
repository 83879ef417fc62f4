"""Where rays enter a visual hull: a ray ends where it enters, a step where a view sees nothing."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from core.kernels.jit import f32, kernel, next_unit, run_parallel

_RAYS = 256  # of one piece of work


@kernel
def _sample(mask: np.ndarray, x: float, y: float) -> float:
    """Bilinear, zero outside; (0.5, 0.5) is the middle of the first pixel."""
    x, y = x - f32(0.5), y - f32(0.5)
    height, width = mask.shape
    if not (x > -1 and y > -1 and x < width and y < height):
        return f32(0.0)
    left, top = np.int64(np.floor(x)), np.int64(np.floor(y))
    right, low = f32(x - f32(left)), f32(y - f32(top))
    value = f32(0.0)
    for i in range(2):
        for j in range(2):
            row, column = top + i, left + j
            if 0 <= row and row < height and 0 <= column and column < width:
                weight = (low if i else f32(1.0) - low) * (right if j else f32(1.0) - right)
                value += weight * mask[row, column]
    return value


@kernel
def _enter(
    counter: np.ndarray,
    units: int,
    start: np.ndarray,
    slope: np.ndarray,
    asks: np.ndarray,
    tells: np.ndarray,
    masks: np.ndarray,
    steps: np.ndarray,
    result: np.ndarray,
) -> None:
    per_moment, views = start.shape[1], start.shape[2]
    pieces = (per_moment + _RAYS - 1) // _RAYS
    while True:
        unit = next_unit(counter)
        if unit >= units:
            return
        moment, piece = unit // pieces, unit % pieces
        for ray in range(piece * _RAYS, min(per_moment, (piece + 1) * _RAYS)):
            if not asks[moment, ray]:
                continue
            told, before, most, best, at = False, f32(0.0), f32(0.0), f32(-3.0), 0
            for step in range(len(steps)):
                inside = f32(2.0)
                for view in range(views):
                    if not tells[moment, ray, view]:
                        continue
                    told = True
                    p, d = start[moment, ray, view], slope[moment, ray, view]
                    depth = p[2] + steps[step] * d[2]
                    x, y = (p[0] + steps[step] * d[0]) / depth, (p[1] + steps[step] * d[1]) / depth
                    inside = min(inside, _sample(masks[moment, view], x, y))
                    if inside == 0:
                        break
                if not told:
                    break
                most = max(most, inside)
                if inside > f32(0.5):
                    back = f32(0.0)
                    if step > 0 and before < f32(0.5):
                        back = (inside - f32(0.5)) / max(inside - before, f32(1e-6))
                    result[moment, ray, 0] = steps[step] - back * (steps[1] - steps[0])
                    break
                if inside - f32(1e-3) * abs(steps[step]) > best:
                    best, at = inside - f32(1e-3) * abs(steps[step]), step
                before = inside
            if not told:
                result[moment, ray, 1] = f32(2.0)
            else:
                result[moment, ray, 1] = min(f32(2.0) * most, f32(1.0))
                if most <= f32(0.5):
                    result[moment, ray, 0] = steps[at] if most > 0 else f32(0.0)


def enter_hull(start: Tensor, slope: Tensor, asks: Tensor, tells: Tensor, masks: Tensor, steps: Tensor) -> Tensor:
    """Walk along rays until all views that tell something see foreground; all on the CPU, numbers in float32.

    Args:
        start, slope: ``[N, R, V, 3]``: homogeneous pixel coordinates of a ray's point nearest to the origin in every
            view, and how they change along the ray.
        asks: ``[N, R]``: rays that are walked.
        tells: ``[N, R, V]``: views that count for a ray.
        masks: ``[N, V, H, W]``: foreground in [0, 1].
        steps: ``[S]``: even, ascending distances along the ray.

    Returns:
        ``[N, R, 2]``: the distance where the ray enters, or where it comes nearest; and twice the foreground there, at
        most 1, or 2 where no view tells anything. Zeros for rays that are not walked.
    """
    result = torch.zeros(*asks.shape, 2)
    inputs = (x.detach().contiguous().numpy() for x in (start, slope, asks, tells, masks, steps))
    units = len(asks) * ((asks.shape[1] + _RAYS - 1) // _RAYS)
    if units:
        run_parallel(_enter, units, *inputs, result.numpy())
    return result
