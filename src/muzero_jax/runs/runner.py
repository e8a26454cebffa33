"""Trains one run from start to end, or continues it, on one host or several."""

import contextlib
import dataclasses
import shlex
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import jax

from muzero_jax.checkpoints.checkpoint_folder import checkpoint_steps
from muzero_jax.config import ExperimentConfig
from muzero_jax.core.errors import (
    ConfigError,
    DiskError,
    InterruptedRunError,
    LostProcessError,
    RunError,
    reason_of,
)
from muzero_jax.core.file_names import CHECKPOINTS_FOLDER, LEARNING_CURVE_FILE
from muzero_jax.core.files import writing
from muzero_jax.core.keys import run_keys
from muzero_jax.core.user_code import describe_error
from muzero_jax.process.jax_process import find_devices, prepare_devices
from muzero_jax.process.signals import StopRequest
from muzero_jax.runs import multihost
from muzero_jax.runs.build import build
from muzero_jax.runs.compiled_run import Programs
from muzero_jax.runs.continuing import (
    check_has_work,
    continued_config,
    describe_stretched,
    is_extended,
    keep_changes,
)
from muzero_jax.runs.host_loop import HostLoop
from muzero_jax.runs.initial_agent import InitialAgent, load_initial_agent, load_recorded_agent
from muzero_jax.runs.run_folder import load_config, locked, new_run_folder, read_result
from muzero_jax.runs.run_start import Start, check_limit_can_go, find_start_under_any_limit
from muzero_jax.runs.run_writer import Run, RunWriter
from muzero_jax.settings import apply_settings
from muzero_jax.tracking.progress import Display, make_display
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
      EnvironmentCreationError: the environment cannot be made, or is the user's own and breaks a
        rule of the protocol; nothing is left behind.
      RunError: the run ended early.
    """
    started = time.perf_counter()
    if multihost.is_main():
        check_login([config])
    programs = Programs(build(config, _devices(num_devices)))
    initial = None if init_from is None else load_initial_agent(init_from, checkpoint)
    if initial is not None:
        initial.check_fits(programs.whole_shapes.agent)
    work = _Work(programs, config, config, started, initial)
    if not multihost.is_main():
        return _execute(work, Path())
    _warn_of_endless_episodes(programs, config)
    with new_run_folder(config, out, None if initial is None else initial.origin) as run_dir:
        return _execute(work, run_dir)


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
            check_has_work(run_dir, config, changed)
            print(f"{run_dir} is finished: {describe_result(result)}.")
            return result
        if multihost.is_main():
            check_login([changed])
        programs = Programs(build(changed, devices))
        check_limit_can_go(run_dir, config, changed, programs.whole_shapes)
        work = _Work(programs, config, changed, started, _recorded_agent(run_dir, restart), restart)
        return _execute(work, run_dir)


@dataclasses.dataclass(frozen=True)
class _Work:
    """What a process knows of the run that it is about to train.

    Attributes:
      programs: compiled programs of the run.
      before: settings of the run so far.
      config: settings with which the run goes on.
      started: `time.perf_counter()` when this process began to work on the run.
      initial: agent with which the run begins; None for a new agent.
      restart: whether the run begins anew if it has lost its checkpoints.
    """

    programs: Programs
    before: ExperimentConfig
    config: ExperimentConfig
    started: float
    initial: InitialAgent | None = None
    restart: bool = False


def _recorded_agent(run_dir: Path, restart: bool) -> InitialAgent | None:
    """The agent with which a run began; None if it was new, or if a checkpoint is taken up."""
    if checkpoint_steps(run_dir / CHECKPOINTS_FOLDER) and not restart:
        return None
    return load_recorded_agent(run_dir)


def _warn_of_endless_episodes(programs: Programs, config: ExperimentConfig) -> None:
    """Warns at the start of a run whose episodes have no known limit."""
    if programs.experiment.env.spec.max_episode_steps is None:
        print(
            f"warning: {config.environment.name} names no limit to the length of its episodes. An "
            "evaluation cuts them after evaluation.max_episode_steps = "
            f"{config.evaluation.max_episode_steps:,} steps; environment.time_limit cuts them in "
            "training too.",
            file=sys.stderr,
        )


def _devices(num_devices: int) -> list[jax.Device] | None:
    """The devices that the user asks for; None to let `build` choose."""
    if num_devices:
        return prepare_devices(num_devices)
    find_devices()
    return None


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


def _execute(work: _Work, run_dir: Path) -> dict[str, Any]:
    """Trains a run until it is finished; the caller holds the folder's lock."""
    config, device = work.config, jax.local_devices()[0].device_kind
    title = f"{config.name}, seed {config.seed}, on {device}: {run_dir}"
    display = make_display(config, config.total_env_steps, title, is_silent=not multihost.is_main())

    def confirm(signal_number: int) -> None:
        display.note("stopping after this chunk, to save it; Ctrl-C aborts at once")

    with StopRequest(confirm) as stop, display, contextlib.ExitStack() as stack:
        try:
            run = _bring_to_end(work, run_dir, display, stop, stack)
        except (InterruptedRunError, DiskError) as error:
            raise error.with_advice(_resume_command(run_dir)) from None
        except jax.errors.JaxRuntimeError as error:
            raise _explain(error, run_dir) from error
        if run.failure is not None:
            raise run.failure
        if run.result is None:
            return {}  # The main process has the result.
        display.activity("drawing the learning curve")
        if notice := _draw_learning_curve(run_dir):
            display.note(notice)
    print(f"finished: {describe_result(run.result)}; everything is in {run_dir}")
    return run.result


def _bring_to_end(
    work: _Work, run_dir: Path, display: Display, stop: StopRequest, stack: contextlib.ExitStack
) -> Run:
    """Takes a run up, trains it to its end, and returns it; `stack` closes it."""
    start = _find_start(run_dir, work)
    if multihost.is_main():
        with writing(run_dir):
            keep_changes(run_dir, work.before, work.config)
        if notice := describe_stretched(work.before, work.config):
            display.note(notice)
        run: Run = RunWriter(work.config, run_dir, start, display, work.started)
    else:
        run = Run(work.config, start, display)
    stack.callback(run.close)
    begins, states = start.state is None, [] if start.state is None else [start.state]
    # The list holds the only reference to the state, which the chunks overwrite.
    del start
    begin_with = work.initial.put_into if begins and work.initial is not None else None
    HostLoop(work.programs, [run], states, stop, begin_with=begin_with).finish()
    return run


def _find_start(run_dir: Path, work: _Work) -> Start:
    """Where the run is taken up; the main process reads the checkpoint and sends its state."""
    shapes, start = work.programs.whole_shapes, Start.fresh()

    def other_shapes() -> TrainState:
        limit = 0 if work.config.environment.time_limit else 1
        other = build(apply_settings(work.config, {"environment.time_limit": limit}))
        found: TrainState = jax.eval_shape(other.train.init, run_keys(0)[0])
        return found

    if multihost.is_main():
        start = find_start_under_any_limit(
            run_dir, work.before, shapes, other_shapes, restart=work.restart
        )
    env_steps = multihost.agree(None if start.state is None else start.counters.env_steps)
    if env_steps is None:
        return start
    start.counters.env_steps = env_steps
    return dataclasses.replace(start, state=multihost.share(start.state, shapes))


def _resume_command(run_dir: Path) -> str:
    everywhere = ", on every host" if multihost.has_several() else ""
    return f"muzero train --resume {shlex.quote(str(run_dir))}{everywhere}"


def _explain(error: Exception, run_dir: Path) -> Exception:
    """Turns an error of a compiled program into one that says how the run goes on."""
    if not multihost.has_several():
        return RunError(
            f"a compiled program failed: {describe_error(error)} Go on from the last checkpoint "
            f"with: {_resume_command(run_dir)}"
        )
    return LostProcessError(
        f"another process of the run has ended ({reason_of(error, 160)}); continue from the last "
        f"checkpoint with: {_resume_command(run_dir)}"
    )


def _draw_learning_curve(run_dir: Path) -> str | None:
    """Draws the learning curve, or returns one line that says why there is none."""
    from muzero_jax.reports.plots import plot_runs

    try:
        plot_runs([run_dir], run_dir / LEARNING_CURVE_FILE)
    except (ConfigError, OSError) as error:
        return f"notice: there is no learning curve. {error}"
    return None
