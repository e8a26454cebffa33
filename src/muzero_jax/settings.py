"""Settings as plain data: to and from nested dictionaries, and changes to them by dotted name."""

import dataclasses
import difflib
import typing
from collections.abc import Iterable, Mapping
from typing import Any, Literal

from muzero_jax.config import ConfigError, ExperimentConfig
from muzero_jax.dotted import flatten


def config_to_dict(config: ExperimentConfig) -> dict[str, Any]:
    """The whole configuration as nested dictionaries of numbers, strings, booleans and lists."""
    return _plain(dataclasses.asdict(config))


def config_from_dict(tree: Mapping[str, Any]) -> ExperimentConfig:
    """The inverse of `config_to_dict`; settings that are missing take their defaults.

    Raises:
      ConfigError: an unknown setting, a wrong type, or a value that is not allowed.
    """
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
    for name in names:
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


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    return list(value) if isinstance(value, tuple) else value


def _rebuild(config: Any, flat: Mapping[str, Any], prefix: str) -> Any:
    """A copy of a (section of the) configuration with the values of `flat`."""
    hints = typing.get_type_hints(type(config))
    values = {}
    for field in dataclasses.fields(config):
        name, value = f"{prefix}{field.name}", getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            value = _rebuild(value, flat, f"{name}.")
        elif name in flat:
            value = _convert(name, flat[name], hints[field.name])
        values[field.name] = value
    return type(config)(**values)


def _convert(name: str, value: Any, hint: Any) -> Any:
    """Checks the type of `value`; a list becomes a tuple, an int a float where one is asked for."""
    if typing.get_origin(hint) is tuple:
        return _convert_tuple(name, value, typing.get_args(hint)[0])
    if typing.get_origin(hint) is Literal:
        choices = typing.get_args(hint)
        if value not in choices:
            raise ConfigError(f"{name} must be one of {', '.join(choices)}, found {value!r}.")
        return value
    accepted = (int, float) if hint is float else (hint,)
    if not isinstance(value, accepted) or (isinstance(value, bool) and hint is not bool):
        raise ConfigError(f"{name} must be {_KINDS[hint]}, found {value!r}.")
    return hint(value)


def _convert_tuple(name: str, value: Any, hint: Any) -> tuple[Any, ...]:
    if not isinstance(value, list | tuple):
        raise ConfigError(f"{name} must be a list, found {value!r}.")
    return tuple(_convert(name, item, hint) for item in value)


_KINDS: Mapping[type, str] = {
    bool: "true or false",
    int: "an integer",
    float: "a number",
    str: "a string",
}
