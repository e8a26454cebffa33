"""CartPole-v1 (gymnax): balance for 500 steps; the main job, `make train`."""

from muzero_jax.presets import classic_control

CONFIG = classic_control("cartpole", "gymnax:CartPole-v1")

if __name__ == "__main__":
    from muzero_jax.cli import train_experiment

    train_experiment(CONFIG)
