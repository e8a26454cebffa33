"""Command lines of benchmark scripts: an experiment and its settings in, one result out."""

import argparse
import dataclasses
import json
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from muzero_jax.cli.experiments import load_experiment
from muzero_jax.cli.guard import run_guarded
from muzero_jax.cli.options import parse_train_options
from muzero_jax.config import ExperimentConfig
from muzero_jax.core.errors import ConfigError


def run_benchmark(
    parser: argparse.ArgumentParser,
    measure: Callable[[ExperimentConfig, argparse.Namespace], Any],
    arguments: Sequence[str] | None = None,
) -> int:
    """Measures the experiment that the command line names, and prints the result.

    Args:
      parser: parser of the script's own options, to which the experiment and `--json` are added.
        Unknown options are read as settings of the experiment.
      measure: function of the settings and the script's options that makes a dataclass of results.
      arguments: command line; the arguments of the process if None.

    Returns:
      The exit code, which is 2 for a bad setting.
    """
    parser.add_argument("experiment", help="name of an experiment, or path of its script")
    parser.add_argument("--json", action="store_true", help="print one JSON object")

    def work(args: list[str]) -> None:
        options, overrides = parser.parse_known_args(args)
        settings = read_experiment(options.experiment, overrides, parser.prog)
        results = dataclasses.asdict(measure(settings, options))
        print(json.dumps(results) if options.json else _table(results))

    return run_guarded(work, sys.argv[1:] if arguments is None else arguments)


def read_experiment(name: str, overrides: Sequence[str], prog: str) -> ExperimentConfig:
    """The settings of an experiment, with the changes of a command line.

    Args:
      name: name of the experiment, or path of its script.
      overrides: part of the command line that holds settings and `--config`.
      prog: name of the command in its help.

    Raises:
      ConfigError: there is no such experiment or setting, or a value is not allowed.
    """
    return parse_train_options(overrides, load_experiment(name), prog, name).settings


def _table(results: dict[str, Any]) -> str:
    shown = {k: f"{v:,.4g}" if isinstance(v, float) else str(v) for k, v in results.items()}
    width = max(map(len, shown))
    return "\n".join(f"{name:{width}}  {value}" for name, value in shown.items())


def positive(text: str) -> int:
    """The argparse type of an option that counts something."""
    if not (text.isdecimal() and int(text) >= 1):
        raise argparse.ArgumentTypeError(f"must be an integer of at least 1, found {text!r}")
    return int(text)


class SentenceParser(argparse.ArgumentParser):
    """A parser that raises a `ConfigError` of one sentence instead of printing its usage."""

    def error(self, message: str) -> NoReturn:
        """Raises the message that argparse would print."""
        raise ConfigError(f"{message}; see {self.prog} --help.")


def benchmark_parser(doc: str) -> SentenceParser:
    """A parser whose help shows the whole docstring of a script."""
    return SentenceParser(
        description=doc,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="Any setting of the experiment can be added; see `muzero train EXPERIMENT --help`.",
        allow_abbrev=False,
    )
