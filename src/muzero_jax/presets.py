"""Settings that families of experiments share; the experiment scripts name one and adjust it."""

import re

from muzero_jax import config
from muzero_jax.config import ExperimentConfig


def classic_control(name: str, environment: str) -> ExperimentConfig:
    """Small vector tasks, by the registry name of the environment: a small MLP, many updates."""
    return ExperimentConfig(
        name=name,
        environment=config.EnvironmentConfig(name=environment),
        search=config.SearchConfig(num_simulations=16, min_qvalue_range=0.25, epsilon=0.05),
        replay=config.ReplayConfig(min_size=1_000, ratio=16.0),
        target=config.TargetConfig(target_update_rate=0.05),
        loss=config.LossConfig(value_weight=1.0, entropy_weight=0.1),
        training=config.TrainingConfig(num_env_steps=40_000),
    )


def minatar(game: str) -> ExperimentConfig:
    """MinAtar (Young and Tian 2019, arXiv 1903.03176) as gymnax has it, such as `Breakout`.

    gymnax uses each game's minimal action set, no sticky actions, and a limit of 1000 steps (2500
    in Freeway). The flattened grid goes straight into a small MLP: on a CPU that buys three to
    four times the updates of a convolution, and here updates are what counts (CHANGELOG.md).
    """
    return ExperimentConfig(
        name="minatar" + re.sub("([A-Z])", r"_\1", game).lower(),
        environment=config.EnvironmentConfig(name=f"gymnax:{game}-MinAtar"),
        network=config.NetworkConfig(
            kind="mlp", stem_channels=0, support_size=60, support_spacing=0.1
        ),
        search=config.SearchConfig(num_simulations=16, min_qvalue_range=0.01),
        replay=config.ReplayConfig(capacity=100_000, min_size=5_000, ratio=12.0),
        target=config.TargetConfig(discount=0.99, td_steps=5, target_update_rate=0.02),
        loss=config.LossConfig(value_weight=0.5, entropy_weight=0.01),
        optimizer=config.OptimizerConfig(learning_rate=5e-4, final_fraction=0.15),
        training=config.TrainingConfig(num_env_steps=720_000, num_envs=64),
        evaluation=config.EvaluationConfig(interval=50_000),
        logging=config.LoggingConfig(checkpoint_interval=100_000),
    )
