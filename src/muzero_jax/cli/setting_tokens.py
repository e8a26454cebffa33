"""Settings on a command line, as people write them, brought to the one form that tyro reads.

`--replay.prioritised true`, `--logging.wandb=no`, `--training.num_env_steps 1e6` and
`--network.hidden_sizes 64,64` mean what they look like. Nothing here imports JAX.
"""

import re
import typing
from collections.abc import Sequence
from typing import Any

from muzero_jax.settings import convert_setting, is_boolean_word, setting_type, setting_types


def canonical_tokens(args: Sequence[str]) -> list[str]:
    """The arguments with every setting in the form `--name=value`.

    Args:
      args: the arguments; what is no setting is left as it is, and so is a setting without its
        value, of which tyro complains.

    Raises:
      ConfigError: a value does not suit its setting.
    """
    tokens: list[str] = []
    place = 0
    while place < len(args):
        name, inline = _read_flag(args[place])
        place += 1
        if name not in setting_types():
            tokens.append(args[place - 1])
            continue
        if inline is not None:
            tokens += tokens_of(name, inline)
            continue
        hint = setting_type(name)
        values = _values(args[place:], hint)
        is_list = typing.get_origin(hint) is tuple
        tokens += tokens_of(name, values if is_list else values[0]) if values else [args[place - 1]]
        place += len(values)
    return tokens


def tokens_of(name: str, value: Any) -> list[str]:
    """A setting as command-line arguments.

    Args:
      name: its dotted name.
      value: a plain value, or the text or the words of one.

    Raises:
      ConfigError: the value does not suit the setting.
    """
    converted = convert_setting(name, value)
    if isinstance(converted, bool):
        section, dot, last = name.rpartition(".")
        return [f"--{name}" if converted else f"--{section}{dot}no_{last}"]
    if isinstance(converted, tuple):
        return [f"--{name}", *map(str, converted)]
    return [f"--{name}={converted}"]


def named_setting(flag: str) -> str:
    """The name that a flag stands for: `--section.no_name` for a boolean `section.name`.

    Args:
      flag: without its dashes and its value.
    """
    name = flag.replace("-", "_")
    positive = re.sub(r"(^|\.)no_", r"\1", name)
    return positive if setting_types().get(positive) is bool else name


def _read_flag(arg: str) -> tuple[str, str | None]:
    """The name of `--name` or `--name=value`, and the value where it stands there."""
    if not arg.startswith("--"):
        return "", None
    flag, equals, value = arg[2:].partition("=")
    return flag.replace("-", "_"), value if equals else None


def _values(following: Sequence[str], hint: Any) -> list[str]:
    """The arguments that belong to a setting of type `hint`, of those that follow its name."""
    values: list[str] = []
    for arg in following:
        if arg.startswith("--"):
            break
        values.append(arg)
    if hint is bool:
        return [word for word in values[:1] if is_boolean_word(word)]
    return values if typing.get_origin(hint) is tuple else values[:1]
