"""One check that an environment keeps the protocol, for the built-in, the adapted and your own.

    check_environment(make_environment("my_maze:make"), jax.random.key(0))

raises a `ConformanceError` with one sentence about the first rule that is broken.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from muzero_jax.envs.base import Environment, EnvironmentSpec, random_legal_action
from muzero_jax.envs.wrappers import AutoReset, Vectorised
from muzero_jax.types import Array, PRNGKey, PyTree, TimeStep

_NUM_ENVS = 4
_NUM_SHORT_STEPS = 1


class ConformanceError(AssertionError):
    """An environment breaks a rule of the protocol."""


def check_environment(
    env: Environment, rng_key: PRNGKey, *, num_steps: int = 128, eager: bool = True
) -> None:
    """Plays random legal actions and checks every rule of the protocol.

    Args:
      env: an environment that neither resets by itself nor has a batch axis.
      rng_key: consumed.
      num_steps: steps played in each of 4 copies. The rule that an episode ends within
        `spec.max_episode_steps` is checked as far as this reaches.
      eager: whether to compare with the environment run without `jit`, operation by operation,
        which takes tens of seconds for a large game.

    Raises:
      ConformanceError: a rule is broken; the message names the environment and says which.
    """
    try:
        short_key, rollout_key = jax.random.split(rng_key)
        _check_spec(env.spec)
        _check_shapes(env)
        _check_purity(env, short_key, eager=eager)
        _check_rollout(env, rollout_key, num_steps)
    except ConformanceError as error:
        raise ConformanceError(f"{env.spec.name}: {error}") from None


def _require(condition: ArrayLike, message: str) -> None:
    """Raises unless `condition` holds everywhere."""
    if not np.all(condition):
        raise ConformanceError(message)


def _check_spec(spec: EnvironmentSpec) -> None:
    _require(spec.num_actions >= 1, f"spec.num_actions is {spec.num_actions}, not at least 1.")
    _require(spec.num_players in (1, 2), f"spec.num_players is {spec.num_players}, not 1 or 2.")
    _require(
        len(spec.observation_shape) in (1, 3),
        f"spec.observation_shape is {spec.observation_shape}, no vector [N] and no grid [H, W, C].",
    )
    bound = spec.max_episode_steps
    _require(bound is None or bound >= 1, f"spec.max_episode_steps is {bound}, not at least 1.")


def _check_shapes(env: Environment) -> None:
    """Checks shapes and dtypes without running anything."""
    rng_key = jax.eval_shape(jax.random.key, 0)
    action = jax.ShapeDtypeStruct((), jnp.int32)
    state, first = _trace("reset", env.reset, rng_key)
    _check_timestep("reset", first, env.spec)
    next_state, second = _trace("step", env.step, rng_key, state, action)
    _check_timestep("step", second, env.spec)
    before, after = _describe_leaves(state), _describe_leaves(next_state)
    for path in before.keys() | after.keys():
        old, new = before.get(path, "nothing"), after.get(path, "nothing")
        _require(old == new, f"step changes state{path} from {old} to {new}.")


def _describe_leaves(tree: PyTree) -> dict[str, str]:
    """Returns dtype and shape by path, of real or abstract leaves."""
    return {
        jax.tree_util.keystr(path): f"{leaf.dtype}{list(leaf.shape)}"
        for path, leaf in jax.tree.leaves_with_path(tree)
    }


def _trace(name: str, function: Callable[..., PyTree], *args: PyTree) -> PyTree:
    """Returns the shapes of what `function` gives, or says that JAX cannot trace it."""
    try:
        return jax.eval_shape(function, *args)
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else ""
        raise ConformanceError(
            f"JAX cannot trace {name}: {type(error).__name__}: {reason}"
        ) from error


def _check_timestep(name: str, timestep: TimeStep, spec: EnvironmentSpec) -> None:
    """Checks the shapes and dtypes of one unbatched `TimeStep`, real or abstract."""
    _require(isinstance(timestep, TimeStep), f"{name} returns no TimeStep as its second value.")
    expected = {
        "observation": (spec.observation_shape, spec.observation_dtype),
        "reward": ((spec.num_players,), "float32"),
        "discount": ((), "float32"),
        "truncated": ((), "bool"),
        "legal_action_mask": ((spec.num_actions,), "bool"),
        "to_play": ((), "int32"),
    }
    for field, (shape, dtype) in expected.items():
        value = getattr(timestep, field)
        _require(
            (tuple(value.shape), str(value.dtype)) == (tuple(shape), dtype),
            f"{name} gives {field} as {value.dtype}{list(value.shape)}, expected "
            f"{dtype}{list(shape)}.",
        )


def _check_purity(env: Environment, rng_key: PRNGKey, *, eager: bool) -> None:
    """Checks that a short play depends on its key alone, however it is run."""
    rng_keys = jax.random.split(rng_key, _NUM_ENVS)

    # A new function each time, so that each is traced anew: an environment that draws from a hidden
    # generator does so while it is traced.
    def play_anew() -> Callable[[PRNGKey], PyTree]:
        return jax.jit(lambda rng_key: _play_briefly(env, rng_key))

    play = play_anew()
    single = play(rng_keys[0])
    _require_equal(single, play_anew()(rng_keys[0]), "the same key gives different results")
    batched = jax.jit(jax.vmap(lambda rng_key: _play_briefly(env, rng_key)))(rng_keys)
    for row in range(_NUM_ENVS):
        expected = jax.tree.map(lambda leaf, row=row: leaf[row], batched)
        _require_equal(
            play(rng_keys[row]), expected, "vmap and a single run give different results"
        )
    if eager:
        played = _play_briefly(env, rng_keys[0])
        _check_timestep("step run without jit", played[-1][1], env.spec)
        _require_equal(single, played, "jit and no jit give different results")


def _play_briefly(env: Environment, rng_key: PRNGKey) -> list[tuple[PyTree, TimeStep]]:
    """Resets and takes a few random legal steps; a `scan` would compile even when run eagerly."""
    reset_key, *step_keys = jax.random.split(rng_key, _NUM_SHORT_STEPS + 1)
    moments = [env.reset(reset_key)]
    for step_key in step_keys:
        state, timestep = moments[-1]
        action_key, env_key = jax.random.split(step_key)
        action = random_legal_action(action_key, timestep.legal_action_mask)
        moments.append(env.step(env_key, state, action))
    return moments


def _require_equal(left: PyTree, right: PyTree, message: str) -> None:
    """Requires equality, of floats up to the rounding that a different compilation may bring."""
    pairs = zip(jax.tree.leaves_with_path(left), jax.tree.leaves(right), strict=True)
    for (path, a), b in pairs:
        a, b = (np.asarray(_plain(leaf)) for leaf in (a, b))
        is_float = np.issubdtype(a.dtype, np.floating)
        # A NaN is a broken rule too, but another one, and named by the rollout.
        close = is_float and np.allclose(a, b, rtol=1e-4, atol=1e-5, equal_nan=True)
        equal = close or np.array_equal(a, b)
        _require(equal, f"{message} (at {jax.tree_util.keystr(path)}).")


def _plain(leaf: Array) -> Array:
    """Returns the numbers of a leaf that may be a typed PRNG key."""
    is_key = jnp.issubdtype(jnp.asarray(leaf).dtype, jax.dtypes.prng_key)
    return jax.random.key_data(leaf) if is_key else leaf


def _check_rollout(env: Environment, rng_key: PRNGKey, num_steps: int) -> None:
    """Plays on for `num_steps`, resetting, and checks what the time steps say."""
    first, outcomes = jax.device_get(jax.jit(lambda key: _play(env, key, num_steps))(rng_key))
    _require(first.reward == 0.0, "the reward at reset is not 0.")
    _require(first.discount == 1.0, "the discount at reset is not 1: a fresh state is terminal.")
    _require(~first.truncated, "a fresh state is truncated.")
    _check_ends(outcomes, env.spec)
    for timestep in (first, outcomes):
        _check_values(timestep, env.spec)


def _play(env: Environment, rng_key: PRNGKey, num_steps: int) -> tuple[TimeStep, TimeStep]:
    """Returns the first time steps `[B]` and the outcomes `[T, B]` of random legal play."""
    copies = Vectorised(AutoReset(env), _NUM_ENVS)
    reset_key, play_key = jax.random.split(rng_key)
    state, first = copies.reset(reset_key)

    def body(carry: PyTree, step_key: PRNGKey) -> tuple[PyTree, TimeStep]:
        state, timestep = carry
        action_key, env_key = jax.random.split(step_key)
        action = random_legal_action(action_key, timestep.legal_action_mask)
        state, timestep = copies.step(env_key, state, action)
        return (state, timestep), state.outcome

    _, outcomes = jax.lax.scan(body, (state, first), jax.random.split(play_key, num_steps))
    return first, outcomes


def _check_ends(outcomes: TimeStep, spec: EnvironmentSpec) -> None:
    """Checks terminations and truncations; `outcomes` is `[T, B]`."""
    terminated, truncated = outcomes.discount == 0.0, outcomes.truncated
    _require(
        terminated | (outcomes.discount == 1.0),
        "a discount is neither 0 nor 1; the agent's own discount is applied elsewhere.",
    )
    _require(~(terminated & truncated), "a step is terminated and truncated at once.")
    _require(
        spec.can_truncate or not truncated.any(),
        "a step is truncated, but spec.can_truncate is False.",
    )
    if spec.num_players == 2:
        moved_again = outcomes.to_play[1:] == outcomes.to_play[:-1]
        _require(
            ~moved_again | (terminated | truncated)[1:] | (terminated | truncated)[:-1],
            "a player moves twice in a row; the value is negated at every step.",
        )
    if spec.max_episode_steps is not None:
        longest = _longest_episode(terminated | truncated)
        _require(
            longest <= spec.max_episode_steps,
            f"an episode takes {longest} steps or more, but spec.max_episode_steps is "
            f"{spec.max_episode_steps}.",
        )


def _longest_episode(last: Array) -> int:
    """Returns the most steps that an episode took, the unfinished ones included.

    Args:
      last: `[T, B]` bool, where an episode ends.
    """
    longest, length = 0, np.zeros(last.shape[1], int)
    for ended in last:
        length = length + 1
        # A step that does not end the episode proves that it takes at least one more.
        longest = max(longest, int((length + ~ended).max()))
        length = np.where(ended, 0, length)
    return longest


def _check_values(timestep: TimeStep, spec: EnvironmentSpec) -> None:
    """Checks the values of time steps with any leading axes."""
    going_on = timestep.discount != 0.0
    _require(
        timestep.legal_action_mask.any(axis=-1) | ~going_on,
        "a state that is not terminal has no legal action.",
    )
    _require(
        (timestep.to_play >= 0) & (timestep.to_play < spec.num_players),
        f"to_play is outside 0 ... {spec.num_players - 1}.",
    )
    _require(np.isfinite(timestep.reward), "a reward is not finite.")
    _require(np.isfinite(timestep.observation.astype(np.float32)), "an observation is not finite.")
    if spec.num_players == 2:
        _require(
            np.abs(timestep.reward.sum(axis=-1)) < 1e-5,
            "the rewards of the two players do not sum to 0.",
        )
