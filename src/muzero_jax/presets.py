"""Settings that families of experiments share; the experiment scripts name one and adjust it."""

import re

from muzero_jax.config import (
    AgentConfig,
    AgentKind,
    EnvironmentConfig,
    EvaluationConfig,
    ExperimentConfig,
    LoggingConfig,
    LossConfig,
    NetworkConfig,
    OptimizerConfig,
    ReplayConfig,
    SearchConfig,
    TableConfig,
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
        search=SearchConfig(num_simulations=16, min_qvalue_range=0.25, epsilon=0.05),
        replay=ReplayConfig(min_size=1_000, ratio=16.0),
        target=TargetConfig(target_update_rate=0.05),
        loss=LossConfig(value_weight=1.0, entropy_weight=0.1),
        training=TrainingConfig(num_env_steps=40_000),
    )


def minatar(game: str) -> ExperimentConfig:
    """MinAtar (Young and Tian 2019, arXiv 1903.03176) as gymnax has it.

    gymnax uses each game's minimal action set, no sticky actions, and a limit of 1000 steps (2500
    in Freeway). The flattened grid goes straight into a small MLP: on a CPU that buys three to
    four times the updates of a convolution, and here updates are what counts (CHANGELOG.md).

    Args:
      game: `Asterix`, `Breakout`, `Freeway`, `Seaquest` or `SpaceInvaders`.
    """
    return ExperimentConfig(
        name="minatar" + re.sub("([A-Z])", r"_\1", game).lower(),
        environment=EnvironmentConfig(name=f"gymnax:{game}-MinAtar"),
        network=NetworkConfig(kind="mlp", stem_channels=0, support_size=60, support_spacing=0.1),
        search=SearchConfig(num_simulations=16, min_qvalue_range=0.01),
        replay=ReplayConfig(capacity=100_000, min_size=5_000, ratio=12.0),
        target=TargetConfig(discount=0.99, td_steps=5, target_update_rate=0.02),
        loss=LossConfig(value_weight=0.5, entropy_weight=0.01),
        optimizer=OptimizerConfig(learning_rate=5e-4, final_fraction=0.15),
        training=TrainingConfig(num_env_steps=720_000, num_envs=64),
        evaluation=EvaluationConfig(interval=50_000),
        logging=LoggingConfig(checkpoint_interval=100_000),
    )


def tabular(name: str, environment: str, kind: AgentKind = "muzero") -> ExperimentConfig:
    """Learners of tables, which learn after every single step.

    MuZero explores by planning with what it does not know as if it were the best, like R-max; its
    four simulations try every action of a maze once, which with exact values is a step of value
    iteration, and more would bias the values low, for a search backs up means and no maxima.

    Args:
      name: of the experiment.
      environment: registry name of a tabular environment; states are observed as numbers.
      kind: of the learner, see `AgentConfig`.
    """
    is_muzero = kind == "muzero"
    is_planner = kind in ("dyna_q", "prioritised_sweeping", "rmax")
    batch_size = 1 if is_planner else 10
    options = "" if "observation=" in environment else ":observation=index"
    return ExperimentConfig(
        name=name,
        environment=EnvironmentConfig(name=f"{environment}{options}"),
        agent=AgentConfig(kind=kind),
        network=NetworkConfig(kind="table" if is_muzero else "auto"),
        table=TableConfig(unknown="optimistic", step_size=1.0, initial_value=float(is_muzero)),
        search=SearchConfig(
            num_simulations=4, gumbel_scale=0.0, value_scale=1.0, min_qvalue_range=1e-3
        ),
        replay=ReplayConfig(
            capacity=2_000,
            min_size=4,
            batch_size=batch_size,
            ratio=batch_size * (4.0 if is_muzero else 1.0),
            prioritised=is_muzero,
        ),
        target=TargetConfig(
            discount=0.99,
            num_unroll_steps=0,
            td_steps=0,
            bootstrap="network",
            reanalyse_fraction=1.0,
        ),
        training=TrainingConfig(
            num_env_steps=3_000, num_envs=1, rollout_length=1, iterations_per_chunk=50
        ),
        evaluation=EvaluationConfig(interval=0, num_episodes=32),
    )
