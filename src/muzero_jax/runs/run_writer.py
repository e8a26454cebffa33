"""One run on disk: its reports and checkpoints, written while the run is trained.

A checkpoint is the state at the end of a chunk, together with the lengths of the report files at
that moment. Whether an evaluation is due depends on the number of steps only, and its keys on the
seed and that number. So everything that happened after a checkpoint can be cut off and done again.
"""

import contextlib
import dataclasses
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax

from muzero_jax.checkpoints.checkpoint import CheckpointWriter
from muzero_jax.config import ExperimentConfig
from muzero_jax.core.errors import NonFiniteError
from muzero_jax.core.file_names import CHECKPOINTS_FOLDER, FAILURE_FOLDER, RESULT_FILE
from muzero_jax.core.files import write_json, writing
from muzero_jax.core.types import PyTree
from muzero_jax.runs import multihost
from muzero_jax.runs.continuing import forget_checkpoints, mark_checkpointed
from muzero_jax.runs.run_folder import write_versions
from muzero_jax.runs.run_start import BEST_GROUP, BestAgent, Start, copy_to_host, split_state
from muzero_jax.tracking.progress import Listener
from muzero_jax.tracking.support_warning import SupportWarning
from muzero_jax.tracking.tracker import Tracker, summarise, write_scores
from muzero_jax.training.evaluation import EvaluationResult
from muzero_jax.training.train_state import TrainState

# What `result.json` tells beside the score of record: the last parameters and the best agent.
LAST, BEST = "last", "best"


class RunWriter:
    """A run that writes to its folder, whose lock the caller holds.

    A process that only helps to compute the run counts and shows what happens, and writes nothing.

    Args:
      config: settings of the run.
      run_dir: run folder.
      start: where the run is taken up.
      display: listener that shows what happens.
      started: `time.perf_counter()` when this process began to work on the run.

    Attributes:
      counters: how far the run is.
      failure: error that ended the run early; None if there was none.
      result: content of `result.json`; None until it is written.
    """

    def __init__(
        self,
        config: ExperimentConfig,
        run_dir: Path,
        start: Start,
        display: Listener,
        started: float,
    ):
        self.config, self.display, self.counters = config, display, start.counters
        self.failure: Exception | None = None
        self.result: dict[str, Any] | None = None
        self.run_dir, self._writes = run_dir, multihost.is_main()
        # The seconds of earlier processes count as if they had passed in this one.
        self._started = started - start.counters.total_seconds
        self._saved_step = -1 if start.state is None else start.counters.env_steps
        self._best = self._best_of_chunk = start.best
        self._support_warning, self._told_of_cuts = SupportWarning(config), False
        if self._writes:
            self._open(start)
        if start.state is not None:
            display.note(f"resumed at {start.counters.env_steps:,} environment steps")

    def _open(self, start: Start) -> None:
        """Opens the report files and the folder of checkpoints, which `close` closes."""
        with writing(self.run_dir), contextlib.ExitStack() as stack:
            write_versions(self.run_dir, jax.local_devices()[0].device_kind)
            if start.state is None:
                forget_checkpoints(self.run_dir)
            else:
                mark_checkpointed(self.run_dir)  # The process that saved may have died before.
            folder = self.run_dir / CHECKPOINTS_FOLDER
            self._checkpoints = CheckpointWriter(folder, self.config.logging.checkpoints_kept)
            stack.callback(self._checkpoints.close)
            env_steps = start.counters.env_steps
            self._tracker = Tracker(self.run_dir, self.config, start.position, env_steps)
            stack.pop_all()
        self._position = self._tracker.position()

    def write_chunk(self, metrics: Mapping[str, Any], num_updates: int, seconds: float) -> None:
        """Counts and writes a chunk.

        Args:
          metrics: means over the chunk, by name.
          num_updates: optimiser steps of the run after the chunk.
          seconds: wall-clock of the chunk.
        """
        counters, num_steps = self.counters, self.config.env_steps_per_chunk
        new_updates = num_updates - counters.num_updates
        counters.env_steps += num_steps
        counters.num_updates = num_updates
        counters.train_seconds += seconds
        row = {
            "env_steps": counters.env_steps,
            "num_updates": num_updates,
            "time/train_seconds": counters.train_seconds,
            "time/compile_seconds": counters.compile_seconds,
            "time/env_steps_per_second": num_steps / seconds,
            "time/updates_per_second": new_updates / seconds,
            **{name: float(x) for name, x in metrics.items()},
        }
        if self._writes:
            with writing(self.run_dir):
                self._tracker.write_metrics(row)
            self._position, self._best_of_chunk = self._tracker.position(), self._best
        self.display.metrics(row)
        if warning := self._support_warning.watch(row):
            self.display.note(warning)

    def write_evaluation(self, result: EvaluationResult, agent: PyTree) -> None:
        """Writes an evaluation of the present parameters, and keeps the agent if it is the best."""
        row, env_steps = self._row_of(result), self.counters.env_steps
        with writing(self.run_dir):
            self._tracker.write_evaluation(row)
            if result.observed:
                self._tracker.write_metrics({"env_steps": env_steps, **result.observed})
        self.display.evaluation(row)
        self._tell_of_cuts(result)
        if self._best is None or self._best.is_behind(row["score_mean"]):
            self._best = BestAgent(jax.tree.map(copy_to_host, agent), env_steps, row["score_mean"])

    @property
    def best_of_several(self) -> BestAgent | None:
        """The best agent of all evaluations, once the final one is among them.

        It is None where the final evaluation is the only one.
        """
        return None if self._best_of_chunk is None else self._best

    def save(self, state: TrainState) -> None:
        """Saves a checkpoint of the end of the last chunk, unless it is there already."""
        if not self._writes or self._saved_step == self.counters.env_steps:
            return
        self.display.activity("saving")
        groups = split_state(state)
        if self._best_of_chunk is not None:
            groups[BEST_GROUP] = self._best_of_chunk.agent
        with writing(self.run_dir):
            self._tracker.sync()
            self._checkpoints.save(self.counters.env_steps, groups, self._record())
            mark_checkpointed(self.run_dir)
        self._saved_step = self.counters.env_steps

    def save_failure(self, state: TrainState, update: int, term: str) -> None:
        """Saves the state of a run that goes no further, apart from its good checkpoints.

        Args:
          state: state of the run after the chunk in which it failed.
          update: number of the first update that was not applied.
          term: name of the metric that was not finite.
        """
        folder, step = self.run_dir / FAILURE_FOLDER, self.counters.env_steps
        if self._writes:
            shutil.rmtree(folder, ignore_errors=True)  # An earlier try may have ended the same way.
            record = {**self._record(), "update": update, "term": term}
            with writing(self.run_dir), contextlib.closing(CheckpointWriter(folder, 1)) as writer:
                writer.save(step, split_state(state), record)
        self.failure = NonFiniteError(
            f"{term} was not finite at update {update:,}, in the chunk that ended at environment "
            f"step {step:,}; that update and all later ones were not applied, and the state is "
            f"saved in {folder / str(step)}."
        )

    def write_result(
        self,
        evaluation: EvaluationResult,
        others: Mapping[str, EvaluationResult],
        runs_at_once: int,
    ) -> None:
        """Writes the final scores, and last `result.json`, which makes the run finished.

        Args:
          evaluation: final evaluation, the score of record, which is written already.
          others: final evaluations of the last parameters (`LAST`) and of the best agent (`BEST`),
            where there are any.
          runs_at_once: number of runs in the program, each of which counts its seconds as its own.
        """
        self._count_seconds()
        result = {
            "experiment": self.config.name,
            "environment": self.config.environment.name,
            "seed": self.config.seed,
            **self._row_of(evaluation),
            **self._scores_of(others),
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
        if self._writes:
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

    def _row_of(self, result: EvaluationResult) -> dict[str, float]:
        return {
            "env_steps": self.counters.env_steps,
            "num_updates": self.counters.num_updates,
            "train_seconds": self.counters.train_seconds,
            **summarise(result),
        }

    def _scores_of(self, others: Mapping[str, EvaluationResult]) -> dict[str, float]:
        """The numbers of `result.json` about other agents than that of the score of record."""
        told: dict[str, float] = {}
        for name, result in others.items():
            row = summarise(result)
            told |= {f"{name}_{number}": row[number] for number in ("score_mean", "score_std")}
        if BEST in others and self._best is not None:
            told["best_env_steps"] = self._best.env_steps
        return told

    def _count_seconds(self) -> None:
        self.counters.total_seconds = time.perf_counter() - self._started

    def _record(self) -> dict[str, Any]:
        """The values that `find_start` reads beside the state."""
        self._count_seconds()
        return {
            "counters": dataclasses.asdict(self.counters),
            "position": dataclasses.asdict(self._position),
            "best": None if self._best_of_chunk is None else self._best_of_chunk.record(),
        }
