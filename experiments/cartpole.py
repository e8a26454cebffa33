"""CartPole-v1 (gymnax): balance for 500 steps; the main job, `make train`."""

from muzero_jax.presets import vector_task

CONFIG = vector_task("cartpole", "gymnax:CartPole-v1", 40_000)

if __name__ == "__main__":
    from muzero_jax.cli import train_experiment

    train_experiment(CONFIG)
