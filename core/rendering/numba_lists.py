"""Depth order and band lists on the CPU: which Gaussians touch which band of pixel rows, nearest first."""

from __future__ import annotations

import numpy as np

from core.cpu.jit import kernel, next_unit, u64
from core.rendering.numba_project import CULLED

_DIGIT = 11
_BINS = 1 << _DIGIT


@kernel
def _sort_by_depth(keys: np.ndarray, pairs: np.ndarray, spare: np.ndarray, bins: np.ndarray) -> tuple:
    """Stable radix sort of the visible Gaussians; returns the (key, index) pairs in order and how many there are."""
    lowest, highest, count = CULLED, np.uint32(0), 0
    for n in range(keys.shape[0]):
        if keys[n] != CULLED:
            lowest, highest = min(lowest, keys[n]), max(highest, keys[n])
    for n in range(keys.shape[0]):
        if keys[n] != CULLED:
            pairs[count] = (u64(keys[n] - lowest) << u64(32)) | u64(n)
            count += 1
    span = u64(highest - lowest) if count else u64(0)
    shift = u64(32)
    while span > u64(0):  # only the digits in which the keys differ
        bins[:] = 0
        for p in range(count):
            bins[(pairs[p] >> shift) & u64(_BINS - 1)] += 1
        start = 0
        for digit in range(_BINS):
            start, bins[digit] = start + bins[digit], start
        for p in range(count):
            digit = (pairs[p] >> shift) & u64(_BINS - 1)
            spare[bins[digit]] = pairs[p]
            bins[digit] += 1
        pairs, spare = spare, pairs
        span >>= u64(_DIGIT)
        shift += u64(_DIGIT)
    return pairs, count


@kernel
def list_bands(
    counter: np.ndarray, units: int, keys: np.ndarray, bands: np.ndarray, starts: np.ndarray,
    entries: np.ndarray, slots: np.ndarray,
) -> None:  # fmt: skip
    """Fill the band lists of image after image.

    Args:
        keys, bands: from `project`, [I, N] and [I, N, 2].
        starts: [I, B + 1]; the first column says where the image's part of ``entries`` begins, the rest is written.
        entries: written; Gaussian indices, band after band, in depth order (ties by index).
        slots: [I, N] written; where a Gaussian's row for its first band stands in a table ordered by Gaussian.
    """
    count = keys.shape[1]
    last = starts.shape[1] - 1
    pairs, spare = np.empty(count, np.uint64), np.empty(count, np.uint64)
    bins, cursors = np.empty(_BINS, np.int64), np.empty(last, np.int64)
    while True:
        i = next_unit(counter)
        if i >= units:
            return
        order, visible = _sort_by_depth(keys[i], pairs, spare, bins)
        cursors[:] = 0
        slot = starts[i, 0]
        for n in range(count):
            slots[i, n] = slot
            slot += bands[i, n, 1] - bands[i, n, 0] + 1
            for band in range(bands[i, n, 0], bands[i, n, 1] + 1):
                cursors[band] += 1
        for band in range(last):
            starts[i, band + 1] = starts[i, band] + cursors[band]
            cursors[band] = starts[i, band]
        for p in range(visible):
            n = np.int64(order[p] & u64(0xFFFFFFFF))
            for band in range(bands[i, n, 0], bands[i, n, 1] + 1):
                entries[cursors[band]] = n
                cursors[band] += 1
