"""The options of commands and scripts: frozen dataclasses, with one reader and one help.

A command line is read by the types of the options: `--replay.prioritised true`,
`--logging.wandb=no`, `--training.num_env_steps 1e6` and `--network.hidden_sizes 64,64` mean what
they look like. tyro prints the help. Nothing here imports JAX.
"""

import collections
import dataclasses
import re
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, TypeVar

import tyro

from muzero_jax.cli.experiments import load_experiment
from muzero_jax.cli.guard import asks_for_help
from muzero_jax.config import ConfigError, ExperimentConfig
from muzero_jax.core.checks import LARGEST_SEED, require_between
from muzero_jax.core.dotted import flatten
from muzero_jax.core.plain_yaml import read_yaml
from muzero_jax.core.settings import BOOLEANS, check_names, convert, rebuild, types_of, without_none
from muzero_jax.core.terminal import wide_enough
from muzero_jax.core.trust import admit_file, code_references
from muzero_jax.settings import apply_settings, setting_types

OptionsT = TypeVar("OptionsT")
_POSITIONAL = typing.get_args(tyro.conf.Positional[str])[1]
# Fields of `ExperimentOptions` that are filled from the settings on the command line.
_FILLED = ("settings", "base", "changes")


@dataclasses.dataclass(frozen=True)
class Between:
    """Bounds that stand in the type of an option; in a list, every number keeps them."""

    low: float
    high: float | None = None


Count = Annotated[int, Between(1)]
Seed = Annotated[int, Between(0, LARGEST_SEED)]


@dataclasses.dataclass(frozen=True)
class ExperimentOptions:
    """Options of a command that takes an experiment and any of the experiment's settings.

    `settings` are those of the experiment (`base`) with what the YAML file and the command line
    change; `changes` are those that the command line names, by dotted name.
    """

    settings: tyro.conf.Suppress[Any] = None
    base: tyro.conf.Suppress[Any] = None
    changes: tyro.conf.Suppress[Any] = None
    experiment: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="EXPERIMENT")] = ""
    """Name of an experiment (see `muzero list`), or path of a script that defines CONFIG."""
    config: Annotated[str, tyro.conf.arg(metavar="FILE")] = ""
    """YAML file of settings, nested or dotted; the command line wins over it."""


def parse_experiment_options(
    kind: type[OptionsT], args: Sequence[str], prog: str, config: ExperimentConfig | None = None
) -> OptionsT:
    """Reads a command line that begins with an experiment, see `parse_options`.

    Args:
      kind: a subclass of `ExperimentOptions`.
      args: the command line.
      prog: name of the command, for the help and the messages.
      config: the experiment, for a command line that does not begin with one.

    Raises:
      ConfigError: there is no such experiment, or an option cannot work.
    """
    if config is not None:
        return parse_options(kind, args, prog, config)
    name, own = experiment_first(args)
    if not name and not asks_for_help(args):
        told = f"such as `{prog} cartpole`; `muzero list` shows all."
        raise ConfigError(f"name an experiment first, {told}")
    config = load_experiment(name) if name else ExperimentConfig()
    options: Any = parse_options(kind, own, f"{prog} {name}".strip(), config)
    return typing.cast(OptionsT, dataclasses.replace(options, experiment=name))


def parse_options(
    kind: type[OptionsT],
    args: Sequence[str],
    prog: str,
    base: ExperimentConfig | None = None,
    given: Mapping[str, Any] = MappingProxyType({}),
) -> OptionsT:
    """Reads the options of a command; prints the help and exits where that is asked for.

    Args:
      kind: a dataclass of options, whose sections are dataclasses with defaults.
      args: the command line, without an experiment.
      prog: name of the command, for the help and the messages.
      base: settings of an experiment, for a subclass of `ExperimentOptions`.
      given: values of the command's own options where `args` say nothing, by name.

    Raises:
      ConfigError: an option or setting does not exist, or its value is not allowed.
    """
    file: Mapping[str, Any] = {}
    settings: Mapping[str, Any] = {}
    if base is not None:
        path = option_value("config", args)
        file = _read_file(Path(path), args) if path else {}
        # Another agent has other settings, which must be known before they are read.
        agent = str(option_value("agent", args) or file.get("agent", base.agent))
        settings, file = setting_types(base, agent), {**file, "agent": agent}
        check_names(file, settings, prefix=f"{path}: ")
    if asks_for_help(args):
        _print_help(kind, prog, base and apply_settings(base, {"agent": file["agent"]}))
    values = {**given, **_read_own(kind, args, prog, settings)}
    changes = {name: values.pop(name) for name in settings if name in values}
    options = _build(kind, values, prog)
    if base is not None:
        changed = apply_settings(base, {**file, **changes})
        options = dataclasses.replace(options, settings=changed, base=base, changes=changes)
    return typing.cast(OptionsT, options)


def experiment_first(args: Sequence[str]) -> tuple[str, Sequence[str]]:
    """The experiment with which a command line begins, which may be empty, and the options."""
    has_name = bool(args) and not args[0].startswith("-")
    return (args[0], args[1:]) if has_name else ("", args)


def option_value(name: str, args: Sequence[str]) -> str:
    """The value of `--name value` or `--name=value`; empty where the option is not given."""
    for place, arg in enumerate(args):
        flag, equals, value = arg.partition("=")
        if flag.replace("-", "_") == f"__{name}":
            if not equals and place + 1 == len(args):
                raise ConfigError(f"{name} needs a value.")
            return value if equals else args[place + 1]
    return ""


def untyped_references(tree: Any, args: Sequence[str]) -> list[str]:
    """The names of code in settings that do not stand on the command line too."""
    typed = code_references([*args, *(arg.partition("=")[2] for arg in args)])
    return [name for name in code_references(tree) if name not in typed]


def read_arguments(
    args: Sequence[str], kinds: Mapping[str, Any], texts: Sequence[str] = ()
) -> tuple[list[str], dict[str, Any]]:
    """Reads a command line by the types of its options.

    Args:
      args: the arguments.
      kinds: the types of the options that exist, by dotted name.
      texts: options that take any number of texts, commas included, and may be repeated.

    Returns:
      The arguments that belong to no option, and the values of the options by name.

    Raises:
      ConfigError: an option does not exist, is given twice, or has no value that suits its type.
    """
    rest, values = list[str](), dict[str, Any]()
    waiting = collections.deque(args)
    while waiting:
        arg = waiting.popleft()
        if not arg.startswith("--"):
            rest.append(arg)
            continue
        flag, equals, inline = arg[2:].partition("=")
        flag = flag.replace("-", "_")
        name = _name_of(flag, kinds)
        check_names([name], kinds, prefix="--")
        if name in values and name not in texts:
            raise ConfigError(f"--{name} is given twice.")
        kind = without_none(kinds[name])
        words = [inline] if equals else _words(waiting, kind)
        if name in texts:
            values[name] = (*values.get(name, ()), *words)
        else:
            values[name] = _value(name, words, kind, is_negated=flag != name)
    return rest, values


def _name_of(flag: str, kinds: Mapping[str, Any]) -> str:
    """The name that a flag stands for: `section.no_name` for a boolean `section.name`."""
    positive = re.sub(r"(^|\.)no_", r"\1", flag)
    return positive if flag not in kinds and kinds.get(positive) is bool else flag


def _words(waiting: collections.deque[str], kind: Any) -> list[str]:
    """Takes the words that belong to an option from the arguments after its name."""
    words: list[str] = []
    most = len(waiting) if typing.get_origin(kind) is tuple else 1
    while waiting and len(words) < most and not waiting[0].startswith("--"):
        if kind is bool and waiting[0].lower() not in BOOLEANS:
            break
        words.append(waiting.popleft())
    return words


def _value(name: str, words: Sequence[str], kind: Any, is_negated: bool) -> Any:
    if kind is bool:
        return convert(name, words[0], bool) != is_negated if words else not is_negated
    if not words:
        raise ConfigError(f"{name} needs a value.")
    return convert(name, " ".join(words) if typing.get_origin(kind) is tuple else words[0], kind)


def _read_own(
    kind: type, args: Sequence[str], prog: str, settings: Mapping[str, Any]
) -> dict[str, Any]:
    """The values of a command's own options and of settings, by name, as the command line says."""
    own = {name: hint for name, hint in types_of(kind).items() if name not in _FILLED}
    positional = [name for name in own if _POSITIONAL in _metadata(kind, name)]
    flags = {name: hint for name, hint in own.items() if name not in positional}
    texts = [name for name, hint in flags.items() if hint == tuple[str, ...]]
    rest, values = read_arguments(args, {**flags, **settings}, texts)
    for name in positional if rest and not settings else ():
        is_list = typing.get_origin(own[name]) is tuple
        values[name], rest = (tuple(rest), []) if is_list else (rest[0], rest[1:])
    if rest:
        raise ConfigError(f"cannot make sense of {rest[0]!r}; see {prog} --help.")
    return values


def _build(kind: Any, values: Mapping[str, Any], prog: str) -> Any:
    """A dataclass of options with the given values, and its defaults elsewhere."""
    required = [f.name for f in dataclasses.fields(kind) if f.default is dataclasses.MISSING]
    for name in required:
        if name not in values:
            raise ConfigError(f"{prog} needs {name.upper()}; see --help.")
    options = rebuild(kind(**{name: values[name] for name in required}), values)
    for name in values:
        value = getattr(options, name, None)
        if value == ():
            raise ConfigError(f"--{name} needs at least one value.")
        bounds_of_it = [one for one in _metadata(kind, name) if isinstance(one, Between)]
        for bounds in bounds_of_it if value is not None else ():
            for number in value if isinstance(value, tuple) else [value]:
                require_between(f"--{name}", number, bounds.low, bounds.high)
    return options


def _metadata(kind: type, name: str) -> tuple[Any, ...]:
    """What stands beside the type of an option in its annotation."""
    return typing.get_args(typing.get_type_hints(kind, include_extras=True).get(name))[1:]


def _read_file(path: Path, args: Sequence[str]) -> dict[str, Any]:
    """The settings of a YAML file by dotted name; names of code that were typed are the user's."""
    tree = read_yaml(path, is_typed=True)
    if not isinstance(tree, Mapping | None):
        raise ConfigError(f"{path} must hold settings, NAME: VALUE; found {str(tree)[:80]!r}.")
    flat = flatten(tree or {})
    admit_file(path, untyped_references(flat, args))
    return flat


def _print_help(kind: Any, prog: str, config: ExperimentConfig | None) -> typing.NoReturn:
    """Prints the help of a dataclass of options, with the settings of a run, and exits."""
    if config is not None:
        settings = _flat_settings(config)
        hint: Any = Annotated[type(settings), tyro.conf.arg(name="")]
        kind = with_defaults(kind, {"settings": (hint, settings)})
    with wide_enough():
        tyro.cli(kind, prog=prog, args=["--help"], use_underscores=True)
    raise SystemExit(0)


def _flat_settings(config: ExperimentConfig) -> Any:
    """The settings of a run as one flat dataclass, which shows those of its agent among them."""
    told = {
        "name": "Name of the experiment, used for the run folder.",
        "seed": "Seed of everything random in the run.",
        "agent": "The learner: a name, or module:definition of your own.",
    }
    fields = {}
    for name in (*told, "environment", "training", "evaluation", "logging"):
        value = getattr(config, name)
        fields[name] = Annotated[type(value), tyro.conf.arg(help=told.get(name))], value
    learner = config.learner
    values = {field.name: getattr(learner, field.name) for field in dataclasses.fields(learner)}
    return with_defaults(type(learner), fields)(**values)


def with_defaults(kind: Any, fields: Mapping[str, tuple[Any, Any]]) -> Any:
    """A dataclass like `kind` with other fields: types and defaults by name."""
    own = [(name, hint, dataclasses.field(default=x)) for name, (hint, x) in fields.items()]
    doc = {"__doc__": kind.__doc__}
    return dataclasses.make_dataclass("Options", own, bases=(kind,), frozen=True, namespace=doc)
