"""Which learner serves which settings."""

from collections.abc import Callable

from muzero_jax.agents.base import Agent
from muzero_jax.agents.muzero import make_muzero
from muzero_jax.config import ExperimentConfig
from muzero_jax.core.types import PyTree
from muzero_jax.envs.base import EnvironmentSpec
from muzero_jax.tabular.agents.q_learners import make_tabular_q
from muzero_jax.tabular.agents.table_muzero import make_tabular_muzero


def make_agent(
    config: ExperimentConfig,
    spec: EnvironmentSpec,
    average: Callable[[PyTree], PyTree] = lambda tree: tree,
) -> Agent:
    """Builds the learner that `config` describes.

    Args:
      config: the settings.
      spec: of the environment.
      average: of gradients and metrics, over those that learn together.

    Raises:
      ConfigError: the learner does not suit the environment.
    """
    if config.agent.kind != "muzero":
        return make_tabular_q(config, spec)
    if config.network.kind == "table":
        return make_tabular_muzero(config, spec)
    return make_muzero(config, spec, average=average)
