"""How the CPU kernels are compiled, cached on disk and run on several threads.

The kernels release the GIL and run on plain Python threads, not on one of numba's threading layers: those are either
unsafe to call from two threads (workqueue) or end a forked process that calls them (OpenMP). Plain threads work in
data-loader workers and beside torch's own pool, and their number follows ``torch.get_num_threads()``.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

import numba
import numpy as np
import torch
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

f32 = np.float32
u64 = np.uint64

# No "nnan" or "ninf": non-finite input must be seen. No "reassoc": sums keep their order, where not said otherwise.
_FASTMATH = frozenset({"contract", "nsz", "arcp"})


@cache
def _source_hash() -> str:
    """Hash of the source of every file of core with kernels: those that name this module."""
    sources = (path.read_bytes() for path in sorted(Path(__file__).parents[1].rglob("*.py")))
    return hashlib.sha256(b"".join(text for text in sources if b"core.cpu.jit" in text)).hexdigest()[:12]


def _cache_folder() -> str:
    """A cache folder named after the source of all kernels.

    numba looks only at the file of the compiled function itself, so a change in an inlined helper of another file
    would go unnoticed and a stale kernel would run.
    """
    base = numba.config.CACHE_DIR or Path(__file__).parent / "__pycache__"
    return str(Path(base) / f"kernels-{_source_hash()}")


def kernel(function: Callable, flags: frozenset[str] = _FASTMATH) -> Callable:
    """Compile ``function`` without the GIL and keep the machine code on disk."""
    previous, numba.config.CACHE_DIR = numba.config.CACHE_DIR, _cache_folder()
    try:
        return numba.njit(cache=True, nogil=True, fastmath=set(flags), error_model="numpy")(function)
    finally:
        numba.config.CACHE_DIR = previous


def summing_kernel(function: Callable) -> Callable:
    """A `kernel` whose sums the compiler may split over the lanes of a vector, on one machine always alike."""
    return kernel(function, _FASTMATH | {"reassoc"})


@intrinsic
def _fetch_add(typingctx, array, amount):  # noqa: ANN001, ANN202 - the signature numba prescribes
    """Atomically add to the first element of an int64 array and return its old value."""

    def codegen(context, builder, signature, args):  # noqa: ANN001, ANN202
        data = context.make_array(signature.args[0])(context, builder, args[0]).data
        return builder.atomic_rmw("add", data, args[1], "seq_cst")

    return types.int64(array, types.int64), codegen


@intrinsic
def float_from_bits(typingctx, bits):  # noqa: ANN001, ANN201
    """Read the bits of an int32 as a float32."""
    return types.float32(types.int32), lambda context, builder, signature, args: builder.bitcast(
        args[0], ir.FloatType()
    )


@intrinsic
def bits_of_float(typingctx, value):  # noqa: ANN001, ANN201
    """Read the bits of a float32 as an int32."""
    return types.int32(types.float32), lambda context, builder, signature, args: builder.bitcast(
        args[0], ir.IntType(32)
    )


@kernel
def next_unit(counter: np.ndarray) -> int:
    """The next piece of work that no thread has taken yet."""
    return _fetch_add(counter, 1)


@kernel
def exp2(exponent: float) -> float:
    """2 ** exponent for exponents from -8 up, relative error below 2.5e-7; smaller exponents count as -8.

    A polynomial (minimax on [-0.5, 0.5]) and the exponent's bits: unlike a library call it vectorises.
    """
    exponent = max(exponent, f32(-8.0))
    whole = np.int32(exponent + f32(8.5))
    x = exponent - (f32(whole) - f32(8.0))
    p = f32(0.05550713276) + x * (f32(0.00967554154) + x * f32(0.00132764717))
    p = f32(1.0) + x * (f32(0.69314696706) + x * (f32(0.2402211972) + x * p))
    return float_from_bits(bits_of_float(p) + ((whole - np.int32(8)) << np.int32(23)))


@kernel
def exp2_of_any(exponent: float) -> float:
    """2 ** exponent as in `exp2`; exponents beyond +-126 count as these."""
    exponent = min(max(exponent, f32(-126.0)), f32(126.0))
    whole = np.int32(exponent + f32(127.5))
    x = exponent - (f32(whole) - f32(127.0))
    p = f32(0.05550713276) + x * (f32(0.00967554154) + x * f32(0.00132764717))
    p = f32(1.0) + x * (f32(0.69314696706) + x * (f32(0.2402211972) + x * p))
    return float_from_bits(bits_of_float(p) + ((whole - np.int32(127)) << np.int32(23)))


_pool: ThreadPoolExecutor | None = None


def _forget_pool() -> None:
    global _pool
    _pool = None


os.register_at_fork(after_in_child=_forget_pool)


def run_parallel(function: Callable, units: int, *args: object) -> None:
    """Run ``function(counter, units, *args)`` on all threads; each takes units until none is left."""
    global _pool
    threads = min(torch.get_num_threads(), units)
    counter = np.zeros(1, np.int64)
    if threads > 1 and _pool is None:
        _pool = ThreadPoolExecutor(max_workers=os.cpu_count() or 1, thread_name_prefix="kernels")
    others = [_pool.submit(function, counter, units, *args) for _ in range(threads - 1)]
    try:
        function(counter, units, *args)
    finally:
        for other in others:
            if not other.cancel():  # one that never began has nothing left to do
                other.result()
