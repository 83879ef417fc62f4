"""Where rays enter a visual hull: a ray stops at its entry, a step at the first view without foreground."""

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
    counter: np.ndarray, units: int, points: np.ndarray, directions: np.ndarray, valid: np.ndarray,
    valid_views: np.ndarray, matrices: np.ndarray, offsets: np.ndarray, masks: np.ndarray, steps: np.ndarray,
    result: np.ndarray,
) -> None:  # fmt: skip
    owners, rays, views = valid.shape[1], valid.shape[2], masks.shape[1]
    start, slope = np.empty((views, 3), np.float32), np.empty((views, 3), np.float32)
    while True:
        unit = next_unit(counter)
        if unit >= units:
            return
        time, own, first, end = piece_at(unit, owners, rays)
        for ray in range(first, end):
            if not valid[time, own, ray]:
                continue
            point, direction = points[time, own, ray], directions[time, own, ray]
            for view in range(views):
                p, d = ray_in_view(matrices[time, view], offsets[time, view], point, direction)
                for axis in range(3):
                    start[view, axis], slope[view, axis] = p[axis], d[axis]
            known, before, most, best, at = False, f32(0.0), f32(0.0), f32(-3.0), 0
            for step in range(len(steps)):
                inside = f32(2.0)
                for view in range(views):
                    if not valid_views[time, own, view]:
                        continue
                    known = True
                    x, y = pixel_along(start[view], slope[view], steps[step])
                    inside = min(inside, _sample(masks[time, view], x, y))
                    if inside == 0:
                        break
                if not known:
                    break
                most = max(most, inside)
                if inside > f32(0.5):
                    back = f32(0.0)
                    if step > 0 and before < f32(0.5):
                        back = (inside - f32(0.5)) / max(inside - before, f32(1e-6))
                    result[time, own, ray, 0] = steps[step] - back * (steps[1] - steps[0])
                    break
                if inside - f32(1e-3) * abs(steps[step]) > best:
                    best, at = inside - f32(1e-3) * abs(steps[step]), step
                before = inside
            if not known:
                result[time, own, ray, 1] = f32(2.0)
            else:
                result[time, own, ray, 1] = min(f32(2.0) * most, f32(1.0))
                if most <= f32(0.5):
                    result[time, own, ray, 0] = steps[at] if most > 0 else f32(0.0)


def enter_hull(
    points: Tensor, directions: Tensor, valid: Tensor, valid_views: Tensor, matrices: Tensor, offsets: Tensor,
    masks: Tensor, steps: Tensor,
) -> Tensor:  # fmt: skip
    """Walk along rays until all valid views see foreground; all on the CPU, numbers in float32.

    Args:
        points, directions: ``[N, I, R, 3]``: points closest to the origin, unit directions.
        valid: ``[N, I, R]``: rays that are walked.
        valid_views: ``[N, I, V]``: views whose silhouettes bound the rays of each of the I views.
        matrices, offsets: ``[N, V, 3, 3]`` and ``[N, V, 3]``: from world points to homogeneous pixels.
        masks: ``[N, V, H, W]``: foreground in [0, 1].
        steps: ``[S]``: even, ascending distances along the ray.

    Returns:
        ``[N, I, R, 2]``: the distance where the ray enters, or where it comes nearest; and twice the foreground there,
        at most 1, or 2 where no view is valid. Zeros for rays that are not walked.
    """
    result = torch.zeros(*valid.shape, 2)
    inputs = (points, directions, valid, valid_views, matrices, offsets, masks, steps)
    if valid.numel():
        run_parallel(_enter, pieces_of(valid), *(x.detach().contiguous().numpy() for x in inputs), result.numpy())
    return result
