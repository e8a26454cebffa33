"""Settings that families of experiments share; the experiment scripts name one and adjust it."""

from muzero_jax.config import (
    EnvironmentConfig,
    EvaluationConfig,
    ExperimentConfig,
    LossConfig,
    NetworkConfig,
    OptimizerConfig,
    ReplayConfig,
    SearchConfig,
    TargetConfig,
    TrainingConfig,
)


def classic_control(name: str, environment: str) -> ExperimentConfig:
    """Small vector tasks: a small MLP, and many updates a step.

    Args:
      name: of the experiment.
      environment: registry name.
    """
    return ExperimentConfig(
        name=name,
        environment=EnvironmentConfig(name=environment),
        search=SearchConfig(num_simulations=16),
        replay=ReplayConfig(min_size=1_000, ratio=16.0),
        loss=LossConfig(value_weight=1.0),
        training=TrainingConfig(num_env_steps=50_000),
    )


def minatar(game: str) -> ExperimentConfig:
    """MinAtar (Young and Tian 2019, arXiv 1903.03176) as gymnax has it, a million steps.

    gymnax uses each game's minimal action set, no sticky actions, and a limit of 1000 steps (2500
    in Freeway).

    Args:
      game: `Asterix`, `Breakout`, `Freeway`, `Seaquest` or `SpaceInvaders`.
    """
    return ExperimentConfig(
        name=f"minatar_{game.lower()}",
        environment=EnvironmentConfig(name=f"gymnax:{game}-MinAtar"),
        network=NetworkConfig(kind="mlp", embedding_size=128, hidden_sizes=(256,), support_size=10),
        search=SearchConfig(num_simulations=16),
        replay=ReplayConfig(capacity=100_000, min_size=5_000, batch_size=256, ratio=2.0),
        target=TargetConfig(discount=0.99, td_steps=5),
        loss=LossConfig(value_weight=0.5),
        optimizer=OptimizerConfig(learning_rate=5e-4),
        training=TrainingConfig(num_env_steps=1_000_000, num_envs=64),
        evaluation=EvaluationConfig(interval=50_000),
    )
