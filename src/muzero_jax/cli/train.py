"""`muzero train`: begins a run, or continues one. Nothing here imports JAX at its top."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import tyro

from muzero_jax.cli.experiments import load_experiment
from muzero_jax.cli.options import (
    Between,
    ExperimentOptions,
    experiment_first,
    option_value,
    parse_experiment_options,
    parse_options,
)
from muzero_jax.config import ConfigError, ExperimentConfig
from muzero_jax.core.stages import announce
from muzero_jax.process.jax_process import prepare_jax
from muzero_jax.runs.run_folder import check_new_folder, load_config, read_result
from muzero_jax.settings import apply_settings, describe_other_agent


@dataclasses.dataclass(frozen=True)
class TrainOptions(ExperimentOptions):
    """Trains an experiment, which must come first, or continues a run with --resume."""

    out: Annotated[str, tyro.conf.arg(metavar="DIR")] = ""
    """Run folder; by default a new one, runs/<experiment>/seed<seed>-<time>."""
    num_devices: Annotated[int, Between(0)] = 0
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


def train(
    args: Sequence[str], config: ExperimentConfig | None = None, prog: str = "muzero train"
) -> None:
    """Trains an experiment, or resumes a run.

    Args:
      args: the command line.
      config: the experiment, for a command line that does not begin with one.
      prog: name of the program, for the help and the messages.

    Raises:
      ConfigError: an option or a setting cannot work; nothing is started.
      RunError: the run cannot go on.
    """
    if option_value("resume", args):
        return _resume(args, config, prog)
    return _train(parse_experiment_options(TrainOptions, args, prog, config))


def _train(options: TrainOptions) -> None:
    if options.restart:
        raise ConfigError("--restart begins a run anew that --resume names.")
    if options.checkpoint and not options.init_from:
        raise ConfigError("--checkpoint is one of the run that --init-from names.")
    if options.out:
        check_new_folder(Path(options.out))
    prepare_jax(chooses_devices=True)
    from muzero_jax.runs import runner

    num_devices, settings = _join_hosts(options), options.settings
    if told := describe_other_agent(options.base, settings):
        announce(told)
    if num_devices > 1 and settings.training.num_shards == 1:
        settings = apply_settings(settings, {"training.num_shards": num_devices})
    out, init_from = (Path(path) if path else None for path in (options.out, options.init_from))
    runner.train(settings, out, options.num_devices, init_from, options.checkpoint)


def _resume(args: Sequence[str], config: ExperimentConfig | None, prog: str) -> None:
    from muzero_jax.runs.continuing import check_not_lost, continued_config, is_extended

    if config is None:
        name, args = experiment_first(args)
        config = load_experiment(name) if name else None
    run = Path(option_value("resume", args))
    saved = load_config(run)
    if config is not None and config.name != saved.name:
        raise ConfigError(f"{run} is a run of {saved.name}, not of {config.name}.")
    options = parse_options(TrainOptions, args, prog, saved)
    for name in ("out", "config", "init_from", "checkpoint"):
        if getattr(options, name):
            raise ConfigError(f"--resume continues {run}, where --{name} has no meaning.")
    changed = continued_config(run, saved, options.changes)
    if read_result(run) is None or is_extended(saved, changed):
        check_not_lost(run, saved, options.restart)
    prepare_jax(chooses_devices=True)
    from muzero_jax.runs.runner import resume

    _join_hosts(options)
    resume(run, options.num_devices, options.changes, options.restart)


def _join_hosts(options: TrainOptions) -> int:
    """Joins the other hosts of a distributed run; returns the number of devices."""
    if not options.distributed:
        return options.num_devices
    if options.num_devices:
        raise ConfigError("--distributed uses all devices of all hosts; leave out --num_devices.")
    if not (options.out or options.resume):
        raise ConfigError("--distributed needs --out, the same folder for all hosts, or --resume.")
    from muzero_jax.runs.multihost import count_devices, join_hosts

    join_hosts()
    return count_devices()
