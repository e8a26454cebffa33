"""Tabular environments: compiled environments over the arrays of a finite process.

Every factory takes the options of its process, and `slip`, the probability that an action is
replaced by a uniformly drawn one; `observation`, see `TabularEnvironment`; and `time_limit`, the
number of steps after which an episode is truncated, 0 for no limit.
"""

import dataclasses
import inspect
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from muzero_jax.core.checks import require_type
from muzero_jax.core.types import Array, PRNGKey, TimeStep
from muzero_jax.envs.base import Environment, EnvironmentSpec, make_timestep
from muzero_jax.envs.wrappers import TimeLimit, without_time_limit
from muzero_jax.tabular.processes.gridworld import maze_mdp
from muzero_jax.tabular.processes.mdp import TabularMDP
from muzero_jax.tabular.processes.mdp_families import chain_mdp, deep_sea_mdp, line_mdp
from muzero_jax.tabular.processes.mdp_families import random_mdp as random_process
from muzero_jax.tabular.processes.mdp_transforms import with_slip

Observation = Literal["one_hot", "index"]


@dataclasses.dataclass(frozen=True, eq=False)
class TabularEnvironment:
    """An environment that draws from the outcomes of a finite process.

    Its state is the number of the state of the process, `[]` int32.

    Attributes:
      mdp: the process.
      observation: `one_hot`, a vector `[S]` for networks, or `index`, a number for tables.
    """

    mdp: TabularMDP
    observation: Observation = "one_hot"

    def __post_init__(self) -> None:
        require_type("observation", self.observation, Observation)

    @property
    def spec(self) -> EnvironmentSpec:
        """The static description."""
        is_index = self.observation == "index"
        return EnvironmentSpec(
            name=self.mdp.name,
            observation_shape=() if is_index else (self.mdp.num_states,),
            observation_dtype="int32" if is_index else "bool",
            num_actions=self.mdp.num_actions,
        )

    @property
    def num_states(self) -> int:
        """How many states there are; learners of tables ask for it."""
        return self.mdp.num_states

    def reset(self, rng_key: PRNGKey) -> tuple[Array, TimeStep]:
        """Draws the first state. The `rng_key` is consumed."""
        state = _draw(rng_key, _cumulative(self.mdp.start))
        return state, self.timestep(state)

    def step(self, rng_key: PRNGKey, state: Array, action: Array) -> tuple[Array, TimeStep]:
        """Draws an outcome.

        Args:
          rng_key: consumed.
          state: `[]` int32 number of the state.
          action: `[]` int32.
        """
        mdp = self.mdp
        outcome = jnp.int32(0)
        if mdp.num_outcomes > 1:
            outcome = _draw(rng_key, _cumulative(mdp.probability)[state, action])

        place = state, action, outcome
        next_state = jnp.asarray(mdp.next_state)[place]
        reward = jnp.asarray(mdp.reward, jnp.float32)[place]
        terminated = jnp.asarray(mdp.terminates)[place]
        return next_state, self.timestep(next_state, reward=reward, terminated=terminated)

    def timestep(self, state: Array, **outcome: Array) -> TimeStep:
        """What is returned in a state `[]`, after an `outcome`; without one, of a new episode."""
        observation = state.astype(jnp.int32)
        if self.observation == "one_hot":
            observation = jax.nn.one_hot(state, self.mdp.num_states, dtype=bool)
        return make_timestep(observation, num_actions=self.mdp.num_actions, **outcome)


def _cumulative(probability: np.ndarray) -> Array:
    """`[..., N]` probabilities of each outcome and the outcomes before it, up to exactly 1."""
    total = np.cumsum(probability, axis=-1)
    return jnp.asarray(total / total[..., -1:], jnp.float32)


def _draw(rng_key: PRNGKey, cumulative: Array) -> Array:
    """Draws one of `[N]` outcomes, `[]` int32; one without probability is never drawn.

    One random number of 23 bits is drawn, so differences of less than 2^-23 between probabilities
    are lost. A number for each outcome would cost more than the whole step.
    """
    return jnp.sum(cumulative <= jax.random.uniform(rng_key), dtype=jnp.int32)


def underlying_tabular(env: Environment) -> TabularEnvironment | None:
    """The tabular environment inside the time limit of `env`; None for any other kind."""
    env = without_time_limit(env)
    return env if isinstance(env, TabularEnvironment) else None


def _factory(make_mdp: Callable[..., TabularMDP], default_limit: int) -> Callable[..., Environment]:
    """A factory for the registry; its signature includes the options of the process."""

    def make(
        *,
        slip: float = 0.0,
        observation: Observation = "one_hot",
        time_limit: int = default_limit,
        **options: Any,
    ) -> Environment:
        env = TabularEnvironment(with_slip(make_mdp(**options), slip), observation)
        return TimeLimit(env, time_limit) if time_limit else env

    named = inspect.Parameter.KEYWORD_ONLY
    own = [p.replace(kind=named) for p in inspect.signature(make_mdp).parameters.values()]
    shared = [p for p in inspect.signature(make).parameters.values() if p.kind is named]
    make.__signature__ = inspect.Signature([*own, *shared])  # type: ignore[attr-defined]
    return make


# The environments by the names of the registry; the maze has the 50 steps of its origin.
maze = _factory(maze_mdp, default_limit=50)
line = _factory(line_mdp, default_limit=100)
chain = _factory(chain_mdp, default_limit=100)
deep_sea = _factory(deep_sea_mdp, default_limit=0)
random_mdp = _factory(random_process, default_limit=0)
