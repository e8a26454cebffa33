"""One run on disk: its reports and checkpoints, written while it is trained, and taken up again.

A checkpoint is the state at the end of a chunk, together with the lengths of the report files at
that moment. Whether an evaluation is due depends on the number of steps only, and its keys on the
seed and that number. So whatever happened after a checkpoint can be cut off and done again.
"""

import contextlib
import dataclasses
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax

from muzero_jax.checkpoints.checkpoint import CheckpointWriter
from muzero_jax.config import ExperimentConfig
from muzero_jax.core.errors import NonFiniteError
from muzero_jax.core.file_names import CHECKPOINTS_FOLDER, FAILURE_FOLDER, RESULT_FILE
from muzero_jax.core.files import write_json
from muzero_jax.core.types import PyTree
from muzero_jax.process.disk import writing
from muzero_jax.runs.best_agent import BEST_GROUP, BestAgent
from muzero_jax.runs.lost_checkpoints import forget_checkpoints, mark_checkpointed
from muzero_jax.runs.run_folder import write_versions
from muzero_jax.runs.run_start import Start, split_state
from muzero_jax.tracking.progress import Listener
from muzero_jax.tracking.support_warning import SupportWarning
from muzero_jax.tracking.tracker import Tracker, summarise, write_scores
from muzero_jax.training.evaluation import EvaluationResult
from muzero_jax.training.train_state import TrainState


class RunWriter:
    """Writes what happens in one run to its folder, whose lock the caller holds.

    Args:
      config: of the run.
      run_dir: its folder.
      start: where it is taken up.
      display: is told as well.
      started: `time.perf_counter()` when this process began to work on it.

    Attributes:
      config: settings of the run.
      run_dir: the run's folder.
      display: what is told of the run as well.
      counters: how far the run is.
      failure: what ended the run early, if anything did.
      result: the content of `result.json`, once it is written.
    """

    def __init__(
        self,
        config: ExperimentConfig,
        run_dir: Path,
        start: Start,
        display: Listener,
        started: float,
    ):
        self.config, self.run_dir, self.display = config, run_dir, display
        self.counters = start.counters
        self.failure: Exception | None = None
        self.result: dict[str, Any] | None = None
        # As if the seconds of earlier processes had passed in this one.
        self._started = started - start.counters.total_seconds
        self._saved_step = -1 if start.state is None else start.counters.env_steps
        self._best = self._best_of_chunk = start.best
        self._told_of_cuts = False
        with writing(run_dir):
            write_versions(run_dir, jax.local_devices()[0].device_kind)
            if start.state is None:
                forget_checkpoints(run_dir)
            else:
                mark_checkpointed(run_dir)  # Its process may have died before it did so.
            folder, num_kept = run_dir / CHECKPOINTS_FOLDER, config.logging.checkpoints_kept
            self._checkpoints = CheckpointWriter(folder, num_kept)
            with contextlib.ExitStack() as stack:
                stack.callback(self._checkpoints.close)
                self._tracker = Tracker(run_dir, config, start.position, start.counters.env_steps)
                stack.pop_all()  # Both are open: `close` ends them.
        self._position = self._tracker.position()
        self._support_warning = SupportWarning(config)
        if start.state is not None:
            display.note(f"resumed at {start.counters.env_steps:,} environment steps")

    def write_chunk(self, metrics: Mapping[str, Any], num_updates: int, seconds: float) -> None:
        """Writes the metrics of a chunk.

        Args:
          metrics: means over the chunk, by name.
          num_updates: optimiser steps of the run after the chunk.
          seconds: wall-clock that the chunk took.
        """
        steps = self.config.env_steps_per_chunk
        rates = {
            "time/env_steps_per_second": steps / seconds,
            "time/updates_per_second": (num_updates - self.counters.num_updates) / seconds,
        }
        self.counters.env_steps += steps
        self.counters.num_updates = num_updates
        self.counters.train_seconds += seconds
        row = {**self._counts(), **rates, **{name: float(x) for name, x in metrics.items()}}
        with writing(self.run_dir):
            self._tracker.write_metrics(row)
        self._position, self._best_of_chunk = self._tracker.position(), self._best
        self.display.metrics(row)
        if warning := self._support_warning.watch(row):
            self.display.note(warning)

    def write_evaluation(
        self, result: EvaluationResult, agent: Callable[[], PyTree]
    ) -> dict[str, float]:
        """Writes an evaluation of the present parameters, and returns its row.

        Args:
          result: the evaluation.
          agent: gives the agent's state, which is kept where it is the best so far.
        """
        row = {
            "env_steps": self.counters.env_steps,
            "num_updates": self.counters.num_updates,
            "train_seconds": self.counters.train_seconds,
            **summarise(result),
        }
        with writing(self.run_dir):
            self._tracker.write_evaluation(row)
            if result.observed:
                self._tracker.write_metrics(
                    {"env_steps": self.counters.env_steps, **result.observed}
                )
        self.display.evaluation(row)
        self._tell_of_cuts(result)
        if self._best is None or self._best.is_behind(row["score_mean"]):
            self._best = BestAgent.copied(agent(), self.counters.env_steps, row["score_mean"])
        return row

    def save(self, state: TrainState) -> None:
        """A checkpoint of the end of the last chunk, unless there is one."""
        if self._saved_step == self.counters.env_steps:
            return
        self.display.activity("saving")
        groups, best = split_state(state), self._best_of_chunk
        if best is not None:
            groups[BEST_GROUP] = best.agent
        with writing(self.run_dir):
            self._tracker.sync()
            self._checkpoints.save(self.counters.env_steps, groups, self._record())
            mark_checkpointed(self.run_dir)
        self._saved_step = self.counters.env_steps

    def save_failure(self, state: TrainState, update: int, term: str) -> None:
        """Saves the state apart from the checkpoints, which stay good; the run goes no further.

        Args:
          state: state of the run after the chunk in which it failed.
          update: number of the first update that was not applied.
          term: name of the metric that was not finite.
        """
        folder = self.run_dir / FAILURE_FOLDER
        shutil.rmtree(folder, ignore_errors=True)  # Of an earlier try that ended the same way.
        told = {"update": update, "term": term}
        with (
            writing(self.run_dir),
            contextlib.closing(CheckpointWriter(folder, num_kept=1)) as writer,
        ):
            writer.save(self.counters.env_steps, split_state(state), {**self._record(), **told})
        self.failure = NonFiniteError(
            f"{term} was not finite at update {update:,}, in the chunk that ended at environment "
            f"step {self.counters.env_steps:,}; that update and all later ones were not applied, "
            f"and the state is saved in {folder / str(self.counters.env_steps)}."
        )

    def write_result(
        self, evaluation: EvaluationResult, agent: Callable[[], PyTree], runs_at_once: int
    ) -> None:
        """Writes the final evaluation, and last the file that says the run is finished.

        Args:
          evaluation: evaluation of the final parameters.
          agent: gives the agent's state.
          runs_at_once: runs of the program, whose seconds each of them counts as its own.
        """
        row = self.write_evaluation(evaluation, agent)
        self._count_seconds()
        result = {
            "experiment": self.config.name,
            "environment": self.config.environment.name,
            "seed": self.config.seed,
            **row,
            **dataclasses.asdict(self.counters),
            "runs_at_once": runs_at_once,
            "device": jax.local_devices()[0].device_kind,
        }
        with writing(self.run_dir):
            self._tracker.sync()
            write_scores(self.run_dir, self.counters.env_steps, evaluation)
            write_json(self.run_dir / RESULT_FILE, result)
        self.result = result

    def close(self) -> None:
        """Closes files and ends threads."""
        self._tracker.close()
        self._checkpoints.close()

    def _tell_of_cuts(self, result: EvaluationResult) -> None:
        """Says once that episodes of an evaluation did not end by themselves."""
        if result.num_cut and not self._told_of_cuts:
            self._told_of_cuts = True
            self.display.note(
                f"{result.num_cut} of {len(result.scores)} evaluation episodes did not end within "
                f"evaluation.max_episode_steps = {self.config.evaluation.max_episode_steps:,} "
                "steps; they were cut there and count with their return so far"
            )

    def _counts(self) -> dict[str, float]:
        return {
            "env_steps": self.counters.env_steps,
            "num_updates": self.counters.num_updates,
            "time/train_seconds": self.counters.train_seconds,
            "time/compile_seconds": self.counters.compile_seconds,
        }

    def _count_seconds(self) -> None:
        self.counters.total_seconds = time.perf_counter() - self._started

    def _record(self) -> dict[str, Any]:
        """What is saved beside the state, for `find_start`."""
        self._count_seconds()
        return {
            "counters": dataclasses.asdict(self.counters),
            "position": dataclasses.asdict(self._position),
            "best": None if self._best_of_chunk is None else self._best_of_chunk.record(),
        }


class Follower(RunWriter):
    """A run as the processes see it that help to compute it: nothing is written."""

    def __init__(
        self,
        config: ExperimentConfig,
        run_dir: Path,
        start: Start,
        display: Listener,
        started: float,
    ):
        self.config, self.run_dir, self.display = config, run_dir, display
        self.counters = start.counters
        self.failure, self.result = None, None

    def write_chunk(self, metrics: Mapping[str, Any], num_updates: int, seconds: float) -> None:
        """Counts it."""
        self.counters.env_steps += self.config.env_steps_per_chunk

    def save(self, state: TrainState) -> None:
        """The main process does."""

    def save_failure(self, state: TrainState, update: int, term: str) -> None:
        """The main process does, and says more."""
        self.failure = NonFiniteError(f"{term} was not finite at update {update:,}.")

    def close(self) -> None:
        """Nothing is open."""
