"""Asterix of MinAtar as gymnax has it, one million steps."""

from muzero_jax.presets import minatar

CONFIG = minatar("Asterix")

if __name__ == "__main__":
    from muzero_jax.cli import train_experiment

    train_experiment(CONFIG)
