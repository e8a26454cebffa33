"""The part of the conformance check that reads descriptions and traces, and compiles nothing."""

import contextlib
import numbers
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal
from jax.typing import ArrayLike

from muzero_jax.core.types import Array, PyTree, TimeStep
from muzero_jax.core.user_code import describe_error
from muzero_jax.envs.base import Box, Environment, EnvironmentSpec
from muzero_jax.envs.errors import ConformanceError

# JAX remembers the trace of a nested jitted function for each context, and the precision of matrix
# products is part of a context. So each of these makes a new trace and changes no number.
_TRACE_CONTEXTS = ("high", "highest", "bfloat16", "tensorfloat32", "float32")
# Tracing goes on for this long: two traces can agree by chance where there are few outcomes.
_TRACE_SECONDS = 2.0


def require(condition: ArrayLike, message: str) -> None:
    """Raises `ConformanceError` with `message` unless `condition` holds everywhere."""
    if not np.all(condition):
        raise ConformanceError(message)


@contextlib.contextmanager
def blaming(what: str) -> Iterator[None]:
    """Turns any exception of the environment's code into a sentence that begins with `what`."""
    try:
        yield
    except (ConformanceError, KeyboardInterrupt):
        raise
    except BaseException as error:  # The code may try to end the program.
        raise ConformanceError(f"{what}: {describe_error(error)}") from error


def check_spec(spec: EnvironmentSpec) -> None:
    """Checks the types and the values of a description.

    Raises:
      ConformanceError: a field has a type or a value that the protocol does not allow.
    """
    require(isinstance(spec.name, str), f"spec.name is {spec.name!r}, not text.")
    _check_action_space(spec)
    _require_count("num_players", spec.num_players)
    require(spec.num_players in (1, 2), f"spec.num_players is {spec.num_players}, not 1 or 2.")
    require(
        isinstance(spec.can_truncate, bool),
        f"spec.can_truncate is {spec.can_truncate!r}, not True or False.",
    )
    if spec.max_episode_steps is not None:
        _require_count("max_episode_steps", spec.max_episode_steps)
    _check_observation_dtype(spec.observation_dtype)
    _check_observation_shape(spec)


def _check_action_space(spec: EnvironmentSpec) -> None:
    space = spec.action_space
    if not isinstance(space, Box):
        return _require_count("num_actions", spec.num_actions)
    require(
        isinstance(space.shape, tuple) and all(_is_whole(n) and n >= 1 for n in space.shape),
        f"spec.action_space has the shape {space.shape!r}, not a tuple of whole numbers.",
    )
    return require(
        space.low < space.high, f"spec.action_space is from {space.low} to {space.high}."
    )


def _require_count(field: str, value: Any) -> None:
    require(_is_whole(value), f"spec.{field} is {value!r}, not a whole number.")
    require(value >= 1, f"spec.{field} is {value!r}, not at least 1.")


def _is_whole(value: Any) -> bool:
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def _check_observation_dtype(name: Any) -> None:
    try:
        dtype = jnp.dtype(name)
    except TypeError:
        dtype = None
    require(
        dtype is not None and isinstance(name, str) and dtype.name == name,
        f"spec.observation_dtype is {name!r}, not the NumPy name of a dtype, such as 'float32'.",
    )
    require(
        not jnp.issubdtype(dtype, jnp.complexfloating),
        f"spec.observation_dtype is {name!r}; observations are real numbers or booleans.",
    )
    held = jax.dtypes.canonicalize_dtype(name).name
    require(held == name, f"spec.observation_dtype is {name!r}, which JAX holds as {held!r} here.")


def _check_observation_shape(spec: EnvironmentSpec) -> None:
    shape = spec.observation_shape
    described = f"spec.observation_shape is {shape!r}"
    require(
        isinstance(shape, tuple) and all(_is_whole(size) and size >= 1 for size in shape),
        f"{described}, not a tuple of whole numbers of at least 1.",
    )
    if shape == ():
        is_number = jnp.issubdtype(jnp.dtype(spec.observation_dtype), jnp.integer)
        return require(
            is_number, f"spec.observation_dtype is {spec.observation_dtype}, not that of a number."
        )
    return require(
        len(shape) in (1, 3),
        f"{described}, neither a vector (N,) nor a grid (H, W, C), nor () for the number of a "
        "state.",
    )


def check_traces(env: Environment) -> None:
    """Checks shapes and dtypes, and that every trace gives the same program.

    Raises:
      ConformanceError: a shape, a dtype or a structure is wrong, or `reset` or `step` cannot be
        traced or reads something that would be frozen into the compiled program.
    """
    rng_key = jax.eval_shape(jax.random.key, 0)
    is_box = isinstance(env.spec.action_space, Box)
    shape = env.spec.action_space.shape if isinstance(env.spec.action_space, Box) else ()
    action = jax.ShapeDtypeStruct(shape, jnp.float32 if is_box else jnp.int32)
    state = _check_shapes("reset", env.reset, env.spec, rng_key)
    next_state = _check_shapes("step", env.step, env.spec, rng_key, state, action)
    before, after = _describe_leaves(state), _describe_leaves(next_state)
    for path in [*before, *(path for path in after if path not in before)]:
        old, new = before.get(path, "nothing"), after.get(path, "nothing")
        require(old == new, f"step changes state{path} from {old} to {new}.")
    structure, next_structure = str(jax.tree.structure(state)), str(jax.tree.structure(next_state))
    require(
        structure == next_structure,
        f"step changes the state's structure from {structure} to {next_structure}.",
    )
    _check_repetition("reset", env.reset, rng_key)
    _check_repetition("step", env.step, rng_key, state, action)


def _check_shapes(
    name: str, function: Callable[..., PyTree], spec: EnvironmentSpec, *args: PyTree
) -> PyTree:
    """Checks the result of `reset` or `step`, and returns the shapes of the state."""
    result = _trace(name, function, *args)[1]
    require(
        isinstance(result, (tuple, list)) and len(result) == 2,
        f"{name} returns {_describe(result)}, not a pair (state, TimeStep).",
    )
    state, timestep = result
    require(
        isinstance(timestep, TimeStep) or not isinstance(state, TimeStep),
        f"{name} returns (TimeStep, state), not (state, TimeStep).",
    )
    check_timestep(name, timestep, spec)
    return state


def _trace(name: str, function: Callable[..., PyTree], *args: PyTree) -> tuple[Any, PyTree]:
    """The traced program, and the shapes of the result of `function`."""
    with blaming(f"JAX cannot trace {name}"):
        # The lambda is a new function each time, so that JAX traces it anew.
        return jax.make_jaxpr(lambda *args: function(*args), return_shape=True)(*args)


def _describe_leaves(tree: PyTree) -> dict[str, str]:
    """Dtype and shape of each leaf, real or abstract, by its path."""
    return {
        jax.tree_util.keystr(path): _describe(leaf)
        for path, leaf in jax.tree.leaves_with_path(tree)
    }


def _describe(value: Any) -> str:
    """Dtype and shape of an array, and the type of anything else."""
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        return f"{value.dtype}{list(value.shape)}"
    return f"an object of type {type(value).__name__}"


def check_timestep(name: str, timestep: TimeStep, spec: EnvironmentSpec) -> None:
    """Checks the shapes and dtypes of one unbatched `TimeStep`.

    Args:
      name: the function that returned the time step, `reset` or `step`, for the message.
      timestep: the time step; its arrays are real or abstract.
      spec: the environment's description.

    Raises:
      ConformanceError: `timestep` is no `TimeStep`, or a field differs from what `spec` says.
    """
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


def _check_repetition(name: str, function: Callable[..., PyTree], *args: PyTree) -> None:
    """Checks that tracing again gives the same program, with the same numbers in it."""
    start, first = time.monotonic(), None
    for context in _TRACE_CONTEXTS:
        with jax.default_matmul_precision(context):
            program = list(_content(_trace(name, function, *args)[0]))
        first = first or program
        require(
            len(first) == len(program) and all(map(_is_same, first, program)),
            f"{name} becomes another program each time that it is traced: it reads a random "
            "number, a clock or a counter beside its rng_key and state, and the compiled run "
            "would repeat the first one for ever.",
        )
        if program is not first and time.monotonic() - start > _TRACE_SECONDS:
            return


def _content(program: ClosedJaxpr | Jaxpr) -> Iterator[Any]:
    """Yields the operations of a program and every number that is written into it."""
    if isinstance(program, ClosedJaxpr):
        yield from program.consts
        program = program.jaxpr
    for equation in program.eqns:
        yield equation.primitive.name
        yield from _literals(equation.invars)
        for param in jax.tree.leaves(list(equation.params.values())):
            if isinstance(param, (ClosedJaxpr, Jaxpr)):
                yield from _content(param)
            elif isinstance(param, (bool, int, float, str, np.ndarray, np.generic, jax.Array)):
                yield param
    yield from _literals(program.outvars)


def _literals(variables: Any) -> Iterator[Any]:
    return (variable.val for variable in variables if isinstance(variable, Literal))


def _is_same(left: Any, right: Any) -> bool:
    """Whether two parts of a program are the same, to the last bit."""
    if left is right or isinstance(left, (str, int, float)):
        return repr(left) == repr(right)
    left, right = np.asarray(numbers_of(left)), np.asarray(numbers_of(right))
    return (left.dtype, left.shape, left.tobytes()) == (right.dtype, right.shape, right.tobytes())


def numbers_of(leaf: ArrayLike) -> ArrayLike:
    """The numbers of a leaf, which may be a typed PRNG key."""
    is_key = isinstance(leaf, Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    return jax.random.key_data(leaf) if is_key else leaf
