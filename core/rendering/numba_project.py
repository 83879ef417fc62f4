"""Projection of 3D Gaussians to the image plane (EWA splatting) on the CPU.

Per image and Gaussian: camera-space centre ``m = W mean + t``; root of the camera-space covariance
``M = W R(q) S``; root of the image covariance ``P = J M`` with the Jacobian ``J`` of the perspective map, whose view
angle is clamped to 1.3 times the image as in 3DGS and gsplat; image covariance ``[[a, b], [b, c]] = P P^T + 0.3 I``.
In the anti-aliased mode 0.3 is 0.1 and the opacity is multiplied by ``sqrt(det(P P^T) / det(P P^T + 0.1 I))``
(Mip-Splatting's 2D filter, gsplat's ``rasterize_mode="antialiased"``).

The exponent is written in the two completed squares of the quadratic form, both free of cancellation:

    log2 alpha = log2 opacity - c2 dy^2 - a2 (dx - kx dy)^2,    kx = b / c,   c2 = h / c,   a2 = h c / det
               = log2 opacity - ca dx^2 - cb (dy - ky dx)^2,    ky = b / a,   ca = h / a,   cb = h a / det

with h = log2(e) / 2. ``det`` is a sum of positive terms (Cauchy-Binet), so it is positive for every finite input.
"""

from __future__ import annotations

import math

import numpy as np

from core.cpu.jit import bits_of_float, f32, kernel, next_unit
from core.rendering.base import LOW_PASS

# Fields of a projected Gaussian; 16 floats are one cache line.
MX, MY, KX, A2, C2, LOP, DEPTH, RED, GREEN, BLUE, KY, CA, CB, HX, HY = range(15)
RECORD = 16
# Gradients that rasterisation hands back, one row for each Gaussian and band of pixel rows.
G_MX, G_MY, G_KX, G_A, G_IC, G_LOP, G_DEPTH, G_RED, G_GREEN, G_BLUE = range(10)
PARTIALS = 10

BAND = 16  # pixel rows in a band: the piece of an image that one thread draws
CHUNK = 2048  # Gaussians in one piece of projection work
BLUR, SHARP_BLUR = f32(LOW_PASS["classic"]), f32(LOW_PASS["antialiased"])  # pixels^2
LOG2_MIN_ALPHA = f32(-math.log2(255.0))  # fainter contributions are not drawn
HALF_LOG2E = f32(0.5 * math.log2(math.e))
_MAX_EXTENT = f32(1e15)  # pixels; squares of anything larger overflow
CULLED = np.uint32(0xFFFFFFFF)


@kernel
def rotation_of(quats: np.ndarray, group: int, n: int) -> tuple:
    """The unit quaternion with one over its norm, and the rows of its rotation; a zero quaternion is the identity."""
    w, x, y, z = quats[group, n, 0], quats[group, n, 1], quats[group, n, 2], quats[group, n, 3]
    norm = math.sqrt(w * w + x * x + y * y + z * z)
    inverse = f32(0.0)
    if norm > f32(1e-12):
        inverse = f32(1.0) / norm
        w, x, y, z = w * inverse, x * inverse, y * inverse, z * inverse
    else:
        w, x, y, z = f32(1.0), f32(0.0), f32(0.0), f32(0.0)
    one, two = f32(1.0), f32(2.0)
    rows = (
        (one - two * (y * y + z * z), two * (x * y - w * z), two * (x * z + w * y)),
        (two * (x * y + w * z), one - two * (x * x + z * z), two * (y * z - w * x)),
        (two * (x * z - w * y), two * (y * z + w * x), one - two * (x * x + y * y)),
    )
    return (w, x, y, z, inverse), rows


@kernel
def stretch(rows: tuple, scales: np.ndarray, group: int, n: int) -> tuple:
    """Rows of R S, the root of the world covariance."""
    s0, s1, s2 = scales[group, n, 0], scales[group, n, 1], scales[group, n, 2]
    return (
        (rows[0][0] * s0, rows[0][1] * s1, rows[0][2] * s2),
        (rows[1][0] * s0, rows[1][1] * s1, rows[1][2] * s2),
        (rows[2][0] * s0, rows[2][1] * s1, rows[2][2] * s2),
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
def dot(p: tuple, q: tuple) -> float:
    """Inner product of two vectors."""
    return p[0] * q[0] + p[1] * q[1] + p[2] * q[2]


@kernel
def cross(p: tuple, q: tuple) -> tuple:
    """Cross product of two vectors."""
    return p[1] * q[2] - p[2] * q[1], p[2] * q[0] - p[0] * q[2], p[0] * q[1] - p[1] * q[0]


@kernel
def mix(s: float, p: tuple, t: float, q: tuple) -> tuple:
    """s p + t q."""
    return s * p[0] + t * q[0], s * p[1] + t * q[1], s * p[2] + t * q[2]


@kernel
def _times(row: tuple, matrix: tuple) -> tuple:
    """A row vector times a matrix, given by its rows."""
    return (
        row[0] * matrix[0][0] + row[1] * matrix[1][0] + row[2] * matrix[2][0],
        row[0] * matrix[0][1] + row[1] * matrix[1][1] + row[2] * matrix[2][1],
        row[0] * matrix[0][2] + row[1] * matrix[1][2] + row[2] * matrix[2][2],
    )


@kernel
def move(view: tuple, point: tuple) -> tuple:
    """A world point in camera space."""
    t = view[3]
    return dot(view[0], point) + t[0], dot(view[1], point) + t[1], dot(view[2], point) + t[2]


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
def image_root_of(root: tuple, view: tuple, j: tuple) -> tuple:
    """Rows of the camera-space root M (3x3) and of the image-space root P = J M (2x3)."""
    m0, m1, m2 = _times(view[0], root), _times(view[1], root), _times(view[2], root)
    return m0, m1, m2, mix(j[3], m0, j[4], m2), mix(j[5], m1, j[6], m2)


@kernel
def covariance_of(p0: tuple, p1: tuple, antialiased: bool) -> tuple:
    """a, b, c and det / c of the blurred image covariance; the determinant by Cauchy-Binet, scaled against overflow."""
    blur = SHARP_BLUR if antialiased else BLUR
    aa, b, cc = dot(p0, p0), dot(p0, p1), dot(p1, p1)
    c = cc + blur
    s = f32(1.0) / math.sqrt(c)
    area = cross(p0, (p1[0] * s, p1[1] * s, p1[2] * s))
    return aa + blur, b, c, dot(area, area) + blur * (aa / c + cc / c) + blur * blur / c


@kernel
def log_compensation(p0: tuple, p1: tuple, c: float, det_over_c: float) -> float:
    """log2 of the factor that keeps a Gaussian's integral over the image the same under the blur; -inf if it is flat.

    The determinant before the blur is the squared area |p0 x p1|^2, here divided by ``c`` against overflow.
    """
    s = f32(1.0) / math.sqrt(c)
    area = cross(p0, (p1[0] * s, p1[1] * s, p1[2] * s))
    return f32(0.5) * f32(math.log2(dot(area, area) / det_over_c))


@kernel
def _zero_if_finite(array: np.ndarray, group: int, n: int) -> float:
    """NaN when a value of the row is NaN or infinite: zero times it is not zero."""
    total = f32(0.0)
    for axis in range(array.shape[2]):
        total += array[group, n, axis] * f32(0.0)
    return total


@kernel
def _prepare(
    group: int, start: int, stop: int,
    means: np.ndarray, quats: np.ndarray, scales: np.ndarray, opacities: np.ndarray, colors: np.ndarray,
    shown: np.ndarray, roots: np.ndarray,
) -> tuple:  # fmt: skip
    """View-independent values: which Gaussians are opaque enough to be seen, and of these, in the same order, the rows
    of R S and log2 of the opacity, to ``shown`` [CHUNK] and ``roots`` [CHUNK, 10].

    Returns how many are shown, and how many of the Gaussians ``start .. stop - 1`` hold a non-finite value.
    """
    kept, broken = 0, 0
    for n in range(start, stop):
        check = _zero_if_finite(means, group, n) + _zero_if_finite(quats, group, n) + opacities[group, n] * f32(0.0)
        check += _zero_if_finite(scales, group, n) + _zero_if_finite(colors, group, n)
        broken += check != f32(0.0)
        if not opacities[group, n] * f32(255.0) >= f32(1.0):
            continue
        _, rows = rotation_of(quats, group, n)
        for k in range(9):
            roots[kept, k] = rows[k // 3][k % 3] * scales[group, n, k % 3]
        roots[kept, 9] = f32(math.log2(opacities[group, n]))
        shown[kept] = n
        kept += 1
    return kept, broken


@kernel
def _project_one(
    mean: tuple, root: tuple, log_opacity: float, view: tuple, size: tuple, planes: tuple, antialiased: bool,
    record: np.ndarray,
) -> bool:  # fmt: skip
    """Project one Gaussian to one image and fill ``record``; False when nothing of it can be seen there."""
    x, y, z = move(view, mean)
    if not (z >= planes[0] and z <= planes[1]):
        return False
    j = jacobian_of(x, y, z, view[4], size)
    _, _, _, p0, p1 = image_root_of(root, view, j)
    a, b, c, det_over_c = covariance_of(p0, p1, antialiased)
    if antialiased:
        log_opacity += log_compensation(p0, p1, c, det_over_c)
    reach = (log_opacity - LOG2_MIN_ALPHA) / HALF_LOG2E
    if not reach >= f32(0.0):
        return False
    hx, hy = math.sqrt(reach * a), math.sqrt(reach * c)
    fx, fy, cx, cy = view[4]
    mx, my = fx * x * j[0] + cx, fy * y * j[0] + cy
    if not (mx + hx > f32(0.0) and mx - hx < f32(size[1]) and my + hy > f32(0.0) and my - hy < f32(size[0])):
        return False
    if not (hx < _MAX_EXTENT and hy < _MAX_EXTENT):
        return False
    ia, ic, c_over_det = f32(1.0) / a, f32(1.0) / c, f32(1.0) / det_over_c
    record[MX], record[MY], record[DEPTH] = mx, my, z
    record[KX], record[KY] = b * ic, b * ia
    record[A2], record[C2] = HALF_LOG2E * c_over_det, HALF_LOG2E * ic
    record[CA], record[CB] = HALF_LOG2E * ia, HALF_LOG2E * c_over_det * (a * ic)
    record[LOP], record[HX], record[HY] = log_opacity, hx, hy
    return True


@kernel
def project(
    counter: np.ndarray, units: int, first: int, end: int, views: int, size: tuple, planes: tuple, antialiased: bool,
    means: np.ndarray, quats: np.ndarray, scales: np.ndarray, opacities: np.ndarray, colors: np.ndarray,
    w2c: np.ndarray, intrinsics: np.ndarray,
    records: np.ndarray, keys: np.ndarray, bands: np.ndarray, totals: np.ndarray, broken: np.ndarray,
) -> None:  # fmt: skip
    """Project all Gaussians to the images ``first .. end - 1``; a unit is one chunk of one group (time step).

    Writes, with i counting the images from ``first``: ``records`` [I, N, 16]; depth-sort ``keys`` [I, N] (bits of the
    depth, or CULLED); first and last touched band ``bands`` [I, N, 2]; per image and chunk, how many bands are touched
    in all (``totals``) and how many Gaussians hold a non-finite value (``broken``), both [I, chunks].
    """
    count = means.shape[1]
    chunks = totals.shape[1]
    bottom_row = f32(size[0] - 1)
    shown, roots = np.empty(CHUNK, np.int64), np.empty((CHUNK, 10), np.float32)
    while True:
        unit = next_unit(counter)
        if unit >= units:
            return
        group, chunk = first // views + unit // chunks, unit % chunks
        start, stop = chunk * CHUNK, min(count, (chunk + 1) * CHUNK)
        kept, bad = _prepare(group, start, stop, means, quats, scales, opacities, colors, shown, roots)
        for image in range(max(first, group * views), min(end, (group + 1) * views)):
            i, total, view = image - first, 0, view_of(w2c, intrinsics, image)
            keys[i, start:stop] = CULLED
            bands[i, start:stop, 0], bands[i, start:stop, 1] = 0, -1
            for k in range(kept):
                n = shown[k]
                record, r = records[i, n], roots[k]
                mean = (means[group, n, 0], means[group, n, 1], means[group, n, 2])
                root = ((r[0], r[1], r[2]), (r[3], r[4], r[5]), (r[6], r[7], r[8]))
                if not _project_one(mean, root, r[9], view, size, planes, antialiased, record):
                    continue
                record[RED], record[GREEN], record[BLUE] = colors[group, n, 0], colors[group, n, 1], colors[group, n, 2]
                top = int(max(f32(0.0), record[MY] - record[HY] - f32(0.5))) // BAND
                bottom = int(min(bottom_row, record[MY] + record[HY] - f32(0.5))) // BAND
                keys[i, n] = np.uint32(bits_of_float(record[DEPTH]))
                bands[i, n, 0], bands[i, n, 1] = top, bottom
                total += bottom - top + 1
            totals[i, chunk], broken[i, chunk] = total, bad
