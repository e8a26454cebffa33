"""Pong (gymnax): return the ball for 1,000 steps; 1 for each step of play."""

from muzero_jax.presets import vector_task

CONFIG = vector_task("pong", "gymnax:Pong-misc")

if __name__ == "__main__":
    from muzero_jax.cli import train_experiment

    train_experiment(CONFIG)
