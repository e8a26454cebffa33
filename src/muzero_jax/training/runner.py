"""The host's side of a run: between compiled chunks it reports, evaluates, saves, and may stop.

A checkpoint is the state at the end of a chunk, together with the lengths of the report files at
that moment. Whether an evaluation is due depends on the number of steps only, and its keys on the
seed and that number. So whatever happened after a checkpoint can be cut off and done again.
"""

import contextlib
import dataclasses
import shlex
import shutil
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax

from muzero_jax.config import ExperimentConfig
from muzero_jax.training.build import build
from muzero_jax.training.checkpoint import CheckpointWriter
from muzero_jax.training.errors import InterruptedRunError, NonFiniteError, RunError
from muzero_jax.training.evaluation import EvaluationResult, UnfinishedEpisodeError
from muzero_jax.training.loop import FirstFailure
from muzero_jax.training.progress import Display, make_display
from muzero_jax.training.run_folder import (
    CHECKPOINTS_FOLDER,
    FAILURE_FOLDER,
    RESULT_FILE,
    load_config,
    locked,
    new_run_folder,
    read_result,
    write_json,
    write_versions,
)
from muzero_jax.training.session import Session, Start, checkpoint_record, split_state
from muzero_jax.training.signals import StopRequest
from muzero_jax.training.tracking import Tracker, summarise, write_scores

LEARNING_CURVE_FILE = "learning_curve.png"


def train(config: ExperimentConfig, out: Path | None = None) -> dict[str, Any]:
    """Trains from the start, in a new run folder.

    Args:
      config: the settings.
      out: the run folder; a new one under `runs/` where None.

    Returns:
      The content of `result.json`.

    Raises:
      ConfigError: a setting cannot work; nothing is left behind.
      EnvironmentCreationError: likewise, of the environment.
      RunError: the run ended early, see `training.errors`.
    """
    started = time.perf_counter()
    session = Session(build(config))
    with new_run_folder(config, out) as run_dir:
        return _execute(session, run_dir, started)


def resume(run_dir: Path) -> dict[str, Any]:
    """Continues a run, bit for bit as if it had not been interrupted.

    Returns:
      The content of `result.json`, at once if the run is finished.

    Raises:
      InvalidRunError: it is not a run folder.
      RunError: the run ended early, see `training.errors`.
    """
    started = time.perf_counter()
    config = load_config(run_dir)
    with locked(run_dir):
        result = read_result(run_dir)
        if result is not None:
            print(f"{run_dir} is finished: {describe_result(result)}.")
            return result
        return _execute(Session(build(config)), run_dir, started)


def describe_result(result: Mapping[str, Any]) -> str:
    """The final score and what it took, in half a sentence."""
    return (
        f"score {result['score_mean']:.4g} ± {result['score_std']:.3g} over {result['episodes']} "
        f"greedy episodes after {result['env_steps']:,} environment steps, "
        f"{result['train_seconds']:.1f} s of training and {result['compile_seconds']:.1f} s of "
        "compiling"
    )


def _execute(session: Session, run_dir: Path, started: float) -> dict[str, Any]:
    """Works on a run until it is finished; the caller holds the folder's lock."""
    config = session.experiment.config
    device = jax.devices()[0].device_kind
    write_versions(run_dir, device)
    title = f"{config.name}, seed {config.seed}, on {device}: {run_dir}"
    display = make_display(config, total_env_steps(config), title)

    def confirm(signal_number: int) -> None:
        display.note("stopping after this chunk, to save it; Ctrl-C aborts at once")

    with StopRequest(confirm) as stop, display, contextlib.ExitStack() as stack:
        start = session.find_start(run_dir)
        writer = CheckpointWriter(run_dir / CHECKPOINTS_FOLDER, config.logging.checkpoints_kept)
        stack.callback(writer.close)
        tracker = Tracker(run_dir, config, start.position, start.counters.env_steps)
        stack.callback(tracker.close)
        run = _Run(session, run_dir, start, started, display, stop, writer, tracker)
        result = run.finish()
    print(f"finished: {describe_result(result)}; everything is in {run_dir}")
    return result


def total_env_steps(config: ExperimentConfig) -> int:
    """Environment steps of the whole run: `training.num_env_steps` in whole chunks."""
    return config.num_chunks * config.env_steps_per_chunk


class _Run:
    """The loop between the chunks; it owns the only reference to the state, which is donated."""

    def __init__(
        self,
        session: Session,
        run_dir: Path,
        start: Start,
        started: float,
        display: Display,
        stop: StopRequest,
        writer: CheckpointWriter,
        tracker: Tracker,
    ):
        self.session, self.run_dir, self.config = session, run_dir, session.experiment.config
        self.display, self.stop, self.writer, self.tracker = display, stop, writer, tracker
        self.counters = start.counters
        # As if the seconds of earlier processes had passed in this one.
        self.started = started - start.counters.total_seconds
        self.total = total_env_steps(self.config)
        self.saved_step = -1 if start.state is None else start.counters.env_steps
        self.position = tracker.position()
        self._prepare(start)

    def _prepare(self, start: Start) -> None:
        if start.state is not None:
            self.display.note(f"resumed at {start.counters.env_steps:,} environment steps")
        self.display.activity("compiling")
        self.train_chunk, self.state, seconds = self.session.compile(start.state)
        self.counters.compile_seconds += seconds
        self.evaluate = self.session.experiment.make_evaluate()
        self._compile_evaluation()

    def _compile_evaluation(self) -> None:
        """Compiles the evaluation in a thread, beside the first chunks, which need no host.

        What goes wrong there goes wrong again, and is told, when the evaluation is called.
        """

        def prepare() -> None:
            with contextlib.suppress(Exception):
                self.evaluate.prepare(self.session.shapes.agent)

        threading.Thread(target=prepare, name="compile the evaluation").start()

    def finish(self) -> dict[str, Any]:
        """Runs all chunks that are left, then evaluates for good."""
        while self.counters.env_steps < self.total:
            self._stop_if_asked()
            if self._is_due(self.config.evaluation.interval):
                self._evaluate(self.config.evaluation.num_episodes)
                self._stop_if_asked()
            self._train()
            if self._is_due(self.config.logging.checkpoint_interval):
                self._save()
        self._save()
        self._stop_if_asked()
        return self._write_result()

    def _is_due(self, interval: int) -> bool:
        """Whether the last chunk passed a multiple of `interval` (0: never)."""
        steps = self.counters.env_steps
        before = steps - self.config.env_steps_per_chunk
        return interval > 0 and steps > 0 and steps // interval > before // interval

    def _train(self) -> None:
        """One chunk, and its line in the metrics file."""
        self.display.activity("training")
        start = time.perf_counter()
        self.state, metrics = self.train_chunk(self.state)
        watched = (metrics, self.state.agent.num_updates, self.state.first_failure)
        metrics, num_updates, failure = jax.device_get(watched)
        seconds = time.perf_counter() - start
        rates = {
            "time/env_steps_per_second": self.config.env_steps_per_chunk / seconds,
            "time/updates_per_second": (int(num_updates) - self.counters.num_updates) / seconds,
        }
        self.counters.env_steps += self.config.env_steps_per_chunk
        self.counters.num_updates = int(num_updates)
        self.counters.train_seconds += seconds
        row = {**self._counts(), **rates, **{name: float(x) for name, x in metrics.items()}}
        self.tracker.write_metrics(row)
        self.position = self.tracker.position()
        self.display.metrics(row)
        if failure.update >= 0:
            self._fail(failure)

    def _counts(self) -> dict[str, float]:
        return {
            "env_steps": self.counters.env_steps,
            "num_updates": self.counters.num_updates,
            "time/train_seconds": self.counters.train_seconds,
            "time/compile_seconds": self.counters.compile_seconds,
        }

    def _evaluate(self, num_episodes: int) -> tuple[EvaluationResult, dict[str, float]]:
        self.display.activity("evaluating")
        env_steps = self.counters.env_steps
        key = jax.random.fold_in(self.session.evaluation_key, env_steps)
        try:
            result = self.evaluate(self.state.agent, key, num_episodes)
        except UnfinishedEpisodeError as error:
            self._save()
            raise RunError(f"{error} The state is saved in {self.run_dir}.") from error
        row = {
            "env_steps": env_steps,
            "num_updates": self.counters.num_updates,
            "train_seconds": self.counters.train_seconds,
            **summarise(result),
        }
        self.tracker.write_evaluation(row)
        self.display.evaluation(row)
        return result, row

    def _save(self) -> None:
        """A checkpoint of the end of the last chunk, unless there is one."""
        if self.saved_step == self.counters.env_steps:
            return
        self.display.activity("saving")
        self.tracker.sync()
        self.counters.total_seconds = time.perf_counter() - self.started
        record = checkpoint_record(self.counters, self.position)
        self.writer.save(self.counters.env_steps, split_state(self.state), record)
        self.saved_step = self.counters.env_steps

    def _stop_if_asked(self) -> None:
        number = self.stop.signal_number
        if number is None:
            return
        self._save()
        raise InterruptedRunError(
            f"stopped and saved at {self.counters.env_steps:,} environment steps; continue with: "
            f"muzero train --resume {shlex.quote(str(self.run_dir))}",
            number,
        )

    def _fail(self, failure: FirstFailure) -> None:
        """Saves the state apart from the checkpoints, which stay good, and stops."""
        term = self.session.experiment.train.learn_metric_names[int(failure.term)]
        folder = self.run_dir / FAILURE_FOLDER
        shutil.rmtree(folder, ignore_errors=True)  # Of an earlier try that ended the same way.
        with contextlib.closing(CheckpointWriter(folder, num_kept=1)) as writer:
            record = checkpoint_record(self.counters, self.position)
            told = {"update": int(failure.update), "term": term}
            writer.save(self.counters.env_steps, split_state(self.state), {**record, **told})
        raise NonFiniteError(
            f"{term} was not finite at update {int(failure.update):,}, in the chunk that ended at "
            f"environment step {self.counters.env_steps:,}; that update and all later ones were "
            f"not applied, and the state is saved in {folder / str(self.counters.env_steps)}."
        )

    def _write_result(self) -> dict[str, Any]:
        """The final evaluation, the learning curve, and last the file that says it is finished."""
        evaluation, row = self._evaluate(self.config.evaluation.final_num_episodes)
        write_scores(self.run_dir, self.counters.env_steps, evaluation)
        self.counters.total_seconds = time.perf_counter() - self.started
        result = {
            "experiment": self.config.name,
            "environment": self.config.environment.name,
            "seed": self.config.seed,
            **row,
            **dataclasses.asdict(self.counters),
            "device": jax.devices()[0].device_kind,
        }
        self.display.activity("drawing the learning curve")
        self._draw()
        write_json(self.run_dir / RESULT_FILE, result)
        return result

    def _draw(self) -> None:
        from muzero_jax.analysis.extras import MissingExtraError
        from muzero_jax.analysis.plots import plot_runs
        from muzero_jax.analysis.runs import RunFolderError

        try:
            plot_runs([self.run_dir], self.run_dir / LEARNING_CURVE_FILE)
        except (MissingExtraError, RunFolderError) as error:
            self.display.note(f"notice: there is no learning curve. {error}")
