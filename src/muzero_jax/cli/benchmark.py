"""What the benchmark scripts share: an experiment with any overrides in, one object out."""

import argparse
import dataclasses
import json
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from muzero_jax.cli.experiments import load_experiment
from muzero_jax.cli.guard import run_guarded
from muzero_jax.cli.options import parse_train_options
from muzero_jax.config import ConfigError, ExperimentConfig


def run_benchmark(
    parser: argparse.ArgumentParser,
    measure: Callable[[ExperimentConfig, argparse.Namespace], Any],
    arguments: Sequence[str] | None = None,
) -> int:
    """Measures the experiment that the command line names and prints the result.

    Args:
      parser: has the script's own options; the experiment and `--json` are added here, and what it
        does not know is read as settings of the experiment.
      measure: from the settings and the script's options to a dataclass of results.
      arguments: of the command line; those of the process where None.

    Returns:
      The exit code, 2 for a bad setting.
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
    """An experiment's settings, with what the command line says of them.

    Args:
      name: name of the experiment, or path of its script.
      overrides: the part of the command line that holds settings and `--config`.
      prog: name of the command that the help shows.

    Raises:
      ConfigError: there is no such experiment or setting, or a value is not allowed.
    """
    return parse_train_options(overrides, load_experiment(name), prog, name).settings


def _table(results: dict[str, Any]) -> str:
    shown = {k: f"{v:,.4g}" if isinstance(v, float) else str(v) for k, v in results.items()}
    width = max(map(len, shown))
    return "\n".join(f"{name:{width}}  {value}" for name, value in shown.items())


def positive(text: str) -> int:
    """The type of an option that counts something."""
    if not (text.isdecimal() and int(text) >= 1):
        raise argparse.ArgumentTypeError(f"must be an integer of at least 1, found {text!r}")
    return int(text)


class SentenceParser(argparse.ArgumentParser):
    """A parser that complains in one sentence instead of printing its usage."""

    def error(self, message: str) -> NoReturn:
        """Raises what argparse would print.

        Raises:
          ConfigError: always.
        """
        raise ConfigError(f"{message}; see {self.prog} --help.")


def benchmark_parser(doc: str) -> SentenceParser:
    """A parser that shows the whole docstring of a script, examples and all."""
    return SentenceParser(
        description=doc,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="Any setting of the experiment can be added; see `muzero train EXPERIMENT --help`.",
        allow_abbrev=False,
    )
