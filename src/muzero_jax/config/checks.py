"""How a section of the settings refuses values that cannot work."""

import dataclasses
import math
from typing import Any, Literal, get_args, get_origin


class ConfigError(ValueError):
    """A setting, or a pair of settings, that cannot work; the message is one clear sentence."""


def require(condition: bool, message: str) -> None:
    """Raises `ConfigError` with `message` unless `condition` holds."""
    if not condition:
        raise ConfigError(message)


def require_range(section: str, config: Any, low: float, high: float | None, *names: str) -> None:
    """Refuses values outside `[low, high]`; any finite one from `low` on where `high` is None."""
    for name in names:
        value = getattr(config, name)
        if high is None:
            allowed, inside = f"at least {low:g} and finite", low <= value < math.inf
        else:
            allowed, inside = f"between {low:g} and {high:g}", low <= value <= high
        require(inside, f"{section}.{name} must be {allowed}, found {value!r}.")


def require_choices(section: str, config: Any) -> None:
    """Refuses values that a field's `Literal` does not list."""
    for field in dataclasses.fields(config):
        choices = get_args(field.type) if get_origin(field.type) is Literal else ()
        value = getattr(config, field.name)
        require(
            not choices or value in choices,
            f"{section}.{field.name} must be one of {', '.join(choices)}, found {value!r}.",
        )
