"""Whether an environment's description and traces keep the protocol; nothing is compiled."""

import time
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal

from muzero_jax.core.checks import require, require_range, require_type
from muzero_jax.core.types import PyTree, TimeStep
from muzero_jax.core.user_code import running
from muzero_jax.envs.base import Box, Environment, EnvironmentSpec

_OBSERVATION_DTYPES = (
    *("bool", "int8", "int16", "int32", "uint8", "uint16", "uint32"),
    *("bfloat16", "float16", "float32"),
)
# JAX remembers the trace of a nested jitted function for each context, and the precision of matrix
# products is part of a context. So each of these makes a new trace and changes no number.
_TRACE_CONTEXTS = ("high", "highest", "bfloat16", "tensorfloat32", "float32")
# Tracing goes on for this long: two traces can agree by chance where there are few outcomes.
_TRACE_SECONDS = 2.0


def check_spec(spec: Any) -> None:
    """Checks the types and the values of a description.

    Raises:
      ConfigError: a field has a type or a value that the protocol does not allow.
    """
    require(isinstance(spec, EnvironmentSpec), "it has no member spec, an EnvironmentSpec.")
    require_type("spec.name", spec.name, str)
    require_type("spec.can_truncate", spec.can_truncate, bool)
    counts = ["num_players"] + ["max_episode_steps"] * (spec.max_episode_steps is not None)
    if isinstance(spec.action_space, Box):
        low, high = spec.action_space.low, spec.action_space.high
        _check_shape("spec.action_space.shape", spec.action_space.shape)
        require(low < high, f"spec.action_space is from {low} to {high}.")
    else:
        counts.append("num_actions")
    for name in counts:
        require_type(f"spec.{name}", getattr(spec, name), int)
    require_range("spec", spec, 1, None, *counts)
    require_range("spec", spec, 1, 2, "num_players")
    require_type("spec.observation_dtype", spec.observation_dtype, str)
    dtypes: tuple[str, ...] = _OBSERVATION_DTYPES
    if spec.observation_shape == ():
        dtypes = tuple(name for name in dtypes if "int" in name)
    require(
        spec.observation_dtype in dtypes,
        f"spec.observation_dtype is {spec.observation_dtype!r}, none of {', '.join(dtypes)}.",
    )
    _check_shape("spec.observation_shape", spec.observation_shape)
    require(
        len(spec.observation_shape) in (0, 1, 3),
        f"spec.observation_shape is {spec.observation_shape}, neither a vector (N,) nor a grid "
        "(H, W, C), nor () for the number of a state.",
    )


def _check_shape(field: str, shape: Any) -> None:
    require_type(field, shape, tuple[int, ...])
    require(min(shape, default=1) >= 1, f"{field} is {shape}, with a size of less than 1.")


def check_traces(env: Environment) -> None:
    """Checks shapes and dtypes, and that every trace gives the same program.

    Raises:
      ConfigError: a shape, a dtype or a structure is wrong, or `reset` or `step` cannot be traced
        or reads something that would be frozen into the compiled program.
    """
    rng_key, space = jax.eval_shape(jax.random.key, 0), env.spec.action_space
    shape, dtype = (space.shape, jnp.float32) if isinstance(space, Box) else ((), jnp.int32)
    action = jax.ShapeDtypeStruct(shape, dtype)
    state = _check_function("reset", env, rng_key)
    next_state = _check_function("step", env, rng_key, state, action)
    before, after = _describe_leaves(state), _describe_leaves(next_state)
    for path in before | after:
        old, new = before.get(path, "nothing"), after.get(path, "nothing")
        require(old == new, f"step changes state{path} from {old} to {new}.")


def _check_function(name: str, env: Environment, *args: PyTree) -> PyTree:
    """Checks what `reset` or `step` returns, and returns the shapes of the state."""
    program, result = _trace(name, env, *args)
    require(
        isinstance(result, (tuple, list)) and len(result) == 2,
        f"{name} returns {_describe(result)}, not a pair (state, TimeStep).",
    )
    _check_timestep(name, result[1], env.spec)
    start = time.monotonic()
    for context in _TRACE_CONTEXTS:
        with jax.default_matmul_precision(context):
            again, _ = _trace(name, env, *args)
        require(
            again == program,
            f"{name} becomes another program each time that it is traced: it reads a random "
            "number, a clock or a counter beside its rng_key and state, and the compiled run "
            "would repeat the first one for ever.",
        )
        if time.monotonic() - start > _TRACE_SECONDS:
            break
    return result[0]


def _trace(name: str, env: Environment, *args: PyTree) -> tuple[list[Any], PyTree]:
    """The content of the traced program, and the shapes of the result."""
    with running(f"JAX cannot trace {name}"):
        # The lambda is a new function each time, so that JAX traces it anew.
        program, result = jax.make_jaxpr(
            lambda *args: getattr(env, name)(*args), return_shape=True
        )(*args)
        return list(_content(program)), result


def _content(program: ClosedJaxpr | Jaxpr) -> Iterator[str | bytes]:
    """Yields the operations of a program and every number that is written into it."""
    parts: list[Any] = []
    if isinstance(program, ClosedJaxpr):
        parts, program = list(program.consts), program.jaxpr
    for equation in program.eqns:
        parts += [equation.primitive.name, *equation.invars]
        parts += jax.tree.leaves(list(equation.params.values()))
    for part in [*parts, *program.outvars]:
        part = part.val if isinstance(part, Literal) else part
        if isinstance(part, (ClosedJaxpr, Jaxpr)):
            yield from _content(part)
        elif isinstance(part, jax.Array) and jnp.issubdtype(part.dtype, jax.dtypes.prng_key):
            yield np.asarray(jax.random.key_data(part)).tobytes()
        elif isinstance(part, (bool, int, float, str, np.ndarray, np.generic, jax.Array)):
            yield np.asarray(part).tobytes()


def _check_timestep(name: str, timestep: TimeStep, spec: EnvironmentSpec) -> None:
    """Checks the shapes and dtypes of a traced `TimeStep`, which `reset` or `step` has returned."""
    require(
        isinstance(timestep, TimeStep),
        f"{name} returns {_describe(timestep)} as its second value, not a TimeStep, which "
        "make_timestep builds.",
    )
    expected = {
        "observation": (spec.observation_shape, spec.observation_dtype),
        "reward": ((spec.num_players,), "float32"),
        "discount": ((), "float32"),
        "truncated": ((), "bool"),
        "legal_action_mask": ((spec.num_actions,), "bool"),
        "to_play": ((), "int32"),
    }
    for field, (shape, dtype) in expected.items():
        found, wanted = _describe(getattr(timestep, field)), f"{dtype}{list(shape)}"
        require(found == wanted, f"{name} gives {field} as {found}, expected {wanted}.")


def _describe_leaves(tree: PyTree) -> dict[str, str]:
    """Dtype and shape of each leaf by its path."""
    leaves = jax.tree.leaves_with_path(tree)
    return {jax.tree_util.keystr(path): _describe(leaf) for path, leaf in leaves}


def _describe(value: Any) -> str:
    """Dtype and shape of an array, and the type of anything else."""
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        return f"{value.dtype}{list(value.shape)}"
    return f"an object of type {type(value).__name__}"
