"""Trains one run from start to end, or continues it, on one host or several."""

import contextlib
import dataclasses
import shlex
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import jax

from muzero_jax.config import ConfigError, ExperimentConfig
from muzero_jax.core.errors import (
    DiskError,
    InterruptedRunError,
    LostProcessError,
    RunError,
    reason_of,
)
from muzero_jax.core.file_names import LEARNING_CURVE_FILE
from muzero_jax.core.files import writing
from muzero_jax.core.user_code import describe_error
from muzero_jax.process.jax_process import find_devices, prepare_devices
from muzero_jax.process.signals import StopRequest
from muzero_jax.runs import multihost
from muzero_jax.runs.build import build
from muzero_jax.runs.changed_limit import check_limit_can_go, find_start_under_any_limit
from muzero_jax.runs.compiled_run import Programs
from muzero_jax.runs.continuing import continued_config, is_extended, keep_changes
from muzero_jax.runs.host_loop import HostLoop
from muzero_jax.runs.initial_agent import InitialAgent, load_initial_agent, load_recorded_agent
from muzero_jax.runs.run_folder import load_config, locked, new_run_folder, read_result
from muzero_jax.runs.run_start import Start
from muzero_jax.runs.run_writer import RunWriter
from muzero_jax.settings import apply_settings
from muzero_jax.tracking.progress import Listener, make_display
from muzero_jax.tracking.wandb_sink import check_login
from muzero_jax.training.train_state import TrainState


def train(
    config: ExperimentConfig,
    out: Path | None = None,
    num_devices: int = 0,
    init_from: Path | None = None,
    checkpoint: str = "",
) -> dict[str, Any]:
    """Trains from the start, in a new run folder.

    Args:
      config: settings of the run.
      out: run folder; None for a new one under `runs/`.
      num_devices: number of devices over which a run of several shards is spread; 0 lets `build`
        choose.
      init_from: folder of a run with whose learned parameters this run begins; None for new ones.
      checkpoint: name of that run's checkpoint, see `load_run`.

    Returns:
      The content of `result.json`; nothing in processes other than the main one.

    Raises:
      ConfigError: a setting cannot work; nothing is left behind.
      EnvironmentCreationError: the environment cannot be made; nothing is left behind.
      RunError: the run ended early.
    """
    started = time.perf_counter()
    if multihost.is_main():
        check_login([config])
    programs = Programs(build(config, _devices(num_devices)))
    initial = None
    if init_from is not None:
        initial = load_initial_agent(init_from, checkpoint, programs.whole_shapes.agent)
    if not multihost.is_main():
        return _execute(programs, out or Path(), started, initial)
    _warn_of_endless_episodes(programs)
    with new_run_folder(config, out, None if initial is None else initial.origin) as run_dir:
        return _execute(programs, run_dir, started, initial)


def resume(
    run_dir: Path,
    num_devices: int = 0,
    changes: Mapping[str, Any] = MappingProxyType({}),
    restart: bool = False,
) -> dict[str, Any]:
    """Continues a run, bit for bit as if it had not been interrupted.

    Args:
      run_dir: run folder.
      num_devices: number of devices, see `train`. On other devices than before, the numbers are the
        same up to rounding.
      changes: settings that change, by dotted name, see `continued_config`.
      restart: whether a run that has lost its checkpoints begins anew.

    Returns:
      The content of `result.json`, at once if the run is finished.

    Raises:
      ConfigError: a changed setting cannot work, or the run uses W&B and nobody is logged in;
        nothing is changed then.
      InvalidRunError: the folder is not a run folder, or its run cannot go on.
      RunError: the run ended early.
    """
    started = time.perf_counter()
    continued_config(run_dir, load_config(run_dir), changes)  # Refuses before a lock is made.
    devices = _devices(num_devices)
    with locked(run_dir) if multihost.is_main() else contextlib.nullcontext():
        config = load_config(run_dir)
        changed = continued_config(run_dir, config, changes)
        result = read_result(run_dir)
        if result is not None and not is_extended(config, changed):
            print(f"{run_dir} is finished: {describe_result(result)}.", *describe_others(result))
            return result
        if multihost.is_main():
            check_login([changed])
        programs = Programs(build(changed, devices))
        check_limit_can_go(run_dir, config, changed, programs.whole_shapes)
        return _execute(programs, run_dir, started, before=config, restart=restart)


def _devices(num_devices: int) -> list[jax.Device] | None:
    """The devices that the user asks for; None to let `build` choose."""
    if num_devices:
        return prepare_devices(num_devices)
    find_devices()
    return None


def _warn_of_endless_episodes(programs: Programs) -> None:
    """Warns at the start of a run whose episodes have no known limit."""
    config = programs.experiment.config
    if programs.experiment.env.spec.max_episode_steps is None:
        print(
            f"warning: {config.environment.name} names no limit to the length of its episodes. An "
            "evaluation cuts them after evaluation.max_episode_steps = "
            f"{config.evaluation.max_episode_steps:,} steps; environment.time_limit cuts them in "
            "training too.",
            file=sys.stderr,
        )


def describe_result(result: Mapping[str, Any]) -> str:
    """The final score and its cost, in half a sentence."""
    cut = result.get("episodes_cut", 0)
    told = f" ({cut} of them cut)" if cut else ""
    return (
        f"score {result['score_mean']:.4g} ± {result['score_std']:.3g} over {result['episodes']} "
        f"greedy episodes{told} after {result['env_steps']:,} environment steps, "
        f"{result['train_seconds']:.1f} s of training and {result['compile_seconds']:.1f} s of "
        "compiling"
    )


def describe_others(result: Mapping[str, Any]) -> list[str]:
    """A sentence about the scores of the last parameters and of the best agent, if any."""

    def score(name: str) -> str:
        return f"{result[f'{name}_score_mean']:.4g} ± {result[f'{name}_score_std']:.3g}"

    told = []
    if result.get("last_score_mean") is not None:
        told.append(f"the last parameters, without averaging, score {score('last')}")
    if result.get("best_score_mean") is not None:
        steps = f"{result['best_env_steps']:,} environment steps"
        told.append(f"the best agent, after {steps}, scores {score('best')}")
    return [f"In fresh episodes, {' and '.join(told)}."] if told else []


def _execute(
    programs: Programs,
    run_dir: Path,
    started: float,
    initial: InitialAgent | None = None,
    before: ExperimentConfig | None = None,
    restart: bool = False,
) -> dict[str, Any]:
    """Trains a run until it is finished; the caller holds the folder's lock.

    `before` are the settings that the run has had so far, where it goes on with others.
    """
    config, device = programs.experiment.config, jax.local_devices()[0].device_kind
    title = f"{config.name}, seed {config.seed}, on {device}: {run_dir}"
    display = make_display(config, config.total_env_steps, title, is_silent=not multihost.is_main())
    told = "stopping after this chunk, to save it; Ctrl-C aborts at once"
    with StopRequest(lambda _: display.note(told)) as stop, display, _advised(run_dir):
        start = _find_start(programs, run_dir, restart)
        if start.state is None and initial is None:
            initial = load_recorded_agent(run_dir, programs.whole_shapes.agent)
        _keep_changes(run_dir, before or config, config, display)
        with contextlib.closing(RunWriter(config, run_dir, start, display, started)) as run:
            states = [] if start.state is None else [start.state]
            del start  # The list holds the only reference to the state, which chunks overwrite.
            if initial is not None:  # Then the run begins.
                states.append(multihost.collect(initial.put_into(programs.init([config]))))
            loop = HostLoop(programs, [run], states, stop)
            if initial is not None:
                loop.save()  # The initial agent may be gone when the run is continued.
            loop.finish()
        if run.failure is not None:
            raise run.failure
        if run.result is None:
            return {}  # The main process has the result.
        display.activity("drawing the learning curve")
        if notice := _draw_learning_curve(run_dir):
            display.note(notice)
    print(f"finished: {describe_result(run.result)}; everything is in {run_dir}")
    for sentence in describe_others(run.result):
        print(sentence)
    return run.result


def _find_start(programs: Programs, run_dir: Path, restart: bool) -> Start:
    """Where the run is taken up; the main process reads the checkpoint and sends its state."""
    config, shapes, start = programs.experiment.config, programs.whole_shapes, Start()

    def other_shapes() -> TrainState:
        limit = 0 if config.environment.time_limit else 1
        other = build(apply_settings(config, {"environment.time_limit": limit}))
        return Programs(other).whole_shapes

    if multihost.is_main():
        start = find_start_under_any_limit(run_dir, config, shapes, other_shapes, restart)
    env_steps = multihost.agree(None if start.state is None else start.counters.env_steps)
    if env_steps is None:
        return start
    start.counters.env_steps = env_steps
    return dataclasses.replace(start, state=multihost.share(start.state, shapes))


def _keep_changes(
    run_dir: Path, before: ExperimentConfig, config: ExperimentConfig, display: Listener
) -> None:
    """Writes the settings with which a run goes on, where they have changed."""
    if not multihost.is_main():
        return
    with writing(run_dir):
        keep_changes(run_dir, before, config)
    if is_extended(before, config):
        display.note(
            f"the run goes on to {config.total_env_steps:,} environment steps; schedules that "
            "follow the length of the whole run follow the new one"
        )


@contextlib.contextmanager
def _advised(run_dir: Path) -> Iterator[None]:
    """Adds to an error that ends a run early how the run goes on."""
    several = multihost.has_several()
    command = f"muzero train --resume {shlex.quote(str(run_dir))}"
    command += ", on every host" if several else ""
    try:
        yield
    except (InterruptedRunError, DiskError) as error:
        raise error.with_advice(command) from None
    except jax.errors.JaxRuntimeError as error:
        go_on = f"Go on from the last checkpoint with: {command}"
        if several:
            told = f"another process of the run has ended: {reason_of(error, 160)}."
            raise LostProcessError(f"{told} {go_on}") from error
        told = f"a compiled program failed: {describe_error(error)}"
        raise RunError(f"{told} {go_on}") from error


def _draw_learning_curve(run_dir: Path) -> str | None:
    """Draws the learning curve, or returns one line that says why there is none."""
    from muzero_jax.reports.plots import plot_runs

    try:
        plot_runs([run_dir], run_dir / LEARNING_CURVE_FILE)
    except (ConfigError, OSError) as error:
        return f"notice: there is no learning curve. {error}"
    return None
