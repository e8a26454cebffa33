"""The `muzero` command: reads which command is asked for, and calls it."""

import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import muzero_jax
from muzero_jax.cli.guard import FLAGS_HELP, TRACEBACK, TRUST, asks_for_help, run_guarded
from muzero_jax.core.errors import ConfigError, did_you_mean
from muzero_jax.core.user_code import load_reference

if TYPE_CHECKING:
    from muzero_jax.config import ExperimentConfig

USAGE = (
    """\
usage: muzero COMMAND ...

  train EXPERIMENT [--seed 0] [--out DIR] [--config FILE] [--any.setting value]
  train --resume RUN         continue an interrupted run, bit for bit, or a finished one for more
                             steps: --training.num_env_steps
  train EXPERIMENT --init-from RUN
                             begin with what the agent of another run has learned
  sweep EXPERIMENT --out DIR [--seeds 5] [--set NAME=1,2,3 ...]
                             many settings and seeds, in one compiled program a group
  evaluate RUN               greedy score over complete episodes
  play RUN                   watch greedy episodes; --gif FILE draws them
  diagnose RUN               which limit binds learning: exploration, preferences, or the model
  inspect RUN                one decision: its search tree, drawn, and its numbers
  plot RUN [RUN ...]         learning curves of runs
  report SWEEP               a sweep as one HTML page
  oracle ENV                 exact optimum of a tabular environment
  profile search             what searches cost: tables, CSV, figures
  profile loop EXPERIMENT    where the time of a training chunk goes
  list                       experiments and environments

  muzero COMMAND --help      options of a command; muzero train EXPERIMENT --help: all settings
  muzero --version

"""
    + FLAGS_HELP
)
# The function of each command, which takes the rest of the command line.
_COMMANDS: Mapping[str, str] = {
    "train": "muzero_jax.cli.train:train",
    "sweep": "muzero_jax.cli.sweep:sweep",
    "oracle": "muzero_jax.cli.oracle:oracle",
    "profile": "muzero_jax.cli.profile:profile",
    "diagnose": "muzero_jax.cli.diagnose:diagnose",
    **{
        name: f"muzero_jax.cli.runs:{name}"
        for name in ("evaluate", "play", "inspect", "plot", "report")
    },
    "list": "muzero_jax.cli.runs:list_all",
}
# Commands that are worth going on with where nobody reads what they print.
_WORKING_COMMANDS = ("train", "sweep", "profile")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit code: 2 for a mistake of the user, else see RunError."""
    args = list(sys.argv[1:] if argv is None else argv)
    command = next((arg for arg in args if arg not in (TRUST, TRACEBACK)), "")
    works = command in _WORKING_COMMANDS and not asks_for_help(args)
    return run_guarded(_dispatch, args, needs_reader=not works)


def train_experiment(config: "ExperimentConfig") -> None:
    """Lets an experiment's script be run: `python experiments/NAME.py --seed 1 ...`."""

    def work(args: list[str]) -> None:
        load_reference(_COMMANDS["train"])(args, config, f"python {sys.argv[0]}")

    sys.exit(run_guarded(work, sys.argv[1:]))


def _dispatch(args: list[str]) -> None:
    name = args[0] if args else "--help"
    if name in ("-h", "--help"):
        print(USAGE, end="")
    elif name == "--version":
        print(f"muzero_jax {muzero_jax.__version__}")
    elif name in _COMMANDS:
        load_reference(_COMMANDS[name])(args[1:])
    else:
        raise ConfigError(f"unknown command {name!r}; {did_you_mean(name, _COMMANDS)}")
