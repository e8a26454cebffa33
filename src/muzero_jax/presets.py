"""The two presets that experiment scripts share: one for small vectors, one for small grids.

A script names the environment and the number of steps, and no other number that belongs to a task:
rewards are measured in a unit of the task's own (`target.reward_unit`), and exploration needs no
setting for it either. docs/learning.md says what each number was chosen from.
"""

from muzero_jax import config
from muzero_jax.config import ExperimentConfig


def vector_task(name: str, environment: str, num_env_steps: int = 100_000) -> ExperimentConfig:
    """A task whose observations are small vectors: a small MLP, and many updates a step.

    Args:
      name: the experiment's name.
      environment: the environment's name in the registry.
      num_env_steps: environment steps of a run.
    """
    return ExperimentConfig(
        name=name,
        environment=config.EnvironmentConfig(name=environment),
        network=config.NetworkConfig(
            kind="mlp", stem_channels=0, support_size=60, support_spacing=0.25
        ),
        search=config.SearchConfig(num_simulations=16, min_qvalue_range=0.06),
        exploration=config.ExplorationConfig(
            epsilon=0.4, epsilon_exponent=4.0, novelty_share=0.125
        ),
        replay=config.ReplayConfig(min_size=1_000, ratio=16.0, recency=2.0),
        target=config.TargetConfig(num_unroll_steps=3, target_update_rate=0.05),
        loss=config.LossConfig(value_weight=1.0, entropy_weight=0.1, label_width=0.75),
        optimizer=config.OptimizerConfig(average_updates=3_000),
        training=config.TrainingConfig(num_env_steps=num_env_steps),
        evaluation=config.EvaluationConfig(num_episodes=50, num_envs=50),
    )


def grid_task(name: str, environment: str, num_env_steps: int = 1_000_000) -> ExperimentConfig:
    """A task whose observations are small grids, such as MinAtar (Young and Tian 2019).

    The flattened grid goes straight into a small MLP: on a CPU that buys three to four times the
    updates of a convolution, and here updates are what counts.

    Args:
      name: the experiment's name.
      environment: the environment's name in the registry.
      num_env_steps: environment steps of a run.
    """
    return ExperimentConfig(
        name=name,
        environment=config.EnvironmentConfig(name=environment),
        network=config.NetworkConfig(
            kind="mlp", stem_channels=0, support_size=30, support_spacing=0.25
        ),
        search=config.SearchConfig(num_simulations=16, min_qvalue_range=0.4),
        exploration=config.ExplorationConfig(epsilon=0.4, epsilon_exponent=7.0),
        replay=config.ReplayConfig(
            capacity=100_000, min_size=5_000, batch_size=64, ratio=32.0, recency=2.0
        ),
        target=config.TargetConfig(
            discount=0.99, num_unroll_steps=3, td_steps=5, target_update_rate=0.02
        ),
        loss=config.LossConfig(value_weight=0.5, entropy_weight=0.1, label_width=0.75),
        optimizer=config.OptimizerConfig(
            learning_rate=5e-4, final_fraction=0.15, average_updates=2_000
        ),
        training=config.TrainingConfig(num_env_steps=num_env_steps, num_envs=64),
        evaluation=config.EvaluationConfig(interval=50_000),
        logging=config.LoggingConfig(checkpoint_interval=100_000),
    )
