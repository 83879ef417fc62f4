"""Projection of 3D Gaussians to the image plane (EWA splatting) on the CPU: kernels, forward and backward.

Forward, per image and Gaussian: camera-space centre ``m = W mean + t``; root of the camera-space covariance
``M = W R(q) S``; root of the image covariance ``P = J M`` with the Jacobian ``J`` of the perspective map, whose view
angle is clamped to 1.3 times the image as in 3DGS and gsplat; image covariance ``[[a, b], [b, c]] = P P^T + 0.3 I``.

The exponent is written in the two completed squares of the quadratic form, both free of cancellation:

    log2 alpha = log2 opacity - c2 dy^2 - a2 (dx - kx dy)^2,    kx = b / c,   c2 = h / c,   a2 = h c / det
               = log2 opacity - ca dx^2 - cb (dy - ky dx)^2,    ky = b / a,   ca = h / a,   cb = h a / det

with h = log2(e) / 2. ``det`` is a sum of positive terms (Cauchy-Binet), so it is positive for every finite input.
"""

from __future__ import annotations

import math

import numpy as np

from .numba_jit import bits_of_float, f32, kernel, next_unit

# Fields of a projected Gaussian; 16 floats are one cache line.
MX, MY, KX, A2, C2, LOP, DEPTH, RED, GREEN, BLUE, KY, CA, CB, HX, HY = range(15)
RECORD = 16
# Gradients that rasterisation hands back, one row for each Gaussian and band of pixel rows.
G_MX, G_MY, G_KX, G_A, G_IC, G_LOP, G_DEPTH, G_RED, G_GREEN, G_BLUE = range(10)
PARTIALS = 10

BAND = 16  # pixel rows in a band: the piece of an image that one thread draws
CHUNK = 2048  # Gaussians in one piece of projection work
BLUR = f32(0.3)  # pixels^2 added to both image variances
LOG2_MIN_ALPHA = f32(-math.log2(255.0))  # fainter contributions are not drawn
HALF_LOG2E = f32(0.5 * math.log2(math.e))
CULLED = np.uint32(0xFFFFFFFF)


@kernel
def rotation_of(quats: np.ndarray, group: int, n: int) -> tuple:
    """The unit quaternion, one over the norm, and the nine entries of the rotation; a zero quaternion is the identity."""
    w, x, y, z = quats[group, n, 0], quats[group, n, 1], quats[group, n, 2], quats[group, n, 3]
    norm = math.sqrt(w * w + x * x + y * y + z * z)
    inverse = f32(1.0) / norm if norm > f32(1e-12) else f32(0.0)
    w, x, y, z = (
        (w * inverse, x * inverse, y * inverse, z * inverse) if inverse > 0 else (f32(1), f32(0), f32(0), f32(0))
    )
    one, two = f32(1.0), f32(2.0)
    return (
        (w, x, y, z, inverse),
        (one - two * (y * y + z * z), two * (x * y - w * z), two * (x * z + w * y)),
        (two * (x * y + w * z), one - two * (x * x + z * z), two * (y * z - w * x)),
        (two * (x * z - w * y), two * (y * z + w * x), one - two * (x * x + y * y)),
    )


@kernel
def jacobian_of(x: float, y: float, z: float, lens: tuple, size: tuple) -> tuple:
    """Non-zero entries of the perspective Jacobian and the view slopes, clamped to 1.3 times the image."""
    fx, fy, cx, cy = lens
    height, width = f32(size[0]), f32(size[1])
    rz = f32(1.0) / z
    margin_x, margin_y = f32(0.15) * width, f32(0.15) * height
    slope_x = min((width - cx + margin_x) / fx, max(-(cx + margin_x) / fx, x * rz))
    slope_y = min((height - cy + margin_y) / fy, max(-(cy + margin_y) / fy, y * rz))
    return rz, slope_x, slope_y, fx * rz, -fx * slope_x * rz, fy * rz, -fy * slope_y * rz


@kernel
def _dot(p: tuple, q: tuple) -> float:
    return p[0] * q[0] + p[1] * q[1] + p[2] * q[2]


@kernel
def _mix(s: float, p: tuple, t: float, q: tuple) -> tuple:
    """s p + t q."""
    return s * p[0] + t * q[0], s * p[1] + t * q[1], s * p[2] + t * q[2]


@kernel
def _times(row: tuple, first: tuple, second: tuple, third: tuple) -> tuple:
    """A row vector times the matrix with the given rows."""
    return (
        row[0] * first[0] + row[1] * second[0] + row[2] * third[0],
        row[0] * first[1] + row[1] * second[1] + row[2] * third[1],
        row[0] * first[2] + row[1] * second[2] + row[2] * third[2],
    )


@kernel
def view_of(w2c: np.ndarray, intrinsics: np.ndarray, image: int) -> tuple:
    """Rows of the world-to-camera rotation, its translation, and (fx, fy, cx, cy)."""
    w, k = w2c[image], intrinsics[image]
    return (
        (w[0, 0], w[0, 1], w[0, 2]),
        (w[1, 0], w[1, 1], w[1, 2]),
        (w[2, 0], w[2, 1], w[2, 2]),
        (w[0, 3], w[1, 3], w[2, 3]),
        (k[0, 0], k[1, 1], k[0, 2], k[1, 2]),
    )


@kernel
def image_root_of(rows: tuple, scale: tuple, view: tuple, j: tuple) -> tuple:
    """Rows of the camera-space root M (3x3) and of the image-space root P = J M (2x3)."""
    stretched = (
        (rows[0][0] * scale[0], rows[0][1] * scale[1], rows[0][2] * scale[2]),
        (rows[1][0] * scale[0], rows[1][1] * scale[1], rows[1][2] * scale[2]),
        (rows[2][0] * scale[0], rows[2][1] * scale[1], rows[2][2] * scale[2]),
    )
    m0 = _times(view[0], *stretched)
    m1 = _times(view[1], *stretched)
    m2 = _times(view[2], *stretched)
    return stretched, m0, m1, m2, _mix(j[3], m0, j[4], m2), _mix(j[5], m1, j[6], m2)


@kernel
def covariance_of(p0: tuple, p1: tuple) -> tuple:
    """a, b, c and det / c of the blurred image covariance; the determinant by Cauchy-Binet, scaled against overflow."""
    aa, b, cc = _dot(p0, p0), _dot(p0, p1), _dot(p1, p1)
    c = cc + BLUR
    s = f32(1.0) / math.sqrt(c)
    q = (p1[0] * s, p1[1] * s, p1[2] * s)
    d0, d1, d2 = p0[1] * q[2] - p0[2] * q[1], p0[2] * q[0] - p0[0] * q[2], p0[0] * q[1] - p0[1] * q[0]
    return aa + BLUR, b, c, d0 * d0 + d1 * d1 + d2 * d2 + BLUR * (aa / c + cc / c) + BLUR * BLUR / c


@kernel
def project(
    counter: np.ndarray, units: int, first: int, views: int, size: tuple, planes: tuple,
    means: np.ndarray, quats: np.ndarray, scales: np.ndarray, opacities: np.ndarray, colors: np.ndarray,
    w2c: np.ndarray, intrinsics: np.ndarray,
    records: np.ndarray, keys: np.ndarray, bands: np.ndarray, totals: np.ndarray, broken: np.ndarray,
) -> None:  # fmt: skip
    """Project all Gaussians to the images ``first``, ``first + 1``, ...; a unit is one chunk of one image.

    Writes, with i counting the images from ``first``: ``records`` [I, N, 16]; depth-sort ``keys`` [I, N] (bits of the
    depth, or CULLED); first and last touched band ``bands`` [I, N, 2]; per chunk, how many bands are touched in all
    (``totals``) and how many Gaussians hold a non-finite value (``broken``), both [I, chunks].
    """
    count = means.shape[1]
    chunks = totals.shape[1]
    height, width = f32(size[0]), f32(size[1])
    half, zero = f32(0.5), f32(0.0)
    while True:
        unit = next_unit(counter)
        if unit >= units:
            return
        i, chunk = unit // chunks, unit % chunks
        image = first + i
        group = image // views
        view = view_of(w2c, intrinsics, image)
        fx, fy, cx, cy = view[4]
        total, bad = 0, 0
        for n in range(chunk * CHUNK, min(count, (chunk + 1) * CHUNK)):
            keys[i, n] = CULLED
            bands[i, n, 0], bands[i, n, 1] = 0, -1
            mean = (means[group, n, 0], means[group, n, 1], means[group, n, 2])
            scale = (scales[group, n, 0], scales[group, n, 1], scales[group, n, 2])
            opacity = opacities[group, n]
            red, green, blue = colors[group, n, 0], colors[group, n, 1], colors[group, n, 2]
            finite = mean[0] * zero + mean[1] * zero + mean[2] * zero + opacity * zero
            finite += scale[0] * zero + scale[1] * zero + scale[2] * zero + red * zero + green * zero + blue * zero
            for axis in range(4):
                finite += quats[group, n, axis] * zero
            if finite != zero:
                bad += 1
                continue
            x = _dot(view[0], mean) + view[3][0]
            y = _dot(view[1], mean) + view[3][1]
            z = _dot(view[2], mean) + view[3][2]
            if not (z >= planes[0] and z <= planes[1]) or not opacity * f32(255.0) >= f32(1.0):
                continue
            j = jacobian_of(x, y, z, view[4], size)
            _, row0, row1, row2 = rotation_of(quats, group, n)
            root = image_root_of((row0, row1, row2), scale, view, j)
            a, b, c, det_over_c = covariance_of(root[4], root[5])
            log_opacity = f32(math.log2(opacity))
            reach = (log_opacity - LOG2_MIN_ALPHA) / HALF_LOG2E
            hx, hy = math.sqrt(reach * a), math.sqrt(reach * c)
            mx, my = fx * x * j[0] + cx, fy * y * j[0] + cy
            if not (mx + hx > zero and mx - hx < width and my + hy > zero and my - hy < height):
                continue  # off screen, or too large for float32
            record = records[i, n]
            record[MX], record[MY], record[DEPTH] = mx, my, z
            record[KX], record[KY] = b / c, b / a
            record[A2], record[C2] = HALF_LOG2E / det_over_c, HALF_LOG2E / c
            record[CA], record[CB] = HALF_LOG2E / a, HALF_LOG2E / (det_over_c * (c / a))
            record[LOP], record[HX], record[HY] = log_opacity, hx, hy
            record[RED], record[GREEN], record[BLUE] = red, green, blue
            top = int(max(zero, my - hy - half)) // BAND
            bottom = int(min(height - f32(1.0), my + hy - half)) // BAND
            keys[i, n] = np.uint32(bits_of_float(z))
            bands[i, n, 0], bands[i, n, 1] = top, bottom
            total += bottom - top + 1
        totals[i, chunk], broken[i, chunk] = total, bad
