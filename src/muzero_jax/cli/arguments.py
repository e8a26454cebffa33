"""Command lines as people write them, read by the types of the options. Nothing here imports JAX.

`--replay.prioritised true`, `--logging.wandb=no`, `--training.num_env_steps 1e6` and
`--network.hidden_sizes 64,64` mean what they look like.
"""

import re
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any

from muzero_jax.core.errors import ConfigError
from muzero_jax.core.settings import check_names, convert, is_boolean_word


def read_arguments(
    args: Sequence[str], kinds: Mapping[str, Any]
) -> tuple[list[str], dict[str, Any]]:
    """Reads a command line.

    Args:
      args: the arguments.
      kinds: the types of the options that exist, by dotted name.

    Returns:
      The arguments that belong to no option, and the values of the options by name.

    Raises:
      ConfigError: an option does not exist, is given twice, lacks its value, or has a value that
        does not suit its type.
    """
    check_names(option_names(args, kinds), kinds, prefix="--")
    rest: list[str] = []
    values: dict[str, Any] = {}
    place = 0
    while place < len(args):
        arg = args[place]
        place += 1
        if not arg.startswith("--"):
            rest.append(arg)
            continue
        flag, equals, inline = arg[2:].partition("=")
        name = _name_of(flag, kinds)
        words = [inline] if equals else _words(args[place:], kinds[name])
        place += 0 if equals else len(words)
        if name in values:
            raise ConfigError(f"--{name} is given twice.")
        values[name] = _value(name, flag, words, kinds[name])
    return rest, values


def option_names(args: Sequence[str], kinds: Mapping[str, Any]) -> list[str]:
    """The names of the options on a command line, in order.

    Args:
      args: the arguments.
      kinds: the types of the options that exist, by dotted name.
    """
    flags = [arg[2:].partition("=")[0] for arg in args if arg.startswith("--")]
    return [_name_of(flag, kinds) for flag in flags]


def option_value(name: str, args: Sequence[str]) -> str:
    """The value of `--name value` or `--name=value`; empty where it is missing.

    Args:
      name: the option's name.
      args: the command line.

    Raises:
      ConfigError: the option is given twice.
    """
    found = [arg.partition("=")[0].replace("-", "_") == f"__{name}" for arg in args]
    if sum(found) > 1:
        raise ConfigError(f"--{name} is given twice.")
    if not any(found):
        return ""
    index = found.index(True)
    _, equals, value = args[index].partition("=")
    return value if equals else "".join(args[index + 1 : index + 2])


def _value_kind(hint: Any) -> Any:
    """The type of the values of an option that may be None: of `int | None`, `int`."""
    if isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union:
        return next(kind for kind in typing.get_args(hint) if kind is not type(None))
    return hint


def _name_of(flag: str, kinds: Mapping[str, Any]) -> str:
    """The name that a flag stands for: `section.no_name` for a boolean `section.name`."""
    name = flag.replace("-", "_")
    positive = re.sub(r"(^|\.)no_", r"\1", name)
    return positive if name not in kinds and kinds.get(positive) is bool else name


def _words(following: Sequence[str], hint: Any) -> list[str]:
    """The arguments that belong to an option of type `hint`, of those that follow its name."""
    words: list[str] = []
    for arg in following:
        if arg.startswith("--"):
            break
        words.append(arg)
    if hint is bool:
        return [word for word in words[:1] if is_boolean_word(word)]
    return words if typing.get_origin(hint) is tuple else words[:1]


def _value(name: str, flag: str, words: Sequence[str], hint: Any) -> Any:
    if hint is bool:
        is_negated = flag.replace("-", "_") != name
        return convert(name, words[0], bool) != is_negated if words else not is_negated
    if not words:
        raise ConfigError(f"{name} needs a value.")
    kind = _value_kind(hint)
    return convert(name, list(words) if typing.get_origin(kind) is tuple else words[0], kind)
