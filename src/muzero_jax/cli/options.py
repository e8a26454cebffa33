"""Reading options with tyro, whose complaints become one sentence. Nothing here imports JAX."""

import contextlib
import dataclasses
import io
import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar, cast

import tyro

from muzero_jax.cli.guard import asks_for_help
from muzero_jax.cli.setting_tokens import canonical_tokens, named_setting, tokens_of
from muzero_jax.config import ConfigError, ExperimentConfig
from muzero_jax.core.dotted import flatten
from muzero_jax.core.plain_yaml import read_yaml
from muzero_jax.core.terminal import LEAST_COLUMNS, wide_enough
from muzero_jax.core.trust import admit_file, code_references
from muzero_jax.settings import check_names, config_to_dict

OptionsT = TypeVar("OptionsT")

# tyro draws its boxes in one of two styles, by the encoding of where it writes.
_ONE_LINE = 10_000
_FRAME, _RULE = "│ ", "─-╭╮╰╯ "
_SENTENCES = (
    # tyro's word for a section that refuses its values, whose own sentence follows.
    (r"^Error parsing settings[\w.]*: ", ""),
    (r"^Error parsing --(\S+): invalid literal .*?: (.+)", r"\1 must be an integer, found \2"),
    (r"^Error parsing --(\S+): could not convert .*?: (.+)", r"\1 must be a number, found \2"),
    (r"^Error parsing --(\S+): Could not find .*\[(.+)\]", r"\1 cannot be \2; see --help"),
    (r"^invalid choice (.+) for .*'--(.+)'\. .*\((.+)\)", r"\2 must be one of \3, found \1"),
    (r"^Missing value for argument '--(.+)'\..*", r"\1 needs a value"),
    (r"^Missing from (.+?): (\S+) .*", r"\1 needs \2; see --help"),
    (r"^Unrecognized options: (.+)", r"cannot make sense of \1; see --help"),
    (r"(?<!\.)$", "."),
)


@dataclasses.dataclass(frozen=True)
class TrainOptions:
    """Trains an experiment, which must come first, or continues a run with --resume."""

    settings: Annotated[ExperimentConfig, tyro.conf.arg(name="")]
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
    names = [field.name for field in dataclasses.fields(TrainOptions)]
    own = [name for name in names if name not in ("settings", "experiment")]
    check_names(_flag_names(args), also_known=[*own, "help"], prefix="--")
    path = option_value("config", args)
    tokens = _yaml_tokens(Path(path)) if path else []
    tokens += canonical_tokens(args)
    start = TrainOptions(default, experiment=experiment)
    options = parse_options(TrainOptions, tokens, prog, default=start)
    if options.experiment != experiment:
        raise ConfigError(f"cannot make sense of {options.experiment!r}; see --help.")
    return options


def given_settings(args: Sequence[str], settings: ExperimentConfig) -> dict[str, Any]:
    """The settings that are named on a command line, by dotted name, with their values.

    Args:
      args: the command line.
      settings: the settings that were read from it.
    """
    values = flatten(config_to_dict(settings))
    return {name: values[name] for name in _flag_names(args) if name in values}


def parse_options(
    kind: type[OptionsT], args: Sequence[str], prog: str, default: OptionsT | None = None
) -> OptionsT:
    """Reads the options of any command; prints the help and exits where that is asked for.

    Raises:
      ConfigError: tyro's complaint, in one sentence.
    """
    complaint = io.StringIO()
    start: dict[str, Any] = {} if default is None else {"default": default}
    try:
        # A complaint is laid out on one line, for it is taken apart; help fits the terminal.
        columns = LEAST_COLUMNS if asks_for_help(args) else _ONE_LINE
        with contextlib.redirect_stderr(complaint), wide_enough(columns):
            parsed = tyro.cli(kind, prog=prog, args=args, use_underscores=True, **start)
    except SystemExit as error:
        if not error.code:
            raise
        raise ConfigError(_sentence(complaint.getvalue())) from None
    return cast(OptionsT, parsed)


def _flag_names(args: Iterable[str]) -> list[str]:
    """The names of the settings and options that are named."""
    return [named_setting(arg[2:].partition("=")[0]) for arg in args if arg.startswith("--")]


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


def _yaml_tokens(path: Path) -> list[str]:
    """The settings of a YAML file as command-line options, so that the same checks apply."""
    tree = read_yaml(path, is_typed=True)
    if not isinstance(tree, Mapping | None):
        raise ConfigError(f"{path} must hold settings, NAME: VALUE; found {str(tree)[:80]!r}.")
    flat = flatten(tree or {})
    check_names(flat, prefix=f"{path}: ")
    tokens = [token for name, value in flat.items() for token in tokens_of(name, value)]
    admit_file(path, code_references([flat.get("environment.name")]))
    return tokens


def _sentence(complaint: str) -> str:
    """What tyro's box says between its title and the next rule, on one line and in our words."""
    lines = [line.strip(_FRAME) for line in complaint.splitlines()[1:]]
    while lines and not lines[0].strip(_RULE):
        del lines[0]
    text = " ".join(itertools.takewhile(lambda line: line.strip(_RULE), lines))
    for pattern, ours in _SENTENCES:
        text = re.sub(pattern, ours, text)
    return text
