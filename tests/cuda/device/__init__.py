"""A device that is not there: memory, arrays and kernels with CuPy's call shape. Emulated, never a GPU."""
