"""Catch 10x5: the smallest game with a delayed reward, built in."""

from muzero_jax.config import EnvironmentConfig, ExperimentConfig

CONFIG = ExperimentConfig(name="catch", environment=EnvironmentConfig(name="catch"))

if __name__ == "__main__":
    from muzero_jax.cli import train_experiment

    train_experiment(CONFIG)
