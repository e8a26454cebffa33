"""The options of the commands; tyro prints their help. Nothing here imports JAX."""

import dataclasses
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar

import tyro

from muzero_jax.cli.arguments import option_names, option_value, read_arguments
from muzero_jax.cli.guard import asks_for_help
from muzero_jax.config import ConfigError, ExperimentConfig
from muzero_jax.core.dotted import flatten
from muzero_jax.core.plain_yaml import read_yaml
from muzero_jax.core.settings import check_names, convert, types_of
from muzero_jax.core.terminal import LEAST_COLUMNS, wide_enough
from muzero_jax.core.trust import admit_file, code_references
from muzero_jax.settings import apply_settings, config_to_dict, setting_types

OptionsT = TypeVar("OptionsT")
_POSITIONAL = typing.get_args(tyro.conf.Positional[str])[1]


@dataclasses.dataclass(frozen=True)
class TrainOptions:
    """Trains an experiment, which must come first, or continues a run with --resume."""

    settings: Annotated[Any, tyro.conf.arg(name="")]
    experiment: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="EXPERIMENT")] = ""
    """Name of an experiment (see `muzero list`), or path of a script that defines CONFIG."""
    out: Annotated[str, tyro.conf.arg(metavar="DIR")] = ""
    """Run folder; by default a new one, runs/<experiment>/seed<seed>-<time>."""
    config: Annotated[str, tyro.conf.arg(metavar="FILE")] = ""
    """YAML file of settings, nested or dotted; the command line wins over it."""
    num_devices: int = 0
    """Devices that the run is spread over, each with its share of environments, replay and batch;
    sets training.num_shards where that is 1. It may differ when a run is continued."""
    distributed: bool = False
    """Join the other processes of the run, one on each host (docs/scaling.md)."""
    resume: Annotated[str, tyro.conf.arg(metavar="RUN")] = ""
    """Run folder to continue with the settings it has; a higher training.num_env_steps, another
    environment.time_limit and other settings of the evaluation may be given."""
    restart: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """With --resume: begin anew a run whose checkpoints are gone or damaged."""
    init_from: Annotated[str, tyro.conf.arg(metavar="RUN")] = ""
    """Run folder with whose learned parameters the new run begins; everything else is new."""
    checkpoint: Annotated[str, tyro.conf.arg(metavar="STEP")] = ""
    """With --init-from: checkpoint of that run to begin with, or best; the newest by default."""


def parse_train_options(
    args: Sequence[str], default: ExperimentConfig, prog: str, experiment: str = ""
) -> TrainOptions:
    """Reads the options of training.

    Args:
      args: the command line without the experiment.
      default: the settings where `args` and the YAML file say nothing.
      prog: name of the command that the help shows.
      experiment: name of the experiment, which the result carries.

    Raises:
      ConfigError: an unknown setting, a wrong type, or a value that is not allowed.
    """
    path = option_value("config", args)
    typed = code_references([*args, *(arg.partition("=")[2] for arg in args)])
    file = _read_file(Path(path), typed) if path else {}
    # Another agent has other settings, which must be known before the others are read.
    agent = option_value("agent", args) or file.get("agent", default.agent)
    if asks_for_help(args):
        shown = _settings_for_help(apply_settings(default, {"agent": agent}))
        _print_help(TrainOptions(shown, experiment=experiment), prog)
    own = {name: kind for name, kind in types_of(TrainOptions).items() if name != "settings"}
    kinds = setting_types(default, str(agent))
    check_names(file, kinds, prefix=f"{path}: ")
    rest, values = read_arguments(args, {**own, **kinds})
    if rest:
        raise ConfigError(f"cannot make sense of {rest[0]!r}; see --help.")
    changes = {name: value for name, value in values.items() if name in kinds}
    settings = apply_settings(default, {**file, **changes, "agent": agent})
    return TrainOptions(
        settings,
        experiment=experiment,
        **{name: value for name, value in values.items() if name in own},
    )


def given_settings(args: Sequence[str], settings: ExperimentConfig) -> dict[str, Any]:
    """The settings that are named on a command line, by dotted name, with their values.

    Args:
      args: the command line.
      settings: the settings that were read from it.
    """
    values, kinds = flatten(config_to_dict(settings)), setting_types(settings)
    return {name: values[name] for name in option_names(args, kinds) if name in values}


def parse_options(kind: type[OptionsT], args: Sequence[str], prog: str) -> OptionsT:
    """Reads the options of a command; prints the help and exits where that is asked for.

    Args:
      kind: a dataclass of options, whose sections are dataclasses with defaults.
      args: the command line.
      prog: name of the command, for the help and the messages.

    Raises:
      ConfigError: an option does not exist, or its value does not suit it.
    """
    if asks_for_help(args):
        _print_help(kind, prog)
    kinds = types_of(typing.cast(Any, kind))
    positional = _positional(kind)
    rest, values = read_arguments(args, {k: v for k, v in kinds.items() if k not in positional})
    for name in positional:
        if typing.get_origin(kinds[name]) is tuple:
            values[name], rest = tuple(rest), []
        elif rest:
            values[name] = convert(name, rest.pop(0), kinds[name])
    if rest:
        raise ConfigError(f"cannot make sense of {rest[0]!r}; see {prog} --help.")
    return _build(kind, values, prog, "")


def _build(kind: Any, values: Mapping[str, Any], prog: str, prefix: str) -> Any:
    """A dataclass of options with the given values, and its defaults elsewhere."""
    hints, given = typing.get_type_hints(kind), {}
    for field in dataclasses.fields(kind):
        name = f"{prefix}{field.name}"
        is_required = field.default is dataclasses.MISSING and (
            field.default_factory is dataclasses.MISSING
        )
        if dataclasses.is_dataclass(hints[field.name]):
            given[field.name] = _build(hints[field.name], values, prog, f"{name}.")
        elif name in values:
            given[field.name] = values[name]
        elif is_required:
            raise ConfigError(f"{prog} needs {field.name.upper()}; see --help.")
    return kind(**given)


def _positional(kind: type) -> list[str]:
    """The options that are given without their name, in order."""
    hints = typing.get_type_hints(kind, include_extras=True)
    return [name for name, hint in hints.items() if _POSITIONAL in typing.get_args(hint)[1:]]


def _settings_for_help(config: ExperimentConfig) -> Any:
    """The settings of a run as one flat dataclass, which shows those of its agent among them."""

    def field(name: str, value: Any, told: str = "") -> tuple[str, Any, Any]:
        hint = Annotated[type(value), tyro.conf.arg(help=told)] if told else type(value)
        return name, hint, dataclasses.field(default=value)

    own = [
        field("name", config.name, "Name of the experiment, used for the run folder."),
        field("seed", config.seed, "Seed of everything random in the run."),
        field("agent", config.agent, "The learner: a name, or module:definition of your own."),
        *(field(n, getattr(config, n)) for n in ("environment", "training", "evaluation")),
        field("logging", config.logging),
    ]
    kind = dataclasses.make_dataclass("Settings", own, bases=(type(config.learner),), frozen=True)
    learner = {f.name: getattr(config.learner, f.name) for f in dataclasses.fields(config.learner)}
    return kind(**learner)


def _print_help(kind: Any, prog: str) -> typing.NoReturn:
    """Prints the help of a dataclass of options, or of one with its values, and exits."""
    given: dict[str, Any] = {}
    if isinstance(kind, TrainOptions):
        kind_of_settings: Any = type(kind.settings)
        settings = Annotated[kind_of_settings, tyro.conf.arg(name="")]
        shown = dataclasses.make_dataclass(
            "TrainOptions", [("settings", settings)], bases=(TrainOptions,), frozen=True
        )
        shown.__doc__ = TrainOptions.__doc__
        given, kind = {"default": shown(**vars(kind))}, shown
    with wide_enough(LEAST_COLUMNS):
        tyro.cli(kind, prog=prog, args=["--help"], use_underscores=True, **given)
    raise SystemExit(0)


def _read_file(path: Path, typed: Sequence[str]) -> dict[str, Any]:
    """The settings of a YAML file by dotted name; names of code that were typed are the user's."""
    tree = read_yaml(path, is_typed=True)
    if not isinstance(tree, Mapping | None):
        raise ConfigError(f"{path} must hold settings, NAME: VALUE; found {str(tree)[:80]!r}.")
    flat = flatten(tree or {})
    admit_file(path, [name for name in code_references(flat) if name not in typed])
    return flat
