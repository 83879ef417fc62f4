"""Where rays enter a visual hull: a ray ends where it enters, a step where a view sees nothing."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from core.cpu.jit import f32, kernel, next_unit, run_parallel
from core.nano.ray_kernels import piece_at, pieces_of, pixel_along, ray_in_view


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
    counter: np.ndarray, units: int, feet: np.ndarray, directions: np.ndarray, asks: np.ndarray, tells: np.ndarray,
    matrices: np.ndarray, offsets: np.ndarray, masks: np.ndarray, steps: np.ndarray, result: np.ndarray,
) -> None:  # fmt: skip
    views, rays = asks.shape[1], asks.shape[2]
    start, slope = np.empty((views, 3), np.float32), np.empty((views, 3), np.float32)
    while True:
        unit = next_unit(counter)
        if unit >= units:
            return
        moment, own, first, end = piece_at(unit, views, rays)
        for ray in range(first, end):
            if not asks[moment, own, ray]:
                continue
            foot, direction = feet[moment, own, ray], directions[moment, own, ray]
            for view in range(views):
                p, d = ray_in_view(matrices[moment, view], offsets[moment, view], foot, direction)
                for axis in range(3):
                    start[view, axis], slope[view, axis] = p[axis], d[axis]
            told, before, most, best, at = False, f32(0.0), f32(0.0), f32(-3.0), 0
            for step in range(len(steps)):
                inside = f32(2.0)
                for view in range(views):
                    if not tells[moment, own, view]:
                        continue
                    told = True
                    x, y = pixel_along(start[view], slope[view], steps[step])
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
                    result[moment, own, ray, 0] = steps[step] - back * (steps[1] - steps[0])
                    break
                if inside - f32(1e-3) * abs(steps[step]) > best:
                    best, at = inside - f32(1e-3) * abs(steps[step]), step
                before = inside
            if not told:
                result[moment, own, ray, 1] = f32(2.0)
            else:
                result[moment, own, ray, 1] = min(f32(2.0) * most, f32(1.0))
                if most <= f32(0.5):
                    result[moment, own, ray, 0] = steps[at] if most > 0 else f32(0.0)


def enter_hull(
    feet: Tensor, directions: Tensor, asks: Tensor, tells: Tensor, matrices: Tensor, offsets: Tensor, masks: Tensor,
    steps: Tensor,
) -> Tensor:  # fmt: skip
    """Walk along rays until all views that tell something see foreground; all on the CPU, numbers in float32.

    Args:
        feet, directions: ``[N, V, R, 3]``: points nearest to the origin, unit directions.
        asks: ``[N, V, R]``: rays that are walked.
        tells: ``[N, V, V]``: whom the rays of each view ask.
        matrices, offsets: ``[N, V, 3, 3]`` and ``[N, V, 3]``: from world points to homogeneous pixels.
        masks: ``[N, V, H, W]``: foreground in [0, 1].
        steps: ``[S]``: even, ascending distances along the ray.

    Returns:
        ``[N, V, R, 2]``: the distance where the ray enters, or where it comes nearest; and twice the foreground there,
        at most 1, or 2 where no view tells anything. Zeros for rays that are not walked.
    """
    result = torch.zeros(*asks.shape, 2)
    inputs = (x.detach().contiguous().numpy() for x in (feet, directions, asks, tells, matrices, offsets, masks, steps))
    if asks.numel():
        run_parallel(_enter, pieces_of(asks), *inputs, result.numpy())
    return result
