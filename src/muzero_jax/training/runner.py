"""One run from start to end, on one host or several."""

import contextlib
import dataclasses
import shlex
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax

from muzero_jax.config import ExperimentConfig
from muzero_jax.training import hosts
from muzero_jax.training.build import build
from muzero_jax.training.devices import prepare_devices
from muzero_jax.training.errors import InterruptedRunError, LostProcessError
from muzero_jax.training.lockstep import Lockstep
from muzero_jax.training.programs import Programs
from muzero_jax.training.progress import make_display
from muzero_jax.training.run_folder import load_config, locked, new_run_folder, read_result
from muzero_jax.training.run_writer import Follower, RunWriter, Start, find_start
from muzero_jax.training.signals import StopRequest
from muzero_jax.training.wandb_sink import check_login

LEARNING_CURVE_FILE = "learning_curve.png"


def train(
    config: ExperimentConfig, out: Path | None = None, num_devices: int = 0
) -> dict[str, Any]:
    """Trains from the start, in a new run folder.

    Args:
      config: the settings.
      out: the run folder; a new one under `runs/` where None.
      num_devices: that a run of several shards is spread over, see `build` where 0.

    Returns:
      The content of `result.json`.

    Raises:
      ConfigError: a setting cannot work; nothing is left behind.
      EnvironmentCreationError: likewise, of the environment.
      RunError: the run ended early, see `training.errors`.
    """
    started = time.perf_counter()
    if hosts.is_main():
        check_login([config])
    programs = Programs(build(config, prepare_devices(num_devices) if num_devices else None))
    if not hosts.is_main():
        return _execute(programs, config, Path(), started)
    with new_run_folder(config, out) as run_dir:
        return _execute(programs, config, run_dir, started)


def resume(run_dir: Path, num_devices: int = 0) -> dict[str, Any]:
    """Continues a run, bit for bit as if it had not been interrupted.

    Args:
      run_dir: the run folder.
      num_devices: as for `train`; with other devices the run goes on to rounding.

    Returns:
      The content of `result.json`, at once if the run is finished.

    Raises:
      InvalidRunError: it is not a run folder.
      ConfigError: the run is to be sent to W&B, and nobody is logged in.
      RunError: the run ended early, see `training.errors`.
    """
    started = time.perf_counter()
    config = load_config(run_dir)
    devices = prepare_devices(num_devices) if num_devices else None
    if not hosts.is_main() and read_result(run_dir) is None:
        return _execute(Programs(build(config, devices)), config, run_dir, started)
    with locked(run_dir) if hosts.is_main() else contextlib.nullcontext():
        result = read_result(run_dir)
        if result is not None:
            print(f"{run_dir} is finished: {describe_result(result)}.")
            return result
        if hosts.is_main():
            check_login([config])
        return _execute(Programs(build(config, devices)), config, run_dir, started)


def describe_result(result: Mapping[str, Any]) -> str:
    """The final score and what it took, in half a sentence."""
    return (
        f"score {result['score_mean']:.4g} ± {result['score_std']:.3g} over {result['episodes']} "
        f"greedy episodes after {result['env_steps']:,} environment steps, "
        f"{result['train_seconds']:.1f} s of training and {result['compile_seconds']:.1f} s of "
        "compiling"
    )


def _execute(
    programs: Programs, config: ExperimentConfig, run_dir: Path, started: float
) -> dict[str, Any]:
    """Works on a run until it is finished; the caller holds the folder's lock."""
    device = jax.local_devices()[0].device_kind
    title = f"{config.name}, seed {config.seed}, on {device}: {run_dir}"
    display = make_display(config, config.total_env_steps, title, is_silent=not hosts.is_main())

    def confirm(signal_number: int) -> None:
        display.note("stopping after this chunk, to save it; Ctrl-C aborts at once")

    with StopRequest(confirm) as stop, display, contextlib.ExitStack() as stack:
        start = _find_start(run_dir, programs)
        kind = RunWriter if hosts.is_main() else Follower
        run = kind(config, run_dir, start, display, started)
        stack.callback(run.close)
        states = [] if start.state is None else [start.state]
        # The lists are the only references to the states, which the chunks are given to write over.
        del start
        try:
            Lockstep(programs, [run], states, stop).finish()
        except InterruptedRunError as error:
            raise error.with_advice(_resume_command(run_dir)) from None
        except jax.errors.JaxRuntimeError as error:
            raise _explain(error, run_dir) from error
        if run.failure is not None:
            raise run.failure
        if run.result is None:
            return {}  # The main process has it.
        display.activity("drawing the learning curve")
        if notice := _draw_learning_curve(run_dir):
            display.note(notice)
    print(f"finished: {describe_result(run.result)}; everything is in {run_dir}")
    return run.result


def _find_start(run_dir: Path, programs: Programs) -> Start:
    """The main process reads the checkpoint; the others get what it has read."""
    start = Start.fresh()
    if hosts.is_main():
        start = find_start(run_dir, programs.whole_shapes)
    env_steps = hosts.agree(start.counters.env_steps)
    if not env_steps:
        return start
    start.counters.env_steps = env_steps
    return dataclasses.replace(start, state=hosts.share(start.state, programs.whole_shapes))


def _resume_command(run_dir: Path) -> str:
    everywhere = ", on every host" if hosts.has_several() else ""
    return f"muzero train --resume {shlex.quote(str(run_dir))}{everywhere}"


def _explain(error: Exception, run_dir: Path) -> Exception:
    """What an error of a compiled program means where another process may be the cause of it."""
    if not hosts.has_several():
        return error
    reason = str(error).strip().splitlines()[0][:160]
    return LostProcessError(
        f"another process of the run has ended ({reason}); continue from the last checkpoint with: "
        f"{_resume_command(run_dir)}"
    )


def _draw_learning_curve(run_dir: Path) -> str | None:
    """Draws it, or says in one line why there is none."""
    from muzero_jax.analysis.extras import MissingExtraError
    from muzero_jax.analysis.plots import plot_runs
    from muzero_jax.analysis.runs import RunFolderError

    try:
        plot_runs([run_dir], run_dir / LEARNING_CURVE_FILE)
    except (MissingExtraError, RunFolderError) as error:
        return f"notice: there is no learning curve. {error}"
    return None
