"""CPU kernels in numba: compilation, disk cache, threads."""
