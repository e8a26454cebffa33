"""Checks that an environment keeps the protocol: a built-in one, one of a suite, or your own.

    check_environment(make_environment("my_maze:make"), jax.random.key(0))

raises a `ConformanceError` with one sentence about the first rule that is broken. Every run of a
user's environment begins with `check_own_environment`, a shorter form of the check.
"""

import contextlib
from collections.abc import Iterator

import jax

from muzero_jax.core.types import PRNGKey, PyTree, TimeStep
from muzero_jax.envs.base import Environment, random_action
from muzero_jax.envs.conformance.rollout import NUM_COPIES, Plays, check_rollout, require_equal
from muzero_jax.envs.conformance.traces import blaming, check_spec, check_timestep, check_traces
from muzero_jax.envs.errors import ConformanceError

__all__ = ["ConformanceError", "check_environment", "check_own_environment"]

_NUM_SHORT_STEPS = 1
# Up to 1024 steps of each copy, or as many as the time allows.
_SHORT_PLAYS = Plays(num_steps=64, num_calls=16, seconds=1.5)
_HAVE_PASSED: set[tuple[str, type]] = set()


def check_environment(
    env: Environment, rng_key: PRNGKey, *, num_steps: int = 128, eager: bool = True
) -> None:
    """Plays random legal actions and checks every rule of the protocol.

    Args:
      env: an environment that neither resets by itself nor has a batch axis.
      rng_key: consumed.
      num_steps: number of steps in each of 4 copies. The rule that an episode ends within
        `spec.max_episode_steps` is checked within these steps.
      eager: whether to also run the environment without `jit`, operation by operation, which takes
        tens of seconds for a large game.

    Raises:
      ConformanceError: a rule is broken; the message names the environment and the rule.
    """
    with _named(env.spec.name):
        short_key, rollout_key = jax.random.split(rng_key)
        check_spec(env.spec)
        check_traces(env)
        check_rollout(env, rollout_key, Plays(num_steps))
        with blaming("a short play fails"):
            _check_purity(env, short_key, eager=eager)


def check_own_environment(env: Environment, name: str) -> None:
    """Checks an environment that is not part of this package, before a run, within seconds.

    Two programs are compiled: `reset`, and a play of several copies. An environment that has passed
    is not checked again by the same process.

    Args:
      env: the environment as its factory made it.
      name: the name of the environment, with its options.

    Raises:
      ConformanceError: a rule is broken; the message names the environment and the rule.
    """
    if (name, type(env)) in _HAVE_PASSED:
        return
    with _named(name):
        check_spec(env.spec)
        check_traces(env)
        check_rollout(env, jax.random.key(0), _SHORT_PLAYS)
    _HAVE_PASSED.add((name, type(env)))


@contextlib.contextmanager
def _named(name: str) -> Iterator[None]:
    """Puts the environment's name before the sentence."""
    try:
        yield
    except ConformanceError as error:
        raise ConformanceError(f"{name}: {error}") from error


def _check_purity(env: Environment, rng_key: PRNGKey, *, eager: bool) -> None:
    """Checks that a short play gives the same results under `jit`, under `vmap` and without."""
    rng_keys = jax.random.split(rng_key, NUM_COPIES)
    play = jax.jit(lambda rng_key: _play_briefly(env, rng_key))
    batched = jax.jit(jax.vmap(lambda rng_key: _play_briefly(env, rng_key)))(rng_keys)
    for row in range(NUM_COPIES):
        expected = jax.tree.map(lambda leaf, row=row: leaf[row], batched)
        require_equal(play(rng_keys[row]), expected, "vmap and a single run give different results")
    if eager:
        played = _play_briefly(env, rng_keys[0])
        check_timestep("step run without jit", played[-1][1], env.spec)
        require_equal(play(rng_keys[0]), played, "jit and no jit give different results")


def _play_briefly(env: Environment, rng_key: PRNGKey) -> list[tuple[PyTree, TimeStep]]:
    """Resets and takes a few random legal steps; a `scan` would compile even when run eagerly."""
    reset_key, *step_keys = jax.random.split(rng_key, _NUM_SHORT_STEPS + 1)
    moments = [env.reset(reset_key)]
    for step_key in step_keys:
        state, timestep = moments[-1]
        action_key, env_key = jax.random.split(step_key)
        action = random_action(action_key, env.spec, timestep.legal_action_mask)
        moments.append(env.step(env_key, state, action))
    return moments
