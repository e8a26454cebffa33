"""Settings that the studies of tables share. Nothing here imports JAX."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from muzero_jax.agents.registry import find_definition
from muzero_jax.config import (
    EnvironmentConfig,
    EvaluationConfig,
    ExperimentConfig,
    ReplayConfig,
    SearchConfig,
    TargetConfig,
    TrainingConfig,
)
from muzero_jax.tabular.settings import DiscountConfig, TableConfig

_PLANNERS = ("dyna_q", "prioritised_sweeping", "rmax")


def tabular(name: str, environment: str, agent: str = "table_muzero") -> ExperimentConfig:
    """Learners of tables, which learn after every single step.

    MuZero explores by planning with what it does not know as if it were the best, like R-max; its
    four simulations try every action of a maze once, which with exact values is a step of value
    iteration, and more would bias the values low, for a search backs up means and no maxima.

    Args:
      name: the name of the experiment.
      environment: registry name of a tabular environment; states are observed as numbers.
      agent: the name of the learner in the registry of agents.
    """
    is_muzero, batch_size = agent == "table_muzero", 1 if agent in _PLANNERS else 10
    options = "" if "observation=" in environment else ":observation=index"
    return ExperimentConfig(
        name=name,
        environment=EnvironmentConfig(name=f"{environment}{options}"),
        agent=agent,
        replay=ReplayConfig(
            capacity=2_000,
            min_size=4,
            batch_size=batch_size,
            ratio=batch_size * (4.0 if is_muzero else 1.0),
            prioritised=is_muzero,
        ),
        training=TrainingConfig(
            num_env_steps=3_000, num_envs=1, rollout_length=1, iterations_per_chunk=50
        ),
        evaluation=EvaluationConfig(interval=0, num_episodes=32),
        **(_MUZERO if is_muzero else _of_q_learners(agent)),
    )


_MUZERO: Mapping[str, Any] = {
    "table": TableConfig(unknown="optimistic", step_size=1.0, initial_value=1.0),
    "search": SearchConfig(
        num_simulations=4, gumbel_scale=0.0, value_scale=1.0, min_qvalue_range=1e-3
    ),
    "target": TargetConfig(
        discount=0.99, num_unroll_steps=0, td_steps=0, bootstrap="network", reanalyse_fraction=1.0
    ),
}


def _of_q_learners(agent: str) -> dict[str, Any]:
    table = find_definition(agent).settings().table
    table = dataclasses.replace(table, step_size=1.0) if hasattr(table, "step_size") else table
    return {"table": table, "target": DiscountConfig(discount=0.99)}
