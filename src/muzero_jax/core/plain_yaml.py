"""YAML as plain data: the one reader and the one writer of this project.

The reader understands numbers as people write them (`1e-3`). It refuses tags, aliases and names
that stand twice in one mapping, which a hostile file abuses.
"""

import re
from pathlib import Path
from typing import Any

import yaml

from muzero_jax.core.errors import ConfigError, reason_of
from muzero_jax.core.files import read_bytes

_INTEGER = re.compile(r"^[-+]?(?:0|[1-9][0-9_]*)$")
_FLOAT = re.compile(
    r"^[-+]?(?:(?:[0-9][0-9_]*\.[0-9_]*|\.[0-9][0-9_]*)(?:[eE][-+]?[0-9]+)?"
    r"|[0-9][0-9_]*[eE][-+]?[0-9]+|\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$"
)


def read_yaml(path: Path, *, is_typed: bool = False) -> Any:
    """Reads a file as nested dictionaries and lists of plain values.

    A path that the user has typed (`is_typed`) may also be a pipe.

    Raises:
      ConfigError: the file cannot be read, is too large, or is not plain YAML.
    """
    try:
        content = read_bytes(path, is_typed=is_typed)
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}.") from error
    try:
        return parse_yaml(content.decode("utf-8"))
    except (ConfigError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not plain YAML: {error}") from error


def parse_yaml(text: str) -> Any:
    """Reads one YAML document as nested dictionaries and lists of plain values.

    Raises:
      ConfigError: the text is not plain YAML.
    """
    try:
        return yaml.load(text, _Loader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigError(f"{reason_of(error, 1000)}.") from error


def dump_yaml(value: Any) -> str:
    """Writes nested dictionaries and lists of plain values as YAML, without aliases."""
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True)


class _Loader(yaml.SafeLoader):
    """Reads plain values only."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        """Refuses an alias, with which a short file can stand for gigabytes."""
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()
            told = f"line {event.start_mark.line + 1} holds the alias *{event.anchor}"
            raise yaml.YAMLError(f"{told}, and aliases are not allowed; write the value out.")
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        """Refuses a name that stands twice; YAML itself would silently keep the last value."""
        seen = set()
        for key, _ in node.value:
            line = key.start_mark.line + 1
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.YAMLError(f"line {line} has a list or a mapping for a name.")
            if key.value in seen:
                raise yaml.YAMLError(f"line {line} gives {key.value} a second time.")
            seen.add(key.value)
        return super().construct_mapping(node, deep)


class _Dumper(yaml.SafeDumper):
    """Writes everything out."""

    def ignore_aliases(self, data: Any) -> bool:
        """Writes no aliases, because the reader refuses them."""
        return True


# YAML 1.1 wants a point in every float, and takes 1e-3 for a text, 010 for 8 and 1:30 for 90.
_NUMBERS = ("tag:yaml.org,2002:float", "tag:yaml.org,2002:int")
_Loader.yaml_implicit_resolvers = {
    first: [pair for pair in pairs if pair[0] not in _NUMBERS]
    for first, pairs in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver("tag:yaml.org,2002:int", _INTEGER, list("-+0123456789"))
_Loader.add_implicit_resolver("tag:yaml.org,2002:float", _FLOAT, list("-+0123456789."))
