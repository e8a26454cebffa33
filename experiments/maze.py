"""The maze with networks: 36 states, and one goal."""

from muzero_jax.presets import vector_task

CONFIG = vector_task("maze", "maze")

if __name__ == "__main__":
    from muzero_jax.cli import train_experiment

    train_experiment(CONFIG)
