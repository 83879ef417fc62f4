"""How the C library keeps the memory of tensors."""

from __future__ import annotations

import ctypes
import sys

# mallopt's names for three of glibc's parameters, from malloc.h.
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8
_LARGEST_KEPT = 1 << 30  # bytes


def keep_freed_memory() -> None:
    """Have glibc keep freed blocks of up to a gigabyte for the next tensor instead of handing them back.

    Above 32 MB it would fetch every tensor from the kernel anew, page by zeroed page: that takes four times as long as
    filling it. All threads share one arena, for those of threads hold no large block. Other C libraries have no
    ``mallopt`` and stay as they are.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(_MMAP_THRESHOLD, _LARGEST_KEPT)
        mallopt(_TRIM_THRESHOLD, -1)
        mallopt(_ARENA_MAX, 1)
