"""Catch 10x5, built in: the smallest game with a delayed reward."""

from muzero_jax.config import (
    EnvironmentConfig,
    EvaluationConfig,
    ExperimentConfig,
    LossConfig,
    NetworkConfig,
    ReplayConfig,
    SearchConfig,
    TargetConfig,
    TrainingConfig,
)

CONFIG = ExperimentConfig(
    name="catch",
    environment=EnvironmentConfig(name="catch"),
    network=NetworkConfig(kind="mlp", stem_channels=0, support_size=6, support_spacing=0.1),
    search=SearchConfig(num_simulations=8),
    replay=ReplayConfig(capacity=20_000, min_size=300, batch_size=64, ratio=64.0),
    target=TargetConfig(discount=0.99, td_steps=3, target_update_rate=0.03),
    loss=LossConfig(value_weight=1.0),
    training=TrainingConfig(num_env_steps=4_352, iterations_per_chunk=1),
    evaluation=EvaluationConfig(interval=1_000, num_episodes=100, num_envs=100),
)

if __name__ == "__main__":
    from muzero_jax.cli import train_experiment

    train_experiment(CONFIG)
