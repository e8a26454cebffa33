"""What a module of the user's own must be to serve as a model; it is traced, and never run."""

from collections.abc import Callable
from typing import Any, TypeVar

import flax
import jax
from flax import nnx

from muzero_jax.core.errors import ConfigError
from muzero_jax.core.types import PyTree
from muzero_jax.core.user_code import place_of

T = TypeVar("T")

_METHODS = ("represent", "predict", "dynamics")


def require_methods(module: Any) -> None:
    """Refuses a module without one of MuZero's three functions.

    Raises:
      ConfigError: a method is missing; the message names it.
    """
    missing = [name for name in _METHODS if not callable(getattr(module, name, None))]
    if missing:
        raise ConfigError(
            f"the network {type(module).__name__} has no method {' and no method '.join(missing)}; "
            "it needs represent(observation), predict(embedding) and dynamics(embedding, action)."
        )


def require_only_params(name: str, variables: PyTree) -> None:
    """Refuses linen variables outside the collection `params`.

    Args:
      name: the module's name, for the message.
      variables: what its `init` gives, or shapes of it.

    Raises:
      ConfigError: there are others; the message names the collection and its module.
    """
    for collection, content in variables.items():
        paths = [path for path, _ in jax.tree_util.tree_leaves_with_path(content)]
        if collection == "params" or not paths:
            continue
        where = "/".join(str(getattr(key, "key", key)) for key in paths[0][:-1]) or name
        _refuse_state(name, f"of the collection {collection}", where)


def require_only_nnx_params(name: str, state: PyTree) -> None:
    """Refuses nnx variables that are not `nnx.Param`.

    Args:
      name: the module's name, for the message.
      state: the module's state, or the shapes of its arrays.

    Raises:
      ConfigError: there is one; the message names its kind and its place.
    """
    for path, variable in nnx.to_flat_state(state):
        kind = getattr(variable, "type", type(variable))
        if not issubclass(kind, nnx.Param):
            where = ".".join(map(str, path[:-1])) or name
            _refuse_state(name, f"of the type {kind.__name__}", where)


def _refuse_state(name: str, kind: str, where: str) -> None:
    raise ConfigError(
        f"the network {name} has variables {kind}, in {where}, which would be trained as if they "
        "were parameters; a network may hold parameters only: use LayerNorm or GroupNorm in the "
        "place of BatchNorm, and no dropout."
    )


def explained(what: str, work: Callable[[], T]) -> T:
    """Returns `work()`, which calls the user's code; its errors become one sentence.

    Args:
      what: what is traced, for the message.
      work: is called once.

    Raises:
      ConfigError: the user's code raised an error; with its place in that code.
    """
    try:
        return work()
    except ConfigError:
        raise
    except Exception as error:  # It is the user's code: anything may happen in it.
        hint = ""
        if isinstance(error, flax.errors.InvalidRngError):
            hint = "; a network gets no random numbers after its init, so leave dropout out"
        place = f" ({found})" if (found := place_of(error)) else ""
        raise ConfigError(f"{what} cannot be traced: {_one_line(error)}{hint}{place}.") from error


def shapes_of(what: str, function: Callable[..., PyTree], *args: PyTree) -> PyTree:
    """`jax.eval_shape` of `function(*args)`, whose errors are explained; see `explained`."""
    return explained(what, lambda: jax.eval_shape(function, *args))


def _one_line(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[0].strip().rstrip('.')}"
