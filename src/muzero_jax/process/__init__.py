"""The process that a run lives in: JAX, its devices, signals, the compilation cache, the disk."""
