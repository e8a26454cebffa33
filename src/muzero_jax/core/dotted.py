"""Nested dictionaries by dotted name, and settings with dotted names in a few words."""

from collections.abc import Mapping
from typing import Any

from muzero_jax.core.errors import ConfigError


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flattens nested dictionaries, whose names may be dotted too, to values by dotted name.

    Every name in the result begins with `prefix`.

    Raises:
      ConfigError: a name is given in two forms.
    """
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        is_nested = isinstance(value, Mapping)
        found = flatten(value, f"{prefix}{name}.") if is_nested else {f"{prefix}{name}": value}
        for twice in flat.keys() & found.keys():
            raise ConfigError(f"{twice} is given twice.")
        flat |= found
    return flat


def describe_setting(setting: Mapping[str, Any]) -> str:
    """Values by dotted name in a few words; only the last part of each name is shown."""
    parts = [f"{name.rpartition('.')[2]}={short_value(value)}" for name, value in setting.items()]
    return ", ".join(parts) or "as it is"


def short_value(value: Any) -> str:
    """A value in a few characters."""
    return f"{value:.4g}" if isinstance(value, float) else str(value).replace(" ", "")
