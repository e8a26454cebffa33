"""Checkpoints: arrays of a run on disk, which are either whole or absent."""
