"""Tabular environments: compiled environments over the arrays of a finite process.

The same arrays give the exact answers in `oracle/`. Every factory takes the options of its process
and three more:

  slip: probability that an action is replaced by a uniformly drawn one;
  observation: `one_hot`, a vector `[S]` for networks, or `index`, a number for tables;
  time_limit: number of steps after which an episode is truncated; 0 for no limit.
"""

import dataclasses
import inspect
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from muzero_jax.core.types import Array, PRNGKey, TimeStep
from muzero_jax.envs.base import Environment, EnvironmentSpec, make_timestep
from muzero_jax.envs.errors import EnvironmentCreationError
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
      observation: how a state is shown, as a one-hot vector or as its number.
    """

    mdp: TabularMDP
    observation: Observation = "one_hot"

    def __post_init__(self) -> None:
        if self.observation not in ("one_hot", "index"):
            raise EnvironmentCreationError(
                f"{self.mdp.name}: observation must be one_hot or index, found "
                f"{self.observation!r}."
            )

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

    def observe(self, state: Array) -> Array:
        """Converts `[...]` states to observations `[...]` or `[..., S]`."""
        if self.observation == "index":
            return state.astype(jnp.int32)
        return jax.nn.one_hot(state, self.mdp.num_states, dtype=bool)

    def reset(self, rng_key: PRNGKey) -> tuple[Array, TimeStep]:
        """Draws the first state. The `rng_key` is consumed."""
        state = _draw(rng_key, _cumulative(self.mdp.start))
        return state, self._timestep(state)

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

        def drawn(table: Any) -> Array:
            return jnp.asarray(table)[state, action, outcome]

        next_state = drawn(mdp.next_state)
        reward = drawn(mdp.reward.astype("float32"))
        return next_state, self._timestep(next_state, reward, drawn(mdp.terminates))

    def _timestep(
        self, state: Array, reward: Array | float = 0.0, terminated: Array | bool = False
    ) -> TimeStep:
        return make_timestep(
            self.observe(state),
            num_actions=self.mdp.num_actions,
            reward=reward,
            terminated=terminated,
        )


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
    """The tabular environment below the wrappers of `env`; None where `env` is of another kind."""
    env = without_time_limit(env)
    return env if isinstance(env, TabularEnvironment) else None


def _factory(make_mdp: Callable[..., TabularMDP], time_limit: int) -> Callable[..., Environment]:
    """A factory for the registry; its signature includes the options of the process."""
    default_limit = time_limit

    def make(
        *,
        slip: float = 0.0,
        observation: Observation = "one_hot",
        time_limit: int = default_limit,
        **options: Any,
    ) -> Environment:
        try:
            env = TabularEnvironment(with_slip(make_mdp(**options), slip), observation)
            return TimeLimit(env, time_limit) if time_limit else env
        except EnvironmentCreationError:
            raise
        except (TypeError, ValueError, AttributeError) as error:
            # An option of a wrong type fails wherever it is first used.
            raise EnvironmentCreationError(
                f"a tabular environment cannot be made with these options: {error}."
            ) from error

    shared = inspect.signature(make)
    own = [p.replace(kind=p.KEYWORD_ONLY) for p in inspect.signature(make_mdp).parameters.values()]
    shared_options = [p for p in shared.parameters.values() if p.kind is p.KEYWORD_ONLY]
    signature = shared.replace(parameters=[*own, *shared_options])
    make.__signature__ = signature  # type: ignore[attr-defined]
    make.__doc__ = make_mdp.__doc__
    return make


# The environments by the names of the registry; the maze has the 50 steps of its origin.
maze = _factory(maze_mdp, time_limit=50)
line = _factory(line_mdp, time_limit=100)
chain = _factory(chain_mdp, time_limit=100)
deep_sea = _factory(deep_sea_mdp, time_limit=0)
random_mdp = _factory(random_process, time_limit=0)
