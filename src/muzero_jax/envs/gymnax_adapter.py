"""gymnax environments (classic control, bsuite, MinAtar, grids) behind the protocol.

The adapter calls the raw `reset_env` and `step_env`, because gymnax's own `step` resets by itself
and loses the final state. Since gymnax 1.0 `step_env` reports true termination only, so our own
`TimeLimit` can take the suite's default horizon.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from muzero_jax.core.types import Array, PRNGKey, PyTree, TimeStep
from muzero_jax.envs.base import Environment, EnvironmentSpec, EnvState, make_timestep
from muzero_jax.envs.conformance.traces import check_spec
from muzero_jax.envs.errors import EnvironmentCreationError, UnknownEnvironmentError, creating
from muzero_jax.envs.gymnax_options import make_with_options
from muzero_jax.envs.suites import import_suite
from muzero_jax.envs.wrappers import TimeLimit

# Environments with discrete actions, known without importing the suite.
GYMNAX_NAMES = (
    *("Acrobot-v1", "Asterix-MinAtar", "BernoulliBandit-misc", "Breakout-MinAtar", "CartPole-v1"),
    *("Catch-bsuite", "DeepSea-bsuite", "DiscountingChain-bsuite", "FourRooms-misc"),
    *("Freeway-MinAtar", "FrozenLake-misc", "GaussianBandit-misc", "MNISTBandit-bsuite"),
    *("MemoryChain-bsuite", "MetaMaze-misc", "MountainCar-v0", "Pong-misc", "Seaquest-MinAtar"),
    *("SimpleBandit-bsuite", "SpaceInvaders-MinAtar", "UmbrellaChain-bsuite"),
)

# Grids of zeros and ones, which are stored as bool in a quarter of the memory.
_BINARY_GRIDS = frozenset(
    {name for name in GYMNAX_NAMES if name.endswith("-MinAtar")}
    | {"Catch-bsuite", "DeepSea-bsuite", "Pong-misc"}
)

# Lengths of episodes that always terminate by themselves. A time limit could never act on them, and
# without one the replay need not store final observations.
_NATURAL_LENGTH: Mapping[str, Callable[[Any, Any], int]] = {
    "Catch-bsuite": lambda env, params: env.rows - 1,
    "DeepSea-bsuite": lambda env, params: env.size,
    "MNISTBandit-bsuite": lambda env, params: 1,
    "MemoryChain-bsuite": lambda env, params: int(params.memory_length) + 1,
    "SimpleBandit-bsuite": lambda env, params: 1,
    "UmbrellaChain-bsuite": lambda env, params: int(params.chain_length),
}

# Tasks whose observation shows the clock, and whose aim is to do well before it runs out. Their
# horizon is a true end, as in the papers that they come from; gymnax calls it a truncation.
_CLOCKED = frozenset(
    {"BernoulliBandit-misc", "DiscountingChain-bsuite", "GaussianBandit-misc", "MetaMaze-misc"}
)

_HORIZON = "max_steps_in_episode"


@dataclasses.dataclass(frozen=True, eq=False)
class GymnaxEnvironment:
    """A gymnax environment without its time limit.

    Attributes:
      suite_env: the gymnax environment.
      params: its parameters.
      spec: the static description.
      state_dtypes: the dtype of each leaf of the state, because gymnax resets with Python numbers.
      num_categories: the number of categories of a discrete observation, which becomes one-hot.
      final_step: the step at which the episode terminates where the clock is part of the task.
    """

    suite_env: Any
    params: Any
    spec: EnvironmentSpec
    state_dtypes: PyTree
    num_categories: int | None = None
    final_step: int | None = None

    def reset(self, rng_key: PRNGKey) -> tuple[EnvState, TimeStep]:
        """Starts an episode. The `rng_key` is consumed."""
        # The suite's code is not written for strict rank promotion.
        with jax.numpy_rank_promotion("allow"):
            observation, state = self.suite_env.reset_env(rng_key, self.params)
        return self._cast(state), self._timestep(observation)

    def step(self, rng_key: PRNGKey, state: EnvState, action: Array) -> tuple[EnvState, TimeStep]:
        """Takes an action.

        Args:
          rng_key: consumed.
          state: the state before the step.
          action: `[]` int32.
        """
        with jax.numpy_rank_promotion("allow"):
            observation, next_state, reward, terminated, _ = self.suite_env.step_env(
                rng_key, state, action, self.params
            )
        if self.final_step is not None:
            terminated |= next_state.time >= self.final_step
        timestep = self._timestep(observation, reward=reward, terminated=terminated)
        return self._cast(next_state), timestep

    def _cast(self, state: EnvState) -> EnvState:
        return jax.tree.map(lambda leaf, dtype: jnp.asarray(leaf, dtype), state, self.state_dtypes)

    def _timestep(
        self, observation: Array, *, reward: Array | float = 0.0, terminated: Array | bool = False
    ) -> TimeStep:
        return make_timestep(
            encode_observation(observation, self.spec.observation_dtype, self.num_categories),
            num_actions=self.spec.num_actions,
            reward=reward,
            terminated=terminated,
        )


def encode_observation(observation: Array, dtype: str, num_categories: int | None = None) -> Array:
    """Brings an observation to rank 1 (vector) or 3 (grid) and to the dtype it is stored in.

    Args:
      observation: `[]` a category or a number, `[N]`, `[H, W]` (gains a channel), or `[H, W, C]`.
      dtype: NumPy name of the dtype.
      num_categories: length of the one-hot vector that a category becomes; None for numbers.
    """
    if num_categories is not None:
        return (jnp.arange(num_categories) == observation).astype(dtype)
    observation = jnp.asarray(observation).astype(dtype)
    if observation.ndim in (0, 2):
        return observation[..., jnp.newaxis]
    return observation


def make_gymnax(
    name: str,
    *,
    max_steps: int | None = None,
    params: Mapping[str, Any] | None = None,
    **options: Any,
) -> Environment:
    """Makes a gymnax environment.

    Args:
      name: gymnax's name, for example `CartPole-v1`.
      max_steps: the time limit; None takes gymnax's default horizon, or no limit where every
        episode terminates by itself.
      params: fields of gymnax's `EnvParams`, for example `{"gravity": 10.0}`; they may be arrays.
      **options: arguments of gymnax's constructor, for example `size=10` of `DeepSea-bsuite`, and
        fields of `EnvParams`, for example `gravity=10`. `max_steps_in_episode` is the horizon: the
        time limit, or the end of a task whose clock is observed.

    Raises:
      UnknownEnvironmentError: gymnax does not know the name.
      EnvironmentCreationError: gymnax is not installed, refuses the options or parameters, or the
        environment's actions are not discrete.
    """
    gymnax = import_suite("gymnax", deferred=("seaborn", "matplotlib.pyplot"))
    if name not in gymnax.registered_envs:
        raise UnknownEnvironmentError(f"gymnax has no environment {name!r}.")
    with creating(f"gymnax:{name}"):
        return _make(gymnax, name, max_steps, params or {}, options)


def _make(
    gymnax: Any,
    name: str,
    max_steps: int | None,
    fields: Mapping[str, Any],
    options: Mapping[str, Any],
) -> Environment:
    """Makes an environment of gymnax; `fields` are the `params` of `make_gymnax`."""
    if not isinstance(fields, Mapping):
        raise EnvironmentCreationError(
            "params is for programs, which give a mapping; in a name each field of EnvParams is "
            f"an option, found params={fields!r}."
        )
    has_horizon = _HORIZON in options or _HORIZON in fields
    if max_steps is not None and has_horizon:
        raise EnvironmentCreationError(
            f"give max_steps or {_HORIZON}, not both; each is the time limit."
        )
    suite_env, params = make_with_options(gymnax, name, options, fields)
    if not hasattr(suite_env.action_space(params), "n"):
        raise EnvironmentCreationError(
            f"gymnax:{name} has continuous actions; discrete ones are supported."
        )
    horizon = _read_horizon(params)
    final_step = horizon if name in _CLOCKED else None
    bound = _NATURAL_LENGTH[name](suite_env, params) if name in _NATURAL_LENGTH else final_step
    env = _describe(name, suite_env, params, bound, final_step)
    check_spec(env.spec)
    # A horizon that was given also limits a task that ends by itself.
    if max_steps is None and (bound is None or (has_horizon and horizon < bound)):
        max_steps = horizon
    return env if max_steps is None else TimeLimit(env, max_steps)


def _read_horizon(params: Any) -> int:
    horizon = params.max_steps_in_episode
    if horizon < 1 or horizon != int(horizon):
        raise EnvironmentCreationError(
            f"{_HORIZON} must be a whole number of at least 1, found {horizon!r}."
        )
    return int(horizon)


def _describe(
    name: str, suite_env: Any, params: Any, bound: int | None, final_step: int | None
) -> GymnaxEnvironment:
    """Makes the adapter, whose description has the shapes that the environment really gives."""
    observation, state_dtypes = _infer_shapes(suite_env, params)
    num_categories = getattr(suite_env.observation_space(params), "n", None)
    is_binary = name in _BINARY_GRIDS or num_categories is not None
    dtype = "bool" if is_binary else "float32"
    encoded = jax.eval_shape(lambda x: encode_observation(x, dtype, num_categories), observation)
    spec = EnvironmentSpec(
        name=f"gymnax:{name}",
        observation_shape=encoded.shape,
        observation_dtype=dtype,
        num_actions=int(suite_env.action_space(params).n),
        max_episode_steps=bound,
    )
    return GymnaxEnvironment(suite_env, params, spec, state_dtypes, num_categories, final_step)


def _infer_shapes(suite_env: Any, params: Any) -> tuple[jax.ShapeDtypeStruct, PyTree]:
    """The raw observation's shape, and dtypes that hold the state at reset and later."""

    def reset_and_step(rng_key: PRNGKey) -> tuple[Array, PyTree, PyTree]:
        observation, state = suite_env.reset_env(rng_key, params)
        state = jax.tree.map(jnp.asarray, state)
        next_state = suite_env.step_env(rng_key, state, jnp.zeros((), jnp.int32), params)[1]
        return observation, state, next_state

    with jax.numpy_rank_promotion("allow"):
        observation, state, next_state = jax.eval_shape(
            reset_and_step, jax.eval_shape(jax.random.key, 0)
        )
    dtypes = jax.tree.map(lambda a, b: jnp.promote_types(a.dtype, b.dtype), state, next_state)
    return observation, dtypes
