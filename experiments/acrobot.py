"""Acrobot-v1 (gymnax): swing up a two-link arm; -1 a step until its tip is high, 500 at most."""

from muzero_jax.presets import vector_task

CONFIG = vector_task("acrobot", "gymnax:Acrobot-v1")

if __name__ == "__main__":
    from muzero_jax.cli import train_experiment

    train_experiment(CONFIG)
