"""CartPole-v1 (gymnax): balance for 500 steps."""

from muzero_jax.config import EnvironmentConfig, ExperimentConfig

CONFIG = ExperimentConfig(name="cartpole", environment=EnvironmentConfig(name="CartPole-v1"))

if __name__ == "__main__":
    from muzero_jax.cli import train_experiment

    train_experiment(CONFIG)
