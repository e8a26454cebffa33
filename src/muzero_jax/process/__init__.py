"""The process that a run lives in: JAX and its devices, signals, and the compilation cache."""
