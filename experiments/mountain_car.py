"""MountainCar-v0 (gymnax): swing up a hill; -1 a step until the goal, 200 at most."""

from muzero_jax.presets import vector_task

CONFIG = vector_task("mountain_car", "gymnax:MountainCar-v0")

if __name__ == "__main__":
    from muzero_jax.cli import train_experiment

    train_experiment(CONFIG)
