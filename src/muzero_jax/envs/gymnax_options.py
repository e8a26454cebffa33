"""Options of gymnax environments: arguments of the constructor, and fields of `EnvParams`.

Both are given in one flat list, because no name stands for both in the same task.
"""

import dataclasses
import inspect
import math
from collections.abc import Callable, Mapping
from typing import Any

from muzero_jax.envs.errors import EnvironmentCreationError

# Fields that gymnax computes once from other fields, and not again when one of them changes: for
# each task the field, the fields that it is computed from, and the function that computes it.
_Derived = tuple[str, tuple[str, str], Callable[[float, float], float]]
_DERIVED: Mapping[str, tuple[_Derived, ...]] = {
    "CartPole-v1": (
        ("total_mass", ("masscart", "masspole"), lambda cart, pole: cart + pole),
        ("polemass_length", ("masspole", "length"), lambda mass, length: mass * length),
    )
}


def make_with_options(
    gymnax: Any, name: str, options: Mapping[str, Any], fields: Mapping[str, Any]
) -> tuple[Any, Any]:
    """Makes a gymnax environment and its parameters.

    Args:
      gymnax: the package.
      name: the environment's name in gymnax.
      options: arguments of the constructor and fields of `EnvParams`, by name.
      fields: more fields of `EnvParams`, by name.

    Returns:
      The environment, and its parameters.

    Raises:
      EnvironmentCreationError: there is no such option, or its value has the wrong type.
    """
    suite_env, params = gymnax.make(name)
    arguments = {
        argument: parameter.default
        for argument, parameter in inspect.signature(type(suite_env)).parameters.items()
        if parameter.kind is parameter.POSITIONAL_OR_KEYWORD
    }
    chosen = {option: value for option, value in options.items() if option in arguments}
    if chosen:
        chosen = _suit_all(name, chosen, arguments)
        suite_env, params = gymnax.make(name, **chosen)
    defaults = {field.name: getattr(params, field.name) for field in dataclasses.fields(params)}
    replaced = {option: value for option, value in options.items() if option not in arguments}
    replaced |= fields
    unknown = [option for option in replaced if option not in defaults]
    if unknown:
        raise EnvironmentCreationError(_describe_options(name, unknown[0], arguments, defaults))
    replaced = _suit_all(name, replaced, defaults)
    params = params.replace(**replaced)
    return suite_env, params.replace(**_derive(name, params, replaced))


def _suit_all(name: str, values: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    return {
        option: _suit(f"gymnax:{name}: {option}", value, defaults[option])
        for option, value in values.items()
    }


def _suit(option: str, value: Any, default: Any) -> Any:
    """Returns `value` in the type of `default`, or raises an error that says why it cannot."""
    if not _is_simple(default):
        # A program may give anything; a value in a name is a number, true, false or text.
        _require(not _is_simple(value), f"{option} takes no number and no text, found {value!r}.")
        return value
    if isinstance(default, bool):
        _require(isinstance(value, bool), f"{option} must be true or false, found {value!r}.")
        return value
    if isinstance(default, str):
        return str(value)
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    _require(
        is_number and math.isfinite(value), f"{option} must be a finite number, found {value!r}."
    )
    if isinstance(default, float):
        return float(value)
    _require(value == int(value), f"{option} must be a whole number, found {value!r}.")
    return int(value)


def _is_simple(value: Any) -> bool:
    return isinstance(value, (bool, int, float, str))


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise EnvironmentCreationError(message)


def _derive(name: str, params: Any, replaced: Mapping[str, Any]) -> dict[str, float]:
    """Returns new values of the fields that are computed from replaced ones."""
    return {
        field: compute(*(getattr(params, source) for source in sources))
        for field, sources, compute in _DERIVED.get(name, ())
        if field not in replaced and any(source in replaced for source in sources)
    }


def _describe_options(
    name: str, unknown: str, arguments: Mapping[str, Any], fields: Mapping[str, Any]
) -> str:
    """Returns the sentence about an option that does not exist."""

    def listed(defaults: Mapping[str, Any]) -> str:
        return ", ".join(o for o, default in defaults.items() if _is_simple(default)) or "nothing"

    return (
        f"gymnax:{name} has no option {unknown!r}; its constructor takes {listed(arguments)}, its "
        f"EnvParams have {listed(fields)}, and max_steps sets the time limit."
    )
