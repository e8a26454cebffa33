"""The `muzero` command: reads what is asked, and calls those who do it."""

import difflib
import functools
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import muzero_jax
from muzero_jax.cli.experiments import load_experiment
from muzero_jax.cli.guard import FLAGS_HELP, TRACEBACK, TRUST, asks_for_help, run_guarded
from muzero_jax.config import ConfigError, ExperimentConfig
from muzero_jax.core.stages import announce
from muzero_jax.settings import apply_settings, describe_other_agent

if TYPE_CHECKING:
    from muzero_jax.cli.options import TrainOptions

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


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit code: 2 for a mistake of the user, else see RunError."""
    args = list(sys.argv[1:] if argv is None else argv)
    command = next((arg for arg in args if arg not in (TRUST, TRACEBACK)), "")
    works = command in _WORKING_COMMANDS and not asks_for_help(args)
    return run_guarded(_dispatch, args, needs_reader=not works)


def train_experiment(config: ExperimentConfig) -> None:
    """Lets an experiment's script be run: `python experiments/NAME.py --seed 1 ...`."""
    prog = f"python {sys.argv[0]}"
    sys.exit(run_guarded(functools.partial(_train, config=config, prog=prog), sys.argv[1:]))


def _dispatch(args: list[str]) -> None:
    if not args or args[0] in ("-h", "--help"):
        print(USAGE, end="")
    elif args[0] == "--version":
        print(f"muzero_jax {muzero_jax.__version__}")
    elif args[0] in _COMMANDS:
        _COMMANDS[args[0]](args[1:])
    else:
        close = difflib.get_close_matches(args[0], _COMMANDS, n=2, cutoff=0.4)
        hint = (
            f"did you mean {' or '.join(close)}?" if close else f"there are {', '.join(_COMMANDS)}."
        )
        raise ConfigError(f"unknown command {args[0]!r}; {hint}")


def _train_command(args: list[str]) -> None:
    """`muzero train`: the experiment comes first, for its settings are the others' defaults."""
    if not args or args[0].startswith("-"):
        return _train(args, None, "muzero train")
    config = load_experiment(args[0])
    return _train(args[1:], config, f"muzero train {args[0]}", experiment=args[0])


def _train(
    args: Sequence[str], config: ExperimentConfig | None, prog: str, experiment: str = ""
) -> None:
    """Trains `config`, or resumes; without a `config` only that and --help are possible."""
    from muzero_jax.cli.arguments import option_value
    from muzero_jax.cli.options import parse_train_options
    from muzero_jax.runs.run_folder import check_new_folder

    if run := option_value("resume", args):
        return _resume(Path(run), args, config, prog)
    options = parse_train_options(args, config or ExperimentConfig(), prog, experiment)
    if config is None:
        raise ConfigError(
            "name an experiment first, such as `muzero train cartpole`; `muzero list` shows all."
        )
    if options.restart:
        raise ConfigError("--restart begins a run anew that --resume names.")
    if options.checkpoint and not options.init_from:
        raise ConfigError("--checkpoint is one of the run that --init-from names.")
    if options.num_devices < 0:
        raise ConfigError(f"--num_devices must be at least 0, found {options.num_devices}.")
    if options.out:
        check_new_folder(Path(options.out))
    from muzero_jax.process.jax_process import prepare_jax

    prepare_jax(chooses_devices=True)
    from muzero_jax.runs.runner import train

    _join_hosts(options)
    settings, num_devices = options.settings, options.num_devices
    if told := describe_other_agent(config, settings):
        announce(told)
    if options.distributed:
        from muzero_jax.runs.multihost import count_devices

        num_devices = count_devices()
    if num_devices > 1 and settings.training.num_shards == 1:
        settings = apply_settings(settings, {"training.num_shards": num_devices})
    out, init_from = (Path(p) if p else None for p in (options.out, options.init_from))
    train(settings, out, options.num_devices, init_from, options.checkpoint)


def _resume(run: Path, args: Sequence[str], config: ExperimentConfig | None, prog: str) -> None:
    from muzero_jax.cli.options import given_settings, parse_train_options
    from muzero_jax.runs.continuing import check_not_lost, continued_config, is_extended
    from muzero_jax.runs.run_folder import load_config, read_result

    saved = load_config(run)
    if config is not None and config.name != saved.name:
        raise ConfigError(f"{run} is a run of {saved.name}, not of {config.name}.")
    options = parse_train_options(args, saved, prog)
    for name in ("out", "config", "init_from", "checkpoint"):
        if getattr(options, name):
            raise ConfigError(f"--resume continues {run}, where --{name} has no meaning.")
    changes = given_settings(args, options.settings)
    changed = continued_config(run, saved, changes)
    if read_result(run) is None or is_extended(saved, changed):
        check_not_lost(run, options.restart)
    from muzero_jax.process.jax_process import prepare_jax

    prepare_jax(chooses_devices=True)
    from muzero_jax.runs.runner import resume

    _join_hosts(options)
    resume(run, options.num_devices, changes, options.restart)


def _join_hosts(options: "TrainOptions") -> None:
    if not options.distributed:
        return
    if options.num_devices:
        raise ConfigError("--distributed uses all devices of all hosts; leave out --num_devices.")
    if not (options.out or options.resume):
        raise ConfigError("--distributed needs --out, the same folder for all hosts, or --resume.")
    from muzero_jax.runs.multihost import join_hosts

    join_hosts()


def _run_command(name: str) -> Callable[[list[str]], None]:
    """A command on runs: its options are read before anything large is imported."""

    def command(args: list[str]) -> None:
        from muzero_jax.cli import runs
        from muzero_jax.cli.options import parse_options

        kind, work = runs.COMMANDS[name]
        work(parse_options(kind, args, f"muzero {name}"))

    return command


def _profile_command(args: list[str]) -> None:
    """`muzero profile search`, `muzero profile loop EXPERIMENT`."""
    from muzero_jax.cli import profile
    from muzero_jax.cli.options import parse_options

    name, *rest = args or ["--help"]
    if name in ("-h", "--help"):
        return print("usage: muzero profile {search,loop EXPERIMENT} ...; add --help for options")
    if name == "loop":
        return profile.profile_loop(rest)
    if name != "search":
        raise ConfigError(f"unknown profile {name!r}; there are search and loop.")
    return profile.profile_search(
        parse_options(profile.ProfileSearchOptions, rest, "muzero profile search")
    )


def _oracle_command(args: list[str]) -> None:
    """`muzero oracle ENV`."""
    from muzero_jax.cli.options import parse_options
    from muzero_jax.cli.oracle import OracleOptions, show_oracle

    show_oracle(parse_options(OracleOptions, args, "muzero oracle"))


def _sweep_command(args: list[str]) -> None:
    """`muzero sweep EXPERIMENT --set NAME=VALUES ... --out DIR`."""
    from muzero_jax.cli.sweep import sweep

    sweep(args)


# Commands that are worth going on with where nobody reads what they print.
_WORKING_COMMANDS = ("train", "sweep", "profile")
_RUN_COMMANDS = ("evaluate", "play", "inspect", "plot", "report", "list")
_COMMANDS: Mapping[str, Callable[[list[str]], None]] = {
    "train": _train_command,
    "sweep": _sweep_command,
    "oracle": _oracle_command,
    "profile": _profile_command,
    **{name: _run_command(name) for name in _RUN_COMMANDS},
}
