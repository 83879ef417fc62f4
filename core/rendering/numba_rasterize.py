"""Rasterisation on the CPU, forward: bands of pixel rows, cut into tiles, front to back.

One thread draws one band. It takes the band's Gaussians in blocks, assigns each to the tiles that its ellipse touches,
and stops when every pixel of the band is opaque. Inside a tile a Gaussian visits only the rows that its ellipse crosses
there, and a row of 16 pixels is one branch-free loop that the compiler turns into vector instructions.

A pixel's transmittance turns negative when the pixel is finished; its magnitude is the final transmittance.
"""

from __future__ import annotations

import math

import numpy as np

from core.cpu.jit import exp2, f32, kernel, next_unit, u64
from core.rendering.numba_project import (
    A2,
    BAND,
    BLUE,
    C2,
    CA,
    CB,
    DEPTH,
    GREEN,
    HX,
    HY,
    KX,
    KY,
    LOG2_MIN_ALPHA,
    LOP,
    MX,
    MY,
    RECORD,
    RED,
)

TILE = 16  # pixels in a tile row: one AVX-512 vector
BLOCK = 512  # Gaussians passed to the tiles at a time
MAX_ALPHA = f32(0.999)
MIN_TRANSMITTANCE = f32(1e-4)
_MARGIN = f32(0.02)  # pixels; bounds only need to be safe, the test of each pixel is exact
_ALIVE_EVERY = 16  # Gaussians between two checks whether a tile is finished

# Channels of a tile row while it is drawn; a pixel row of a tile is CHANNELS * TILE floats.
_CHANNELS = 6
_LANES = u64(TILE)
_R, _G, _B, _Z, _LAST = u64(TILE), u64(2 * TILE), u64(3 * TILE), u64(4 * TILE), u64(5 * TILE)
_ROW = u64(_CHANNELS * TILE)


@kernel
def first_above(bound: float) -> int:
    """The first pixel whose index is above ``bound``, or 0."""
    return np.int32(min(max(bound, f32(-1.0)), f32(1e9)) + f32(1.0))


@kernel
def tiles_of(records: np.ndarray, k: int, top: int, rows: int, width: int) -> tuple:
    """First tile and end tile that the ellipse touches inside the band of ``rows`` pixel rows from ``top``."""
    reach = records[k, LOP] - LOG2_MIN_ALPHA
    kx, a2, c2, hy, edge = (
        records[k, KX],
        records[k, A2],
        records[k, C2],
        records[k, HY],
        records[k, KY] * records[k, HX],
    )
    low = max(f32(top) + f32(0.5) - records[k, MY], -hy)
    high = min(f32(top + rows) - f32(0.5) - records[k, MY], hy)
    at_right, at_left = min(max(edge, low), high), min(max(-edge, low), high)
    right = kx * at_right + math.sqrt(max(f32(0.0), (reach - c2 * at_right * at_right) / a2))
    left = kx * at_left - math.sqrt(max(f32(0.0), (reach - c2 * at_left * at_left) / a2))
    offset = records[k, MX] - f32(0.5)
    first = first_above(offset + left - _MARGIN)
    end = min(first_above(offset + right + _MARGIN), np.int32(width))
    return first // TILE, (end + TILE - 1) // TILE if first < end else 0


@kernel
def rows_of(records: np.ndarray, k: int, left: int, top: int, rows: int) -> tuple:
    """First row and end row, counted from ``top``, in which the ellipse touches the tile that begins at ``left``."""
    reach = records[k, LOP] - LOG2_MIN_ALPHA
    ca, cb, kx, ky, hx, hy = (
        records[k, CA],
        records[k, CB],
        records[k, KX],
        records[k, KY],
        records[k, HX],
        records[k, HY],
    )
    low = max(f32(left) + f32(0.5) - records[k, MX], -hx)
    high = min(f32(left + TILE) - f32(0.5) - records[k, MX], hx)
    at_bottom = min(max(kx * hy, low), high)
    at_top = min(max(-kx * hy, low), high)
    bottom = ky * at_bottom + math.sqrt(max(f32(0.0), (reach - ca * at_bottom * at_bottom) / cb))
    upper = ky * at_top - math.sqrt(max(f32(0.0), (reach - ca * at_top * at_top) / cb))
    offset = records[k, MY] - f32(0.5) - f32(top)
    return first_above(offset + upper - _MARGIN), min(first_above(offset + bottom + _MARGIN), np.int32(rows))


@kernel
def hand_out(
    records: np.ndarray, entries: np.ndarray, start: int, stop: int, top: int, rows: int, width: int,
    alive: np.ndarray, block: np.ndarray, lists: np.ndarray, counts: np.ndarray,
) -> None:  # fmt: skip
    """Copy the records of ``entries[start:stop]`` to ``block`` and list for each live tile which of them touch it."""
    counts[:] = 0
    for p in range(stop - start):  # a loop of its own: the cache misses of many Gaussians overlap
        n = entries[start + p]
        for field in range(RECORD):
            block[p, field] = records[n, field]
    for p in range(stop - start):
        first, end = tiles_of(block, p, top, rows, width)
        for tile in range(first, end):
            if alive[tile]:
                lists[tile, counts[tile]] = p
                counts[tile] += 1


@kernel
def _draw(
    state: np.ndarray, base: int, block: np.ndarray, k: int, left: int, top: int, first: int, end: int, position: float
) -> None:
    """Add Gaussian ``block[k]`` to the rows ``first .. end - 1`` of a tile."""
    mx, my, kx = block[k, MX], block[k, MY], block[k, KX]
    a2, c2, log_opacity = block[k, A2], block[k, C2], block[k, LOP]
    red, green, blue, depth = block[k, RED], block[k, GREEN], block[k, BLUE], block[k, DEPTH]
    for y in range(first, end):
        dy = f32(top + y) + f32(0.5) - my
        row_exponent = log_opacity - c2 * dy * dy
        center = mx + kx * dy - f32(left) - f32(0.5)
        o = base + u64(y) * _ROW
        for x in range(_LANES):
            u = f32(np.int32(x)) - center
            exponent = row_exponent - a2 * u * u
            alpha = min(exp2(exponent), MAX_ALPHA)
            alpha = alpha if exponent >= LOG2_MIN_ALPHA else f32(0.0)
            before = state[o + x]
            after = before * (f32(1.0) - alpha)
            drawn = after > MIN_TRANSMITTANCE
            weight = before * alpha if drawn else f32(0.0)
            state[o + x] = after if drawn else -abs(before)
            state[o + x + _R] += weight * red
            state[o + x + _G] += weight * green
            state[o + x + _B] += weight * blue
            state[o + x + _Z] += weight * depth
            state[o + x + _LAST] = position if weight > f32(0.0) else state[o + x + _LAST]


@kernel
def _has_live_pixels(state: np.ndarray, base: int) -> bool:
    for y in range(BAND):
        o = base + u64(y) * _ROW
        most = f32(-1.0)
        for x in range(_LANES):
            most = max(most, state[o + x])
        if most > f32(0.0):
            return True
    return False


@kernel
def _clear(state: np.ndarray, tiles: int, rows: int, width: int) -> None:
    """Empty pixels; those beyond the image's edge are finished from the start."""
    state[:] = 0
    for tile in range(tiles):
        for y in range(BAND):
            o = u64(tile * BAND + y) * _ROW
            for x in range(TILE):
                state[o + u64(x)] = f32(1.0) if y < rows and tile * TILE + x < width else f32(-1.0)
                state[o + u64(x) + _LAST] = f32(-1.0)


@kernel
def _write(
    state: np.ndarray, top: int, rows: int, background: np.ndarray,
    image: np.ndarray, alpha: np.ndarray, depth: np.ndarray, transmittance: np.ndarray, last: np.ndarray,
) -> None:  # fmt: skip
    """Composite a finished band over the background. ``transmittance`` and ``last`` of size 0 are not kept."""
    width = image.shape[2]
    for y in range(rows):
        for x in range(width):
            o = u64((x // TILE) * BAND + y) * _ROW + u64(x % TILE)
            left_over = abs(state[o])
            image[0, top + y, x] = state[o + _R] + left_over * background[0]
            image[1, top + y, x] = state[o + _G] + left_over * background[1]
            image[2, top + y, x] = state[o + _B] + left_over * background[2]
            alpha[0, top + y, x] = f32(1.0) - left_over
            depth[0, top + y, x] = state[o + _Z]
            if last.size:
                transmittance[top + y, x] = left_over
                last[top + y, x] = np.int32(state[o + _LAST])


@kernel
def rasterize(
    counter: np.ndarray, units: int, first: int, background: np.ndarray,
    records: np.ndarray, starts: np.ndarray, entries: np.ndarray,
    images: np.ndarray, alphas: np.ndarray, depths: np.ndarray, transmittances: np.ndarray, lasts: np.ndarray,
) -> None:  # fmt: skip
    """Draw the images ``first``, ``first + 1``, ...; a unit is one band of one image.

    Args:
        background: [I_all, 3].
        records, starts, entries: of this wave of images, from `project` and `list_bands`.
        images, alphas, depths: [I_all, 3 or 1, H, W] written.
        transmittances, lasts: [I_all, H, W] written: final transmittance, and the position in the band's list of the
            last Gaussian drawn (-1: none). [I_all, 0, 0] when no backward pass will follow.
    """
    height, width = images.shape[2], images.shape[3]
    bands = starts.shape[1] - 1
    tiles = (width + TILE - 1) // TILE
    state = np.empty(tiles * BAND * _CHANNELS * TILE, np.float32)
    block, lists = np.empty((BLOCK, RECORD), np.float32), np.empty((tiles, BLOCK), np.int32)
    counts, alive = np.empty(tiles, np.int64), np.empty(tiles, np.bool_)
    while True:
        unit = next_unit(counter)
        if unit >= units:
            return
        i, band = unit // bands, unit % bands
        top = band * BAND
        rows = min(BAND, height - top)
        _clear(state, tiles, rows, width)
        alive[:] = True
        begin, end = starts[i, band], starts[i, band + 1]
        for start in range(begin, end, BLOCK):
            hand_out(records[i], entries, start, min(start + BLOCK, end), top, rows, width, alive, block, lists, counts)
            for tile in range(tiles):
                base = u64(tile * BAND) * _ROW
                for p in range(counts[tile]):
                    k = lists[tile, p]
                    y0, y1 = rows_of(block, k, tile * TILE, top, rows)
                    _draw(state, base, block, k, tile * TILE, top, y0, y1, f32(start - begin + k))
                    if p % _ALIVE_EVERY == _ALIVE_EVERY - 1 and not _has_live_pixels(state, base):
                        alive[tile] = False
                        break
            if not alive.any():
                break
        _write(
            state, top, rows, background[first + i], images[first + i], alphas[first + i], depths[first + i],
            transmittances[first + i], lasts[first + i],
        )  # fmt: skip
