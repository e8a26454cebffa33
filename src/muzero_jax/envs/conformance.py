"""Checks that an environment keeps the protocol: a built-in one, one of a suite, or your own.

    check_environment(make_environment("my_maze:make"), jax.random.key(0))

raises a `ConformanceError` with one sentence about the first rule that is broken. Every run of a
user's environment begins with `check_own_environment`.
"""

import math
import time
from collections.abc import Iterator

import jax
import numpy as np
from jax.typing import ArrayLike

from muzero_jax.core.checks import require
from muzero_jax.core.errors import ConfigError
from muzero_jax.core.types import PRNGKey, PyTree, TimeStep
from muzero_jax.core.user_code import running
from muzero_jax.envs.base import Environment, EnvironmentSpec, random_action
from muzero_jax.envs.errors import ConformanceError
from muzero_jax.envs.traces import check_spec, check_traces
from muzero_jax.envs.wrappers import AutoReset, Vectorised

_NUM_COPIES = 4
_STEPS_A_CALL = 64
_HAVE_PASSED: set[tuple[str, type]] = set()


def check_environment(
    env: Environment,
    rng_key: PRNGKey,
    *,
    num_steps: int = 128,
    seconds: float = math.inf,
    name: str = "",
) -> None:
    """Plays random legal actions and checks every rule of the protocol.

    Two programs are compiled: `reset`, and a play of 4 copies side by side.

    Args:
      env: an environment that neither resets by itself nor has a batch axis.
      rng_key: consumed.
      num_steps: least number of steps of each copy. The rule that an episode ends within
        `spec.max_episode_steps` is checked within these steps.
      seconds: time in seconds after which nothing more is played.
      name: the name of the environment in messages; `spec.name` where empty.

    Raises:
      ConformanceError: a rule is broken; the message names the environment and the rule.
    """
    try:
        check_spec(env.spec)
        check_traces(env)
        with running("playing copies side by side fails"):
            first, outcomes = play_copies(env, rng_key, num_steps, seconds)
        check_play(first, outcomes, env.spec)
    except ConfigError as error:
        raise ConformanceError(f"{name or env.spec.name}: {error}") from error


def check_own_environment(env: Environment, name: str) -> None:
    """Checks an environment that is not part of this package, before a run, within seconds.

    An environment that has passed is not checked again by the same process. The `name` is that of
    the environment with its options.

    Raises:
      ConformanceError: a rule is broken; the message names the environment and the rule.
    """
    if (name, type(env)) not in _HAVE_PASSED:
        check_environment(env, jax.random.key(0), num_steps=1024, seconds=1.5, name=name)
        _HAVE_PASSED.add((name, type(env)))


def play_copies(
    env: Environment, rng_key: PRNGKey, num_steps: int, seconds: float = math.inf
) -> tuple[TimeStep, TimeStep]:
    """`[B]` first time steps and `[T, B]` outcomes of random legal play.

    Args:
      env: an environment that neither resets by itself nor has a batch axis.
      rng_key: consumed.
      num_steps: least number of steps `T` of each copy.
      seconds: time in seconds after which nothing more is played.

    Raises:
      ConfigError: the compiled program does not repeat its results.
    """
    copies = Vectorised(AutoReset(env), _NUM_COPIES)

    def body(carry: PyTree, step_key: PRNGKey) -> tuple[PyTree, TimeStep]:
        state, timestep = carry
        action_key, env_key = jax.random.split(step_key)
        action = random_action(action_key, copies.spec, timestep.legal_action_mask)
        state, timestep = copies.step(env_key, state, action)
        return (state, timestep), state.outcome

    @jax.jit
    def advance(carry: PyTree, play_key: PRNGKey) -> tuple[PyTree, TimeStep]:
        return jax.lax.scan(body, carry, jax.random.split(play_key, min(num_steps, _STEPS_A_CALL)))

    reset_key, play_key = jax.random.split(rng_key)
    carry = jax.jit(copies.reset)(reset_key)
    first, start = jax.device_get(carry[1]), time.monotonic()
    outcomes: list[TimeStep] = []
    for call_key in jax.random.split(play_key, math.ceil(num_steps / _STEPS_A_CALL)):
        if outcomes and time.monotonic() - start > seconds:
            break
        next_carry, outcome = advance(carry, call_key)
        if not outcomes:
            _require_same(outcome, advance(carry, call_key)[1])
        carry = next_carry
        outcomes.append(jax.device_get(outcome))
    return first, jax.tree.map(lambda *parts: np.concatenate(parts), *outcomes)


def _require_same(left: TimeStep, right: TimeStep) -> None:
    for a, b in zip(jax.tree.leaves(left), jax.tree.leaves(right), strict=True):
        # Sums on an accelerator may be rounded in another order; a NaN breaks another rule.
        numbers = np.asarray(a, np.float32), np.asarray(b, np.float32)
        is_close = np.allclose(*numbers, rtol=1e-4, atol=1e-5, equal_nan=True)
        require(is_close, "the same key gives different results.")


def check_play(first: TimeStep, outcomes: TimeStep, spec: EnvironmentSpec) -> None:
    """Checks the values of what was played.

    Args:
      first: `[B]` time steps of `reset`.
      outcomes: `[T, B]` time steps of `step`, episode after episode.
      spec: the environment's description.

    Raises:
      ConfigError: a rule of the protocol is broken.
    """
    rules = (*_rules(first, spec), *_rules(outcomes, spec))
    for rule, holds in (*rules, *_fresh_rules(first), *_end_rules(outcomes, spec)):
        require(bool(np.all(holds)), rule)


_Rules = Iterator[tuple[str, ArrayLike]]
"""Sentences about broken rules, each with an array that is False where its rule is broken."""


def _fresh_rules(first: TimeStep) -> _Rules:
    """The rules of `reset`."""
    yield "the reward at reset is not 0.", first.reward == 0.0
    yield "the discount at reset is not 1: a fresh state is terminal.", first.discount != 0.0
    yield "a fresh state is truncated.", ~first.truncated


def _end_rules(outcomes: TimeStep, spec: EnvironmentSpec) -> _Rules:
    """The rules of terminations and truncations; `outcomes` is `[T, B]`."""
    terminated, truncated = outcomes.discount == 0.0, outcomes.truncated
    last = terminated | truncated
    yield "a step is terminated and truncated at once.", ~(terminated & truncated)
    yield "a step is truncated, but spec.can_truncate is False.", ~truncated | spec.can_truncate
    if spec.num_players == 2:
        has_changed = outcomes.to_play[1:] != outcomes.to_play[:-1]
        rule = "a player moves twice in a row; the value is negated at every step."
        yield rule, has_changed | last[1:] | last[:-1]
    if spec.max_episode_steps is not None:
        steps = np.arange(1, len(last) + 1)[:, np.newaxis]
        ends = np.maximum.accumulate(np.where(last, steps, 0))
        # An unfinished episode takes at least one step more.
        longest = (steps - np.pad(ends, ((1, 0), (0, 0)))[:-1] + ~last).max()
        bound = f"spec.max_episode_steps is {spec.max_episode_steps}."
        rule = f"an episode takes {longest} steps or more, but {bound}"
        yield rule, longest <= spec.max_episode_steps


def _rules(timestep: TimeStep, spec: EnvironmentSpec) -> _Rules:
    """The rules of all time steps, with any leading axes."""
    going_on = timestep.discount != 0.0
    rule = "a discount is neither 0 nor 1; the agent's own discount is applied elsewhere."
    yield rule, ~going_on | (timestep.discount == 1.0)
    is_free = timestep.legal_action_mask.any(axis=-1) | (spec.num_actions == 0)
    yield "a state that is not terminal has no legal action.", ~going_on | is_free
    is_player = (timestep.to_play >= 0) & (timestep.to_play < spec.num_players)
    yield f"to_play is outside 0 ... {spec.num_players - 1}.", is_player
    yield "a reward is not finite.", np.isfinite(timestep.reward)
    observation = timestep.observation.astype(np.float32)
    yield "an observation is not finite.", np.isfinite(observation)
    if spec.num_players == 2:
        total = timestep.reward.sum(axis=-1)
        yield "the rewards of the two players do not sum to 0.", np.abs(total) < 1e-5
