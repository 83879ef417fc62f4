"""CPU kernels in numba, and how they are compiled, cached on disk and run on several threads."""
