"""Rasterisation on the CPU, backward: the same bands, back to front.

For a Gaussian with alpha_i, transmittance T_i in front of it and inner product s_i of its colour and depth with the
pixel's gradient, d loss / d alpha_i = T_i s_i - (sum over those behind of w_j s_j, plus background) / (1 - alpha_i).
Gradients are summed over a band by one thread and stored in a table with a row for each Gaussian and band, so that they
do not depend on the assignment of threads.
"""

from __future__ import annotations

import numpy as np

from core.cpu.jit import exp2, f32, kernel, next_unit, u64
from core.rendering.numba_project import (
    A2,
    BAND,
    BLUE,
    C2,
    DEPTH,
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
    GREEN,
    HALF_LOG2E,
    KX,
    LOG2_MIN_ALPHA,
    LOP,
    MX,
    MY,
    PARTIALS,
    RECORD,
    RED,
)
from core.rendering.numba_rasterize import BLOCK, MAX_ALPHA, TILE, hand_out, rows_of

# Channels of a tile row: transmittance, what lies behind, four output gradients, position of the last Gaussian drawn.
_CHANNELS = 7
_LANES = u64(TILE)
_BEHIND, _GR, _GG, _GB, _GZ, _LAST = (u64(k * TILE) for k in range(1, 7))
_ROW = u64(_CHANNELS * TILE)
# Running sums over the rows of a tile, one lane for each pixel column.
_SUMS = 10
_Q, _QY, _QYY, _QU, _QUU, _QUY, _WR, _WG, _WB, _WZ = (u64(k * TILE) for k in range(_SUMS))


@kernel
def _undraw(
    state: np.ndarray, base: int, sums: np.ndarray, block: np.ndarray, k: int,
    left: int, top: int, first: int, end: int, position: float,
) -> None:  # fmt: skip
    """Take Gaussian ``block[k]`` off the rows ``first .. end - 1`` of a tile and add up its gradients in the sums."""
    mx, my, kx = block[k, MX], block[k, MY], block[k, KX]
    a2, c2, log_opacity = block[k, A2], block[k, C2], block[k, LOP]
    red, green, blue, depth = block[k, RED], block[k, GREEN], block[k, BLUE], block[k, DEPTH]
    sums[:] = 0
    for y in range(first, end):
        dy = f32(top + y) + f32(0.5) - my
        row_exponent = log_opacity - c2 * dy * dy
        center = mx + kx * dy - f32(left) - f32(0.5)
        o = base + u64(y) * _ROW
        for x in range(_LANES):
            u = f32(np.int32(x)) - center
            exponent = row_exponent - a2 * u * u
            full = exp2(exponent)
            reached = position <= state[o + x + _LAST]  # "&" and no "and" below: a branch would not vectorise
            full = full if (exponent >= LOG2_MIN_ALPHA) & reached else f32(0.0)
            alpha = min(full, MAX_ALPHA)
            rest = f32(1.0) / (f32(1.0) - alpha)
            before = state[o + x] * rest
            weight = alpha * before
            gr, gg, gb, gz = state[o + x + _GR], state[o + x + _GG], state[o + x + _GB], state[o + x + _GZ]
            shade = red * gr + green * gg + blue * gb + depth * gz
            behind = state[o + x + _BEHIND]
            q = alpha * (before * shade - behind * rest)
            q = q if full <= MAX_ALPHA else f32(0.0)
            state[o + x] = before
            state[o + x + _BEHIND] = behind + weight * shade
            sums[x + _WR] += weight * gr
            sums[x + _WG] += weight * gg
            sums[x + _WB] += weight * gb
            sums[x + _WZ] += weight * gz
            sums[x + _Q] += q
            sums[x + _QY] += q * dy
            sums[x + _QYY] += q * dy * dy
            sums[x + _QU] += q * u
            sums[x + _QUU] += q * u * u
            sums[x + _QUY] += q * u * dy


@kernel
def _sum(sums: np.ndarray, offset: int) -> float:
    """Sum of the lanes in a fixed order."""
    total = f32(0.0)
    for x in range(u64(4)):
        o = offset + x
        total += (sums[o] + sums[o + u64(4)]) + (sums[o + u64(8)] + sums[o + u64(12)])
    return total


@kernel
def _collect(sums: np.ndarray, block: np.ndarray, k: int, grads: np.ndarray) -> None:
    """Turn the sums into gradients of the projected Gaussian ``block[k]`` and add them to ``grads[k]``."""
    kx = block[k, KX]
    a, ic = block[k, A2] / HALF_LOG2E, block[k, C2] / HALF_LOG2E
    along = a * _sum(sums, _QU)
    grads[k, G_MX] += along
    grads[k, G_MY] += ic * _sum(sums, _QY) - kx * along
    grads[k, G_KX] += a * _sum(sums, _QUY)
    grads[k, G_A] -= f32(0.5) * _sum(sums, _QUU)
    grads[k, G_IC] -= f32(0.5) * _sum(sums, _QYY)
    grads[k, G_LOP] += _sum(sums, _Q)
    grads[k, G_DEPTH] += _sum(sums, _WZ)
    grads[k, G_RED] += _sum(sums, _WR)
    grads[k, G_GREEN] += _sum(sums, _WG)
    grads[k, G_BLUE] += _sum(sums, _WB)


@kernel
def _load(
    state: np.ndarray, tiles: int, top: int, rows: int, background: np.ndarray, transmittance: np.ndarray,
    last: np.ndarray, g_image: np.ndarray, g_alpha: np.ndarray, g_depth: np.ndarray, tile_last: np.ndarray,
) -> None:  # fmt: skip
    """Set a band's pixels to their final state; ``tile_last`` becomes the last position drawn in each tile."""
    width = last.shape[1]
    state[:] = 0
    tile_last[:] = -1
    for tile in range(tiles):
        for y in range(BAND):
            for x in range(TILE):
                o = u64(tile * BAND + y) * _ROW + u64(x)
                column = tile * TILE + x
                state[o] = f32(1.0)
                state[o + _LAST] = f32(-1.0)
                if y < rows and column < width:
                    gr, gg, gb = g_image[0, top + y, column], g_image[1, top + y, column], g_image[2, top + y, column]
                    left_over = transmittance[top + y, column]
                    through = gr * background[0] + gg * background[1] + gb * background[2] - g_alpha[0, top + y, column]
                    state[o] = left_over
                    state[o + _BEHIND] = left_over * through
                    state[o + _GR], state[o + _GG], state[o + _GB] = gr, gg, gb
                    state[o + _GZ] = g_depth[0, top + y, column]
                    state[o + _LAST] = f32(last[top + y, column])
                    tile_last[tile] = max(tile_last[tile], last[top + y, column])


@kernel
def rasterize_backward(
    counter: np.ndarray, units: int, first: int, background: np.ndarray,
    records: np.ndarray, bands: np.ndarray, starts: np.ndarray, entries: np.ndarray, slots: np.ndarray,
    transmittances: np.ndarray, lasts: np.ndarray,
    g_images: np.ndarray, g_alphas: np.ndarray, g_depths: np.ndarray, table: np.ndarray,
) -> None:  # fmt: skip
    """Gradients of all projected Gaussians of a wave of images; a unit is one band of one image.

    Arguments as in `rasterize`, ``slots`` from `list_bands`, gradients of the outputs ``g_*``. ``table``
    [rows, PARTIALS] must come zeroed; row ``slots[i, n] + band - bands[i, n, 0]`` is written.
    """
    height, width = lasts.shape[1], lasts.shape[2]
    count = starts.shape[1] - 1
    tiles = (width + TILE - 1) // TILE
    state, sums = np.empty(tiles * BAND * _CHANNELS * TILE, np.float32), np.empty(_SUMS * TILE, np.float32)
    block, lists = np.empty((BLOCK, RECORD), np.float32), np.empty((tiles, BLOCK), np.int32)
    grads = np.empty((BLOCK, PARTIALS), np.float32)
    counts, alive, tile_last = np.empty(tiles, np.int64), np.empty(tiles, np.bool_), np.empty(tiles, np.int64)
    while True:
        unit = next_unit(counter)
        if unit >= units:
            return
        i, band = unit // count, unit % count
        top = band * BAND
        rows = min(BAND, height - top)
        image = first + i
        _load(
            state, tiles, top, rows, background[image], transmittances[image], lasts[image],
            g_images[image], g_alphas[image], g_depths[image], tile_last,
        )  # fmt: skip
        begin = starts[i, band]
        blocks = (tile_last.max() + BLOCK) // BLOCK
        for backwards in range(blocks):
            start = (blocks - 1 - backwards) * BLOCK
            for tile in range(tiles):
                alive[tile] = tile_last[tile] >= start
            stop = min(start + BLOCK, starts[i, band + 1] - begin)
            grads[:] = 0
            hand_out(records[i], entries, begin + start, begin + stop, top, rows, width, alive, block, lists, counts)
            for tile in range(tiles):
                base = u64(tile * BAND) * _ROW
                for p in range(counts[tile] - 1, -1, -1):
                    k = lists[tile, p]
                    if start + k > tile_last[tile]:
                        continue
                    y0, y1 = rows_of(block, k, tile * TILE, top, rows)
                    if y0 < y1:
                        _undraw(state, base, sums, block, k, tile * TILE, top, y0, y1, f32(start + k))
                        _collect(sums, block, k, grads)
            for p in range(stop - start):
                n = entries[begin + start + p]
                row = slots[i, n] + band - bands[i, n, 0]
                for field in range(PARTIALS):
                    table[row, field] = grads[p, field]
