"""Settings as plain data: to and from nested dictionaries, and changes to them by dotted name."""

import contextlib
import dataclasses
import difflib
import functools
import numbers
import typing
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal

from muzero_jax.config import ConfigError, ExperimentConfig
from muzero_jax.core.checks import KINDS
from muzero_jax.core.dotted import flatten


def config_to_dict(config: ExperimentConfig) -> dict[str, Any]:
    """The whole configuration as nested dictionaries of numbers, strings, booleans and lists."""
    return _plain(dataclasses.asdict(config))


def config_from_dict(tree: Any) -> ExperimentConfig:
    """The inverse of `config_to_dict`; settings that are missing take their defaults.

    Args:
      tree: what was read from a file; anything but settings by name is refused.

    Raises:
      ConfigError: an unknown setting, a wrong type, or a value that is not allowed.
    """
    if not isinstance(tree, Mapping):
        raise ConfigError(f"settings must be NAME: VALUE, found {str(tree)[:80]!r}.")
    return apply_settings(ExperimentConfig(), tree)


def apply_settings(config: ExperimentConfig, changes: Mapping[str, Any]) -> ExperimentConfig:
    """Returns `config` with `changes`, all made at once, so that pairs need only suit in the end.

    Args:
      config: where to start.
      changes: values by name; names may be nested, dotted, or both.

    Raises:
      ConfigError: an unknown setting, a wrong type, or a value that is not allowed.
    """
    flat = flatten(changes)
    check_names(flat)
    return typing.cast(ExperimentConfig, _rebuild(config, flat, ""))


def setting_names() -> tuple[str, ...]:
    """Every setting by dotted name, in the order of their definition."""
    return tuple(flatten(config_to_dict(ExperimentConfig())))


def check_names(names: Iterable[str], also_known: Iterable[str] = (), prefix: str = "") -> None:
    """Refuses names that are no settings.

    Args:
      names: to look at.
      also_known: names that are allowed beside the settings.
      prefix: put before every name in the message.

    Raises:
      ConfigError: with the close matches.
    """
    known = [*setting_names(), *also_known]
    sections = {setting.rpartition(".")[0] for setting in known} - {""}
    for name in names:
        if name in sections:
            example = next(setting for setting in known if setting.startswith(f"{name}."))
            raise ConfigError(
                f"{prefix}{name} is a section; give its settings by name, such as {example}."
            )
        if name not in known:
            close = [f"{prefix}{match}" for match in _close_names(name, known)]
            hint = f"did you mean {' or '.join(close)}?" if close else "--help lists them all."
            raise ConfigError(f"unknown setting {prefix}{name}; {hint}")


def _close_names(name: str, known: Iterable[str], most: int = 3) -> list[str]:
    """Matches of the whole name, then of its last part, whose section is easily forgotten."""
    whole = difflib.get_close_matches(name, known, n=most, cutoff=0.75)
    last_parts: dict[str, list[str]] = {}
    for candidate in known:
        last_parts.setdefault(candidate.rpartition(".")[2], []).append(candidate)
    parts = difflib.get_close_matches(name.rpartition(".")[2], last_parts, n=2, cutoff=0.75)
    by_part = [candidate for part in parts for candidate in last_parts[part]]
    return list(dict.fromkeys([*by_part, *whole]))[:most]


@functools.cache
def setting_types() -> Mapping[str, Any]:
    """The type of every setting by dotted name, for example `float`, or a `Literal`."""
    return _types_below(ExperimentConfig, "")


def _types_below(section: Any, prefix: str) -> dict[str, Any]:
    types: dict[str, Any] = {}
    for name, hint in typing.get_type_hints(section).items():
        if dataclasses.is_dataclass(hint):
            types |= _types_below(hint, f"{prefix}{name}.")
        else:
            types[f"{prefix}{name}"] = hint
    return types


def setting_type(name: str) -> Any:
    """The type of the setting with the dotted name `name`."""
    return setting_types()[name]


def convert_setting(name: str, value: Any) -> Any:
    """The value of a setting from what a person wrote.

    Args:
      name: the dotted name of the setting.
      value: a plain value or a text: `1e6` is an integer too, `yes` a boolean, `64,64` a list.

    Raises:
      ConfigError: the value does not suit the type of the setting.
    """
    return _convert(name, value, setting_type(name))


def whole_number(value: Any) -> int | None:
    """The integer that a person wrote, for example as `1e6` or `100_000`; None for anything else.

    Args:
      value: a number or a text.
    """
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


def _plain(value: Any) -> Any:
    """Plain Python values, of NumPy's numbers too."""
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, bool | str):
        return value
    return int(value) if isinstance(value, numbers.Integral) else float(value)


def _rebuild(config: Any, flat: Mapping[str, Any], prefix: str) -> Any:
    """A copy of a (section of the) configuration with the values of `flat`."""
    values = {}
    for field in dataclasses.fields(config):
        name, value = f"{prefix}{field.name}", getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            value = _rebuild(value, flat, f"{name}.")
        elif name in flat:
            value = convert_setting(name, flat[name])
        values[field.name] = value
    return type(config)(**values)


def _convert(name: str, value: Any, hint: Any) -> Any:
    """A value of type `hint` from a plain value or a text."""
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


def _convert_tuple(name: str, value: Any, hint: Any) -> tuple[Any, ...]:
    if isinstance(value, str):
        value = [part for part in value.strip("[]() ").replace(",", " ").split() if part]
    elif isinstance(value, list | tuple) and len(value) == 1 and isinstance(value[0], str):
        return _convert_tuple(name, value[0], hint)
    if isinstance(value, numbers.Real):
        value = [value]
    if not isinstance(value, list | tuple):
        raise ConfigError(f"{name} must be a list, found {value!r}.")
    return tuple(_convert(name, item, hint) for item in value)


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
