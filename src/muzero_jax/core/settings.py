"""Settings as nested frozen dataclasses: dotted names, types, and the values that people write.

A section is a frozen dataclass whose fields are numbers, texts, booleans, `Literal`s, tuples of
these, or further sections. Nothing here imports JAX.
"""

import contextlib
import dataclasses
import difflib
import functools
import numbers
import typing
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar, Literal

from muzero_jax.core.checks import KINDS, require_range, require_types
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
    types: dict[str, Any] = {}
    hints = typing.get_type_hints(section)
    for field in dataclasses.fields(section):
        hint = hints[field.name]
        if dataclasses.is_dataclass(hint):
            types |= types_of(typing.cast(type, hint), f"{prefix}{field.name}.")
        else:
            types[f"{prefix}{field.name}"] = hint
    return types


def to_plain(value: Any) -> Any:
    """A section or a value as dictionaries, lists, texts, booleans and numbers."""
    if dataclasses.is_dataclass(value):
        return {f.name: to_plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, list | tuple):
        return [to_plain(item) for item in value]
    if isinstance(value, bool | str):
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
    sections = {name.rpartition(".")[0] for name in known} - {""}
    for name in names:
        if name in sections and name not in known:
            example = next(setting for setting in known if setting.startswith(f"{name}."))
            raise ConfigError(
                f"{prefix}{name} is a section; give its settings by name, such as {example}."
            )
        if name not in known:
            close = [f"{prefix}{match}" for match in _close_names(name, known)]
            hint = f"did you mean {' or '.join(close)}?" if close else "--help lists them all."
            raise ConfigError(f"unknown setting {prefix}{name}; {hint}")


def _close_names(name: str, known: Iterable[str], most: int = 3) -> list[str]:
    """Close matches of the last part of a name, whose section users forget, and of the whole."""
    whole = difflib.get_close_matches(name, known, n=most, cutoff=0.75)
    last_parts: dict[str, list[str]] = {}
    for candidate in known:
        last_parts.setdefault(candidate.rpartition(".")[2], []).append(candidate)
    parts = difflib.get_close_matches(name.rpartition(".")[2], last_parts, n=2, cutoff=0.75)
    by_part = [candidate for part in parts for candidate in last_parts[part]]
    return list(dict.fromkeys([*by_part, *whole]))[:most]


def convert(name: str, value: Any, hint: Any) -> Any:
    """The value of a setting, read from what a person wrote.

    Args:
      name: dotted name of the setting, for the message.
      value: plain value or text; `1e6` may be an integer, `yes` a boolean, and `64,64` a list.
      hint: type of the setting.

    Raises:
      ConfigError: the value does not suit the type.
    """
    if typing.get_origin(hint) is tuple:
        return _convert_tuple(name, value, typing.get_args(hint)[0])
    if typing.get_origin(hint) is Literal:
        choices = typing.get_args(hint)
        if value not in choices:
            raise ConfigError(f"{name} must be one of {', '.join(choices)}, found {value!r}.")
        return value
    converted = _READERS[hint](value)
    if converted is None:
        raise ConfigError(f"{name} must be {KINDS[hint]}, found {value!r}.")
    return converted


def is_readable(hint: Any) -> bool:
    """Whether `convert` knows the values of a type."""
    if typing.get_origin(hint) is tuple:
        arguments = typing.get_args(hint)
        return len(arguments) == 2 and arguments[1] is Ellipsis and is_readable(arguments[0])
    if typing.get_origin(hint) is Literal:
        return all(isinstance(choice, str) for choice in typing.get_args(hint))
    return hint in _READERS


def whole_number(value: Any) -> int | None:
    """The integer in a number or text, such as `1e6` or `100_000`; None for anything else."""
    if isinstance(value, str):
        value = _read_number(value)
    is_whole = isinstance(value, numbers.Integral) or (
        isinstance(value, numbers.Real) and float(value).is_integer()
    )
    return int(value) if is_whole and not isinstance(value, bool) else None


def is_boolean_word(text: str) -> bool:
    """Whether a text says yes or no."""
    return text.lower() in _BOOLEANS


def _read_number(text: str) -> int | float | None:
    for read in (int, float):
        with contextlib.suppress(ValueError):
            return read(text)
    return None


def _convert_tuple(name: str, value: Any, hint: Any) -> tuple[Any, ...]:
    if isinstance(value, str):
        value = [part for part in value.strip("[]() ").replace(",", " ").split() if part]
    elif isinstance(value, list | tuple) and len(value) == 1 and isinstance(value[0], str):
        return _convert_tuple(name, value[0], hint)
    if isinstance(value, numbers.Real):
        value = [value]
    if not isinstance(value, list | tuple):
        raise ConfigError(f"{name} must be a list, found {value!r}.")
    return tuple(convert(name, item, hint) for item in value)


def _boolean(value: Any) -> bool | None:
    return value if isinstance(value, bool) else _BOOLEANS.get(str(value).lower())


def _real(value: Any) -> float | None:
    if isinstance(value, str):
        value = _read_number(value)
    is_real = isinstance(value, numbers.Real) and not isinstance(value, bool)
    try:
        return float(value) if is_real else None
    except OverflowError:
        return None  # An integer beyond the largest float.


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


_BOOLEANS: Mapping[str, bool] = {
    **dict.fromkeys(("true", "yes", "on", "1"), True),
    **dict.fromkeys(("false", "no", "off", "0"), False),
}
_READERS: Mapping[Any, Callable[[Any], Any]] = {
    bool: _boolean,
    int: whole_number,
    float: _real,
    str: _text,
}
