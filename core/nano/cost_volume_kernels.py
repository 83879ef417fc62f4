"""Colour differences of neighbouring views along rays."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from core.cpu.jit import f32, kernel, next_unit, run_parallel
from core.nano.ray_kernels import piece_at, pieces_of, pixel_along, ray_in_view


@kernel
def _color_at(image: np.ndarray, x: float, y: float) -> tuple:
    """Bilinear in an image ``[H, W, 3]``, white outside; (0.5, 0.5) is the middle of the first pixel."""
    x, y = x - f32(0.5), y - f32(0.5)
    height, width = image.shape[0], image.shape[1]
    red, green, blue = f32(1.0), f32(1.0), f32(1.0)
    if not (x > -1 and y > -1 and x < width and y < height):
        return red, green, blue
    left, top = np.int64(np.floor(x)), np.int64(np.floor(y))
    right, low = f32(x - f32(left)), f32(y - f32(top))
    for i in range(2):
        for j in range(2):
            row, column = top + i, left + j
            if 0 <= row and row < height and 0 <= column and column < width:
                weight = (low if i else f32(1.0) - low) * (right if j else f32(1.0) - right)
                red += weight * (image[row, column, 0] - f32(1.0))
                green += weight * (image[row, column, 1] - f32(1.0))
                blue += weight * (image[row, column, 2] - f32(1.0))
    return red, green, blue


@kernel
def _compare(
    counter: np.ndarray, units: int, pixels: np.ndarray, valid: np.ndarray, points: np.ndarray, directions: np.ndarray,
    depths: np.ndarray, offsets: np.ndarray, turns: np.ndarray, to_pixels: np.ndarray, shifts: np.ndarray,
    images: np.ndarray, own: np.ndarray, result: np.ndarray,
) -> None:  # fmt: skip
    views, rays, steps = pixels.shape[1], pixels.shape[2], len(offsets)
    while True:
        unit = next_unit(counter)
        if unit >= units:
            return
        time, view, begin, end = piece_at(unit, views, rays)
        for ray in range(begin, end):
            if not valid[time, view, ray]:
                continue
            pixel = pixels[time, view, ray]
            red, green, blue = own[time, view, pixel, 0], own[time, view, pixel, 1], own[time, view, pixel, 2]
            point, direction = points[time, view, ray], directions[time, view, ray]
            for turn in range(len(turns)):
                other, first = (view + turns[turn]) % views, turn * (steps + 3)
                start, slope = ray_in_view(to_pixels[time, other], shifts[time, other], point, direction)
                for step in range(steps):
                    x, y = pixel_along(start, slope, depths[time, view, pixel] + offsets[step])
                    r, g, b = _color_at(images[time, other], x, y)
                    difference = abs(r - red) + abs(g - green) + abs(b - blue)
                    result[time, view, first + step, pixel] = difference / f32(3.0)
                    if step == 0:
                        result[time, view, first + steps, pixel] = f32(2.0) * r - f32(1.0)
                        result[time, view, first + steps + 1, pixel] = f32(2.0) * g - f32(1.0)
                        result[time, view, first + steps + 2, pixel] = f32(2.0) * b - f32(1.0)


def compare_neighbours(
    pixels: Tensor, valid: Tensor, points: Tensor, directions: Tensor, depths: Tensor, offsets: Tensor, turns: Tensor,
    to_pixels: Tensor, shifts: Tensor, images: Tensor, own: Tensor, result: Tensor,
) -> None:  # fmt: skip
    """Fill ``result``; all on the CPU, numbers in float32.

    Args:
        pixels, valid, points, directions: the fields of `core.nano.visual_hull.Rays`.
        depths: ``[N, V, P]``: where the ray of each of the P pixels enters the hull.
        offsets: ``[K]``: world units behind it.
        turns: ``[M]``: from a view to its neighbours.
        to_pixels, shifts: ``[N, V, 3, 3]`` and ``[N, V, 3]``: from world points to homogeneous pixels.
        images: ``[N, V, H, W, 3]`` in [0, 1].
        own: ``[N, V, P, 3]``: the colours of the pixels themselves.
        result: ``[N, V, M (K + 3), P]``: for each neighbour mean absolute differences at the K places, then the colour
            at the first of them, from -1 to 1. Pixels without a ray stay as they are.
    """
    inputs = (pixels, valid, points, directions, depths, offsets, turns, to_pixels, shifts, images, own)
    arrays = (x.detach().contiguous().numpy() for x in inputs)
    if pixels.numel():
        run_parallel(_compare, pieces_of(pixels), *arrays, result.numpy())
