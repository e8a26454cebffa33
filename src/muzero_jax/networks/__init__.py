"""Flax modules behind `MuZeroModel`; nobody outside this room sees a module."""
