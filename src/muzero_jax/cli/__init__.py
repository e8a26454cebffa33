"""The `muzero` command; nothing here imports JAX at its top."""

from muzero_jax.cli.command import main, train_experiment

__all__ = ["main", "train_experiment"]
