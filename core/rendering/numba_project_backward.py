"""Projection on the CPU, backward: from gradients of projected Gaussians to those of the Gaussians and cameras."""

from __future__ import annotations

import math

import numpy as np

from core.cpu.jit import f32, kernel, next_unit
from core.rendering.numba_project import (
    CHUNK,
    CULLED,
    G_A,
    G_BLUE,
    G_DEPTH,
    G_GREEN,
    G_IC,
    G_KX,
    G_LOP,
    G_MX,
    G_MY,
    G_RED,
    PARTIALS,
    covariance_of,
    cross,
    dot,
    image_root_of,
    jacobian_of,
    mix,
    move,
    rotation_of,
    stretch,
    view_of,
)

CAMERA = 16  # 3 x 4 of the world-to-camera matrix, then fx, fy, cx, cy


@kernel
def _root_backward(grad: np.ndarray, p0: tuple, p1: tuple, antialiased: bool) -> tuple:
    """From gradients of (kx, 1/c', 1/c), and of the opacity's factor, to those of the two rows of the image-space root
    P."""
    a, b, c, det_over_c = covariance_of(p0, p1, antialiased)
    kx, a_inverse = b / c, f32(1.0) / det_over_c
    g = -a_inverse * a_inverse * grad[G_A]
    to_a = g
    to_b = f32(-2.0) * kx * g + grad[G_KX] / c
    to_c = kx * kx * g - (kx * grad[G_KX] + grad[G_IC] / c) / c
    two = f32(2.0)
    if not antialiased:
        return mix(two * to_a, p0, to_b, p1), mix(two * to_c, p1, to_b, p0)
    half = f32(0.5) * grad[G_LOP] * a_inverse
    to_a, to_b, to_c = to_a - half, to_b + two * half * kx, to_c - half * (a / c)
    s = f32(1.0) / math.sqrt(c)
    q = (p1[0] * s, p1[1] * s, p1[2] * s)
    area = cross(p0, q)
    weight = grad[G_LOP] / dot(area, area)
    g0, g1 = mix(two * to_a, p0, to_b, p1), mix(two * to_c, p1, to_b, p0)
    return mix(f32(1.0), g0, weight, cross(q, area)), mix(f32(1.0), g1, weight * s, cross(area, p0))


@kernel
def _slope_backward(slope: float, free: float, focal: float, g_slope: float) -> tuple:
    """Gradients of (coordinate / z, focal length, principal point) through the clamp of a view slope."""
    if slope == free:
        return g_slope, f32(0.0), f32(0.0)
    return f32(0.0), -g_slope * slope / focal, -g_slope / focal


@kernel
def _center_backward(grad: np.ndarray, point: tuple, lens: tuple, j: tuple, g_j: tuple, camera: np.ndarray) -> tuple:
    """Gradient of the camera-space centre; adds those of fx, fy, cx, cy to ``camera[12:]``."""
    x, y, _ = point
    rz, slope_x, slope_y = j[0], j[1], j[2]
    fx, fy = lens[0], lens[1]
    free_x, fx_clamp, cx_clamp = _slope_backward(slope_x, x * rz, fx, -fx * rz * g_j[1])
    free_y, fy_clamp, cy_clamp = _slope_backward(slope_y, y * rz, fy, -fy * rz * g_j[3])
    to_x = fx * grad[G_MX] + free_x
    to_y = fy * grad[G_MY] + free_y
    to_rz = fx * (g_j[0] - slope_x * g_j[1]) + fy * (g_j[2] - slope_y * g_j[3]) + x * to_x + y * to_y
    camera[12] += rz * (g_j[0] - slope_x * g_j[1]) + x * rz * grad[G_MX] + fx_clamp
    camera[13] += rz * (g_j[2] - slope_y * g_j[3]) + y * rz * grad[G_MY] + fy_clamp
    camera[14] += grad[G_MX] + cx_clamp
    camera[15] += grad[G_MY] + cy_clamp
    return to_x * rz, to_y * rz, grad[G_DEPTH] - rz * rz * to_rz


@kernel
def _view_backward(
    grad: np.ndarray, mean: tuple, root: tuple, view: tuple, size: tuple, antialiased: bool,
    g_mean: np.ndarray, g_root: np.ndarray, camera: np.ndarray,
) -> None:  # fmt: skip
    """One Gaussian in one image: add to the gradients of its mean, its root R S (row-major 9) and the camera."""
    x, y, z = move(view, mean)
    j = jacobian_of(x, y, z, view[4], size)
    m0, m1, m2, p0, p1 = image_root_of(root, view, j)
    g_p0, g_p1 = _root_backward(grad, p0, p1, antialiased)
    g_j = (dot(g_p0, m0), dot(g_p0, m2), dot(g_p1, m1), dot(g_p1, m2))
    g_point = _center_backward(grad, (x, y, z), view[4], j, g_j, camera)
    for column in range(3):
        g0, g1 = j[3] * g_p0[column], j[5] * g_p1[column]
        g2 = j[4] * g_p0[column] + j[6] * g_p1[column]
        g_mean[column] += view[0][column] * g_point[0] + view[1][column] * g_point[1] + view[2][column] * g_point[2]
        for row in range(3):
            g_root[3 * row + column] += view[0][row] * g0 + view[1][row] * g1 + view[2][row] * g2
            camera[row] += g0 * root[row][column]
            camera[4 + row] += g1 * root[row][column]
            camera[8 + row] += g2 * root[row][column]
    for axis in range(3):
        camera[4 * axis + 3] += g_point[axis]
        for row in range(3):
            camera[4 * axis + row] += g_point[axis] * mean[row]


@kernel
def _rotation_backward(g: np.ndarray, unit: tuple, out: np.ndarray) -> None:
    """From the gradient ``g`` of the rotation (row-major 9) to that of the quaternion before normalisation."""
    w, x, y, z, inverse = unit
    two = f32(2.0)
    gw = two * (x * (g[7] - g[5]) + y * (g[2] - g[6]) + z * (g[3] - g[1]))
    gx = two * (y * (g[1] + g[3]) + z * (g[2] + g[6]) + w * (g[7] - g[5]) - two * x * (g[4] + g[8]))
    gy = two * (x * (g[1] + g[3]) + z * (g[5] + g[7]) + w * (g[2] - g[6]) - two * y * (g[0] + g[8]))
    gz = two * (x * (g[2] + g[6]) + y * (g[5] + g[7]) + w * (g[3] - g[1]) - two * z * (g[0] + g[4]))
    radial = gw * w + gx * x + gy * y + gz * z
    out[0] += inverse * (gw - radial * w)
    out[1] += inverse * (gx - radial * x)
    out[2] += inverse * (gy - radial * y)
    out[3] += inverse * (gz - radial * z)


@kernel
def project_backward(
    counter: np.ndarray, units: int, first: int, end: int, views: int, size: tuple, antialiased: bool,
    means: np.ndarray, quats: np.ndarray, scales: np.ndarray, opacities: np.ndarray,
    w2c: np.ndarray, intrinsics: np.ndarray,
    keys: np.ndarray, bands: np.ndarray, slots: np.ndarray, table: np.ndarray,
    g_means: np.ndarray, g_quats: np.ndarray, g_scales: np.ndarray, g_opacities: np.ndarray, g_colors: np.ndarray,
    g_cameras: np.ndarray,
) -> None:  # fmt: skip
    """Add the gradients of the images ``first .. end - 1``; a unit is one chunk of Gaussians of one group (time step).

    ``table`` is what `rasterize_backward` wrote. ``g_cameras`` [I_all, chunks, CAMERA] keeps the chunks apart, so that
    no two threads write to one place.
    """
    count = means.shape[1]
    chunks = g_cameras.shape[1]
    grad, g_root, g_rotation = np.empty(PARTIALS, np.float32), np.empty(9, np.float32), np.empty(9, np.float32)
    while True:
        unit = next_unit(counter)
        if unit >= units:
            return
        group, chunk = first // views + unit // chunks, unit % chunks
        for n in range(chunk * CHUNK, min(count, (chunk + 1) * CHUNK)):
            unit_quat, rows = rotation_of(quats, group, n)
            root = stretch(rows, scales, group, n)
            mean = (means[group, n, 0], means[group, n, 1], means[group, n, 2])
            g_root[:] = 0
            touched = False
            for image in range(max(first, group * views), min(end, (group + 1) * views)):
                i = image - first
                if keys[i, n] == CULLED:
                    continue
                grad[:] = 0
                for row in range(slots[i, n], slots[i, n] + bands[i, n, 1] - bands[i, n, 0] + 1):
                    for field in range(PARTIALS):
                        grad[field] += table[row, field]
                g_opacities[group, n] += grad[G_LOP] / opacities[group, n]
                g_colors[group, n, 0] += grad[G_RED]
                g_colors[group, n, 1] += grad[G_GREEN]
                g_colors[group, n, 2] += grad[G_BLUE]
                view = view_of(w2c, intrinsics, image)
                _view_backward(
                    grad, mean, root, view, size, antialiased, g_means[group, n], g_root, g_cameras[image, chunk]
                )
                touched = True
            if not touched:
                continue
            for k in range(9):
                g_scales[group, n, k % 3] += g_root[k] * rows[k // 3][k % 3]
                g_rotation[k] = g_root[k] * scales[group, n, k % 3]
            _rotation_backward(g_rotation, unit_quat, g_quats[group, n])
