"""gymnax environments (classic control, bsuite, MinAtar, grids) behind the protocol.

The adapter calls the raw `reset_env` and `step_env`, because gymnax's own `step` resets by itself
and loses the final state. Since gymnax 1.0 `step_env` reports true termination only, so our own
`TimeLimit` can take the suite's default horizon.
"""

import dataclasses
import inspect
import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from muzero_jax.core.checks import KINDS, require, require_type
from muzero_jax.core.types import Array, PRNGKey, PyTree, TimeStep
from muzero_jax.envs.base import Environment, EnvironmentSpec, EnvState, make_timestep
from muzero_jax.envs.errors import UnknownEnvironmentError
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
    "MemoryChain-bsuite": lambda env, params: params.memory_length + 1,
    "SimpleBandit-bsuite": lambda env, params: 1,
    "UmbrellaChain-bsuite": lambda env, params: params.chain_length,
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
        return self._cast(state), self._timestep(observation, 0.0, False)

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
        return self._cast(next_state), self._timestep(observation, reward, terminated)

    def _cast(self, state: EnvState) -> EnvState:
        return jax.tree.map(lambda leaf, dtype: jnp.asarray(leaf, dtype), state, self.state_dtypes)

    def _timestep(
        self, observation: Array, reward: Array | float, terminated: Array | bool
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
    return observation[..., jnp.newaxis] if observation.ndim in (0, 2) else observation


def make_gymnax(name: str, /, *, max_steps: int | None = None, **options: Any) -> Environment:
    """Makes a gymnax environment.

    Args:
      name: gymnax's name, for example `CartPole-v1`.
      max_steps: the time limit; None takes gymnax's default horizon, or no limit where every
        episode terminates by itself.
      **options: arguments of gymnax's constructor, for example `size=10` of `DeepSea-bsuite`, and
        fields of `EnvParams`, for example `gravity=10`. `max_steps_in_episode` is the horizon: the
        time limit, or the end of a task whose clock is observed.

    Raises:
      UnknownEnvironmentError: gymnax does not know the name.
      ConfigError: gymnax is not installed, there is no such option, or its value has the wrong
        type, or the environment's actions are not discrete.
    """
    gymnax = import_suite("gymnax", deferred=("seaborn", "matplotlib.pyplot"))
    if name not in gymnax.registered_envs:
        raise UnknownEnvironmentError(f"gymnax has no environment {name!r}.")
    require(
        max_steps is None or _HORIZON not in options,
        f"give max_steps or {_HORIZON}, not both; each is the time limit.",
    )
    suite_env, params = _make_with_options(gymnax, name, options)
    actions = suite_env.action_space(params)
    require(hasattr(actions, "n"), "it has continuous actions; discrete ones are supported.")
    horizon = int(params.max_steps_in_episode)
    final_step = horizon if name in _CLOCKED else None
    bound = _NATURAL_LENGTH[name](suite_env, params) if name in _NATURAL_LENGTH else final_step
    observation, state_dtypes = _infer_shapes(suite_env, params)
    num_categories = getattr(suite_env.observation_space(params), "n", None)
    dtype = "bool" if name in _BINARY_GRIDS or num_categories is not None else "float32"
    encoded = jax.eval_shape(lambda x: encode_observation(x, dtype, num_categories), observation)
    spec = EnvironmentSpec(
        f"gymnax:{name}", encoded.shape, dtype, int(actions.n), max_episode_steps=bound
    )
    env = GymnaxEnvironment(suite_env, params, spec, state_dtypes, num_categories, final_step)
    # A horizon that was given also limits a task that ends by itself.
    if max_steps is None and (bound is None or (_HORIZON in options and horizon < bound)):
        max_steps = horizon
    return env if max_steps is None else TimeLimit(env, max_steps)


def _make_with_options(gymnax: Any, name: str, options: Mapping[str, Any]) -> tuple[Any, Any]:
    """Makes a gymnax environment and its parameters; no name stands for options of both."""
    suite_env, params = gymnax.make(name)
    signature = inspect.signature(type(suite_env))
    arguments = {argument: each.default for argument, each in signature.parameters.items()}
    fields = {field.name: getattr(params, field.name) for field in dataclasses.fields(params)}
    for option in options:
        require(
            option in arguments or option in fields,
            f"there is no option {option!r}; its constructor takes {_names(arguments)}, its "
            f"EnvParams have {_names(fields)}, and max_steps sets the time limit.",
        )
    suited = {
        option: _suit(option, value, {**fields, **arguments}[option])
        for option, value in options.items()
    }
    chosen = {option: value for option, value in suited.items() if option in arguments}
    if chosen:
        suite_env, params = gymnax.make(name, **chosen)
    replaced = {option: value for option, value in suited.items() if option not in arguments}
    params = params.replace(**replaced)
    if name == "CartPole-v1":
        # gymnax computes these fields once from others, and not again when one of them changes.
        derived = {
            "total_mass": params.masscart + params.masspole,
            "polemass_length": params.masspole * params.length,
        }
        params = params.replace(**derived | replaced)
    return suite_env, params


def _names(defaults: Mapping[str, Any]) -> str:
    """The options that a name can give, which are numbers, true, false or text."""
    return ", ".join(o for o, default in defaults.items() if type(default) in KINDS) or "nothing"


def _suit(option: str, value: Any, default: Any) -> Any:
    """Returns `value` in the type of `default`.

    Raises:
      ConfigError: it has another type, or is not finite.
    """
    kind = type(default)
    if kind not in KINDS:
        # A program may give anything.
        require(type(value) not in KINDS, f"{option} takes no number and no text, found {value!r}.")
        return value
    if isinstance(value, float):
        require(math.isfinite(value), f"{option} must be a finite number, found {value!r}.")
        value = int(value) if value.is_integer() else value
    # The horizon of some tasks is a float in gymnax.
    require_type(option, value, int if option == _HORIZON else kind)
    return kind(value)


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
