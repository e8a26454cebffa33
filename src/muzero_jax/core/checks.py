"""Checks with which a section of the settings refuses values that cannot work."""

import dataclasses
import math
import numbers
from collections.abc import Mapping
from typing import Any, Literal, get_args, get_origin, get_type_hints

from muzero_jax.core.errors import ConfigError


def require(condition: bool, message: str) -> None:
    """Raises `ConfigError` with `message` unless `condition` holds."""
    if not condition:
        raise ConfigError(message)


def require_range(section: str, config: Any, low: float, high: float | None, *names: str) -> None:
    """Refuses values outside `[low, high]`.

    Args:
      section: the section's name, for the message.
      config: the section.
      low: the lowest value allowed.
      high: the highest value allowed, see `require_between`.
      names: names of the settings to check.

    Raises:
      ConfigError: a value lies outside.
    """
    for name in names:
        require_between(f"{section}.{name}", getattr(config, name), low, high)


def require_between(told: str, value: Any, low: float, high: float | None) -> None:
    """Refuses a number outside `[low, high]`.

    Args:
      told: name of the number, for the message.
      value: the number.
      low: the lowest value allowed.
      high: the highest value allowed. None allows any finite number, and any integer that fits into
        32 bits, which counters and indices have in a compiled program.

    Raises:
      ConfigError: the number lies outside.
    """
    if high is not None:
        allowed, inside = f"between {_shown(low)} and {_shown(high)}", low <= value <= high
    elif isinstance(value, numbers.Integral):
        inside = low <= int(value) <= LARGEST_INTEGER
        allowed = f"at most {LARGEST_INTEGER:,}" if int(value) > low else f"at least {low:g}"
    else:
        allowed, inside = f"at least {low:g} and finite", low <= value < math.inf
    require(inside, f"{told} must be {allowed}, found {value!r}.")


def require_types(section: str, config: Any) -> None:
    """Refuses values that are not of their field's type, see `require_type`.

    Raises:
      ConfigError: a value is of another type.
    """
    hints = get_type_hints(type(config))
    for field in dataclasses.fields(config):
        name = field.name
        require_type(f"{section}.{name}".strip("."), getattr(config, name), hints[name])


def require_type(name: str, value: Any, hint: Any) -> None:
    """Refuses a value that is not of a type, or not among the choices of a `Literal`.

    Args:
      name: what the value is, for the message.
      value: any value.
      hint: the type of a setting.

    Raises:
      ConfigError: the value is of another type.
    """
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Literal:
        choices = ", ".join(arguments)
        require(value in arguments, f"{name} must be one of {choices}, found {value!r}.")
    elif origin is tuple:
        require(isinstance(value, tuple), f"{name} must be a tuple, found {value!r}.")
        for item in value:
            require_type(name, item, arguments[0])
    elif hint in KINDS:
        accepted = _ACCEPTED.get(hint, hint)
        is_right = isinstance(value, accepted) and (hint is bool or not isinstance(value, bool))
        require(is_right, f"{name} must be {KINDS[hint]}, found {value!r}.")
    elif hint is not Any:
        kind = type(value).__name__
        require(isinstance(value, hint), f"{name} must be a {hint.__name__}, found a {kind}.")


def require_name(told: str, name: str) -> None:
    """Refuses a name, called `told` in the message, that is none for a file in a folder.

    Raises:
      ConfigError: the name is empty or too long, or a character in it or before it is not allowed.
    """
    require(bool(name), f"{told} must not be empty.")
    size, most = len(name.encode(errors="replace")), f"at most {LONGEST_NAME} bytes"
    require(size <= LONGEST_NAME, f"{told} must have {most}, for folders bear it; found {size}.")
    is_plain = name.isprintable() and not set(name) & set('/\\:*?"<>|') and name[0] not in ".-~ "
    require(
        is_plain,
        f'{told} must be of printable characters, without any of / \\ : * ? " < > | and not '
        f"beginning with a dot, a dash, a tilde or a blank, for folders bear it; found {name!r}.",
    )


def require_seed(told: str, seed: Any) -> int:
    """Returns a seed, named `told` in the message, as an integer of 32 bits for random keys.

    Raises:
      ConfigError: the value is no integer, is negative, or has more than 32 bits.
    """
    is_whole = isinstance(seed, numbers.Integral) and not isinstance(seed, bool)
    is_seed = is_whole and 0 <= seed <= LARGEST_SEED
    require(is_seed, f"{told} must be between 0 and 2^32 - 1, found {seed!r}.")
    return int(seed)


def _shown(number: float) -> str:
    return f"{number:,}" if isinstance(number, int) and number >= 10_000 else f"{number:g}"


LARGEST_INTEGER, LARGEST_SEED = 2**31 - 1, 2**32 - 1
LONGEST_NAME = 100
KINDS = {bool: "true or false", int: "an integer", float: "a number", str: "a string"}
# NumPy's numbers are accepted too.
_ACCEPTED: Mapping[Any, Any] = {int: numbers.Integral, float: numbers.Real}
