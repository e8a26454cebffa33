"""The part of the conformance check that plays random legal actions and reads the results."""

import dataclasses
import math
import time

import jax
import numpy as np

from muzero_jax.core.types import Array, PRNGKey, PyTree, TimeStep
from muzero_jax.envs.base import Environment, EnvironmentSpec, random_action
from muzero_jax.envs.conformance.traces import blaming, numbers_of, require
from muzero_jax.envs.wrappers import AutoReset, Vectorised

NUM_COPIES = 4


@dataclasses.dataclass(frozen=True)
class Plays:
    """How much is played.

    Attributes:
      num_steps: number of steps of each copy in one call of the compiled play.
      num_calls: number of calls.
      seconds: time in seconds after which no further call is made.
    """

    num_steps: int
    num_calls: int = 1
    seconds: float = math.inf


def check_rollout(env: Environment, rng_key: PRNGKey, plays: Plays) -> None:
    """Plays copies side by side, episode after episode, and checks their time steps.

    Args:
      env: an environment that neither resets by itself nor has a batch axis.
      rng_key: consumed.
      plays: how much is played.

    Raises:
      ConformanceError: a value breaks a rule, or the environment's code fails.
    """
    with blaming("playing copies side by side fails"):
        first, outcomes = _play(env, rng_key, plays)
    _check_fresh(first)
    _check_ends(outcomes, env.spec)
    for timestep in (first, outcomes):
        _check_values(timestep, env.spec)


def _play(env: Environment, rng_key: PRNGKey, plays: Plays) -> tuple[TimeStep, TimeStep]:
    """`[B]` first time steps and `[T, B]` outcomes of random legal play."""
    copies = Vectorised(AutoReset(env), NUM_COPIES)

    def body(carry: PyTree, step_key: PRNGKey) -> tuple[PyTree, TimeStep]:
        state, timestep = carry
        action_key, env_key = jax.random.split(step_key)
        action = random_action(action_key, copies.spec, timestep.legal_action_mask)
        state, timestep = copies.step(env_key, state, action)
        return (state, timestep), state.outcome

    @jax.jit
    def advance(carry: PyTree, play_key: PRNGKey) -> tuple[PyTree, TimeStep]:
        return jax.lax.scan(body, carry, jax.random.split(play_key, plays.num_steps))

    reset_key, *play_keys = jax.random.split(rng_key, plays.num_calls + 1)
    carry = jax.jit(copies.reset)(reset_key)
    first, start = carry[1], time.monotonic()
    outcomes: list[TimeStep] = []
    for play_key in play_keys:
        if outcomes and time.monotonic() - start > plays.seconds:
            break
        next_carry, outcome = advance(carry, play_key)
        if not outcomes:
            again = advance(carry, play_key)[1]
            require_equal(outcome, again, "the same key gives different results")
        carry = next_carry
        outcomes.append(jax.device_get(outcome))
    return jax.device_get(first), jax.tree.map(lambda *parts: np.concatenate(parts), *outcomes)


def require_equal(left: PyTree, right: PyTree, message: str) -> None:
    """Requires equality, for floats up to the rounding that another compilation may bring.

    Args:
      left: tree of arrays.
      right: tree of arrays with the same structure.
      message: meaning of a difference; the place of the difference is added to it.

    Raises:
      ConformanceError: the trees differ.
    """
    pairs = zip(jax.tree.leaves_with_path(left), jax.tree.leaves(right), strict=True)
    for (path, a), b in pairs:
        a, b = (np.asarray(numbers_of(leaf)) for leaf in (a, b))
        is_float = np.issubdtype(a.dtype, np.floating)
        # A NaN breaks another rule, which the rollout names.
        close = is_float and np.allclose(a, b, rtol=1e-4, atol=1e-5, equal_nan=True)
        equal = close or np.array_equal(a, b)
        require(equal, f"{message} (at {jax.tree_util.keystr(path)}).")


def _check_fresh(first: TimeStep) -> None:
    """Checks the time steps of `reset`."""
    require(first.reward == 0.0, "the reward at reset is not 0.")
    require(first.discount != 0.0, "the discount at reset is not 1: a fresh state is terminal.")
    require(~first.truncated, "a fresh state is truncated.")


def _check_ends(outcomes: TimeStep, spec: EnvironmentSpec) -> None:
    """Checks terminations and truncations; `outcomes` is `[T, B]`."""
    terminated, truncated = outcomes.discount == 0.0, outcomes.truncated
    require(~(terminated & truncated), "a step is terminated and truncated at once.")
    require(
        spec.can_truncate or not truncated.any(),
        "a step is truncated, but spec.can_truncate is False.",
    )
    if spec.num_players == 2:
        moved_again = outcomes.to_play[1:] == outcomes.to_play[:-1]
        require(
            ~moved_again | (terminated | truncated)[1:] | (terminated | truncated)[:-1],
            "a player moves twice in a row; the value is negated at every step.",
        )
    if spec.max_episode_steps is not None:
        longest = _longest_episode(terminated | truncated)
        require(
            longest <= spec.max_episode_steps,
            f"an episode takes {longest} steps or more, but spec.max_episode_steps is "
            f"{spec.max_episode_steps}.",
        )


def _longest_episode(last: Array) -> int:
    """The largest number of steps of an episode; an unfinished episode takes at least one more.

    Args:
      last: `[T, B]` bool, whether an episode ends.
    """
    longest, length = 0, np.zeros(last.shape[1], int)
    for ended in last:
        length = length + 1
        longest = max(longest, int((length + ~ended).max()))
        length = np.where(ended, 0, length)
    return longest


def _check_values(timestep: TimeStep, spec: EnvironmentSpec) -> None:
    """Checks the values of time steps with any leading axes."""
    going_on = timestep.discount != 0.0
    require(
        ~going_on | (timestep.discount == 1.0),
        "a discount is neither 0 nor 1; the agent's own discount is applied elsewhere.",
    )
    require(
        timestep.legal_action_mask.any(axis=-1) | ~going_on | (spec.num_actions == 0),
        "a state that is not terminal has no legal action.",
    )
    require(
        (timestep.to_play >= 0) & (timestep.to_play < spec.num_players),
        f"to_play is outside 0 ... {spec.num_players - 1}.",
    )
    require(np.isfinite(timestep.reward), "a reward is not finite.")
    require(np.isfinite(timestep.observation.astype(np.float32)), "an observation is not finite.")
    if spec.num_players == 2:
        require(
            np.abs(timestep.reward.sum(axis=-1)) < 1e-5,
            "the rewards of the two players do not sum to 0.",
        )
