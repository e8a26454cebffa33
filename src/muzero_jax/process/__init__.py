"""The process that a run lives in: JAX, its devices, signals, and the compilation cache."""
