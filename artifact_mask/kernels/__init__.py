"""Pure image kernels: NumPy arrays in, NumPy arrays out; no files, no logging, no globals."""
