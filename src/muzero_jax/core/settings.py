"""Settings as nested frozen dataclasses: dotted names, types, and the values that people write.

A section is a frozen dataclass whose fields are numbers, texts, booleans, `Literal`s, tuples of
these, or further sections.
"""

import contextlib
import dataclasses
import difflib
import functools
import math
import numbers
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, Literal

from muzero_jax.core.checks import KINDS, require_range, require_type, require_types
from muzero_jax.core.errors import ConfigError

_TRACED, _RANGE = "traced", "range"


def traced(default: float, low: float | None = None, high: float | None = None) -> Any:
    """A field whose value travels in the agent's state: members of a sweep may differ in it.

    All other fields decide shapes or control flow of the compiled program.

    Args:
      default: the default value.
      low: the lowest value that a `Section` allows; it allows any where None.
      high: the highest value that a `Section` allows; see `checks.require_range` for None.
    """
    return dataclasses.field(default=default, metadata={_TRACED: True, _RANGE: (low, high)})


def bounded(default: float, low: float, high: float | None = None) -> Any:
    """A field whose value a `Section` refuses outside of a range.

    Args:
      default: the default value.
      low: the lowest value allowed.
      high: the highest value allowed; see `checks.require_range` for None.
    """
    return dataclasses.field(default=default, metadata={_RANGE: (low, high)})


@dataclasses.dataclass(frozen=True)
class Section:
    """A section of the settings, `class SearchConfig(Section, name="search")`, that checks itself.

    It refuses values of another type than their field's, and numbers outside of the ranges that
    `traced` and `bounded` state.
    """

    section: ClassVar[str] = ""

    def __init_subclass__(cls, name: str | None = None) -> None:
        cls.section = cls.section if name is None else name

    def __post_init__(self) -> None:
        require_types(self.section, self)
        for field in dataclasses.fields(self):
            low, high = field.metadata.get(_RANGE, (None, None))
            if low is not None:
                require_range(self.section, self, low, high, field.name)


def is_traced(field: dataclasses.Field[Any]) -> bool:
    """Whether a field was made by `traced`."""
    return bool(field.metadata.get(_TRACED))


def traced_values(section: Any, prefix: str = "") -> dict[str, float]:
    """The values of all fields that were made by `traced`, by dotted name after `prefix`."""
    found: dict[str, float] = {}
    for field in dataclasses.fields(section):
        name, value = f"{prefix}{field.name}", getattr(section, field.name)
        if dataclasses.is_dataclass(value):
            found |= traced_values(value, f"{name}.")
        elif is_traced(field):
            found[name] = float(value)
    return found


@functools.cache
def types_of(section: type, prefix: str = "") -> Mapping[str, Any]:
    """The type of every setting of a section's class, by dotted name after `prefix`, in order."""
    found: dict[str, Any] = {}
    hints = typing.get_type_hints(section)
    for field in dataclasses.fields(section):
        hint = hints[field.name]
        if dataclasses.is_dataclass(hint):
            found |= types_of(typing.cast(type, hint), f"{prefix}{field.name}.")
        else:
            found[f"{prefix}{field.name}"] = hint
    return found


def to_plain(value: Any) -> Any:
    """A section or a value as dictionaries, lists, texts, booleans and numbers, where it is one."""
    if dataclasses.is_dataclass(value):
        return {f.name: to_plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, list | tuple):
        return [to_plain(item) for item in value]
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        return value
    return int(value) if isinstance(value, numbers.Integral) else float(value)


def rebuild(section: Any, flat: Mapping[str, Any], prefix: str = "") -> Any:
    """A copy of a section in which settings are changed, all at once.

    Args:
      section: section to copy.
      flat: changed values by dotted name, as a person may have written them.
      prefix: beginning of the names of this section's settings.

    Raises:
      ConfigError: a value does not suit its setting.
    """
    hints = typing.get_type_hints(type(section))
    values = {}
    for field in dataclasses.fields(section):
        name, value = f"{prefix}{field.name}", getattr(section, field.name)
        if dataclasses.is_dataclass(value):
            value = rebuild(value, flat, f"{name}.")
        elif name in flat:
            value = convert(name, flat[name], hints[field.name])
        values[field.name] = value
    return type(section)(**values)


def check_names(names: Iterable[str], known: Iterable[str], prefix: str = "") -> None:
    """Refuses names that are no settings.

    Args:
      names: names to check.
      known: names of all settings.
      prefix: text before every name in the message.

    Raises:
      ConfigError: a name does not exist; the message lists close matches.
    """
    known = list(known)
    for name in names:
        if name in known:
            continue
        if inner := [setting for setting in known if setting.startswith(f"{name}.")]:
            told = f"is a section; give its settings by name, such as {inner[0]}."
            raise ConfigError(f"{prefix}{name} {told}")
        close = [f"{prefix}{match}" for match in _close_names(name, known)]
        hint = f"did you mean {' or '.join(close)}?" if close else "--help lists them all."
        raise ConfigError(f"unknown setting {prefix}{name}; {hint}")


def _close_names(name: str, known: Sequence[str], most: int = 3) -> list[str]:
    """Close matches of the last part of a name, whose section users forget, and of the whole."""
    last_parts = {candidate: candidate.rpartition(".")[2] for candidate in known}
    different = list(dict.fromkeys(last_parts.values()))
    parts = difflib.get_close_matches(name.rpartition(".")[2], different, n=2, cutoff=0.75)
    by_part = [candidate for part in parts for candidate in known if last_parts[candidate] == part]
    whole = difflib.get_close_matches(name, known, n=most, cutoff=0.75)
    return list(dict.fromkeys([*by_part, *whole]))[:most]


def convert(name: str, value: Any, hint: Any) -> Any:
    """The value of a setting, read from what a person wrote.

    Args:
      name: dotted name of the setting, for the message.
      value: plain value or text; `1e6` may be an integer, `yes` a boolean, and `64,64` a list.
      hint: type of the setting, or that type and None.

    Raises:
      ConfigError: the value does not suit the type.
    """
    if typing.get_origin(hint) is tuple:
        return _convert_tuple(name, value, typing.get_args(hint)[0])
    if isinstance(hint, types.UnionType):
        return None if value is None else convert(name, value, without_none(hint))
    if hint is bool:
        value = BOOLEANS.get(str(value).lower(), value)
    elif hint in (int, float):
        number = whole_number(value) if hint is int else _real(value)
        value = value if number is None else number
    require_type(name, value, hint)
    return value


def without_none(hint: Any) -> Any:
    """Of the type of a value that may be None, such as `int | None`, the type without None."""
    kinds = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    return next(kind for kind in kinds if kind is not type(None))


def is_readable(hint: Any) -> bool:
    """Whether `convert` knows the values of a type."""
    arguments = typing.get_args(hint)
    if typing.get_origin(hint) is tuple:
        return len(arguments) == 2 and arguments[1] is Ellipsis and is_readable(arguments[0])
    if typing.get_origin(hint) is Literal:
        return all(isinstance(choice, str) for choice in arguments)
    return hint in KINDS


def whole_number(value: Any) -> int | None:
    """The integer in a number or text, such as `1e6` or `100_000`; None for anything else."""
    number = _number(value)
    if isinstance(number, numbers.Integral):
        return int(number)
    return int(number) if number is not None and float(number).is_integer() else None


def _real(value: Any) -> float | None:
    number = _number(value)
    try:
        return None if number is None else float(number)
    except OverflowError:
        return math.inf  # An integer beyond the largest float.


def _number(value: Any) -> Any:
    """A number, or the number in a text; None for anything else."""
    if isinstance(value, str):
        for read in (int, float):
            with contextlib.suppress(ValueError):
                return read(value)
    is_number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    return value if is_number else None


def _convert_tuple(name: str, value: Any, hint: Any) -> tuple[Any, ...]:
    if isinstance(value, str):
        value = value.strip("[]() ").replace(",", " ").split()
    elif isinstance(value, numbers.Real):
        value = [value]
    if not isinstance(value, list | tuple):
        raise ConfigError(f"{name} must be a list, found {value!r}.")
    return tuple(convert(name, item, hint) for item in value)


# What the words for yes and no mean.
BOOLEANS: Mapping[str, bool] = {
    **dict.fromkeys(("true", "yes", "on", "1"), True),
    **dict.fromkeys(("false", "no", "off", "0"), False),
}
