"""One run on disk: its reports and checkpoints, written while it is trained, and taken up again.

A checkpoint is the state at the end of a chunk, together with the lengths of the report files at
that moment. Whether an evaluation is due depends on the number of steps only, and its keys on the
seed and that number. So whatever happened after a checkpoint can be cut off and done again.
"""

import contextlib
import dataclasses
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax

from muzero_jax.config import ExperimentConfig
from muzero_jax.files import write_json
from muzero_jax.training.checkpoint import (
    CheckpointWriter,
    checkpoint_steps,
    restore_newest,
    set_aside,
)
from muzero_jax.training.errors import NonFiniteError
from muzero_jax.training.evaluation import EvaluationResult
from muzero_jax.training.progress import Listener
from muzero_jax.training.run_folder import (
    CHECKPOINTS_FOLDER,
    FAILURE_FOLDER,
    RESULT_FILE,
    write_versions,
)
from muzero_jax.training.support_warning import SupportWarning
from muzero_jax.training.tracking import Position, Tracker, summarise, write_scores
from muzero_jax.training.train_state import TrainState
from muzero_jax.types import PyTree


@dataclasses.dataclass
class Counters:
    """How far a run is; saved with every checkpoint, so that times add up over resumes.

    Attributes:
      env_steps: environment steps so far.
      num_updates: optimiser steps so far.
      train_seconds: wall-clock of the compiled chunks.
      compile_seconds: wall-clock of tracing and compiling them.
      total_seconds: wall-clock of everything, from the building of the run's parts.
    """

    env_steps: int = 0
    num_updates: int = 0
    train_seconds: float = 0.0
    compile_seconds: float = 0.0
    total_seconds: float = 0.0


@dataclasses.dataclass(frozen=True)
class Start:
    """Where a process takes a run up.

    Attributes:
      state: of the checkpoint; None where the run begins.
      counters: of the checkpoint, or zeros.
      position: of the report files at the checkpoint.
    """

    state: TrainState | None
    counters: Counters
    position: Position

    @classmethod
    def fresh(cls) -> "Start":
        """The beginning of a run."""
        return cls(None, Counters(), Position())


def find_start(run_dir: Path, shapes: TrainState, at_most: int | None = None) -> Start:
    """Reads the newest usable checkpoint of a run; without any the run starts anew.

    Args:
      run_dir: the run folder.
      shapes: of the state.
      at_most: leave out checkpoints of more environment steps.

    Raises:
      NoCheckpointError: there are checkpoints, but none can be used.
    """
    folder = run_dir / CHECKPOINTS_FOLDER
    steps = [s for s in checkpoint_steps(folder) if at_most is None or s <= at_most]
    if not steps:
        return Start.fresh()
    restored = restore_newest(folder, split_state(shapes), at_most)
    set_aside(folder, restored.unusable)
    return Start(
        state=_join_state(restored.groups),
        counters=Counters(**restored.record["counters"]),
        position=Position(**restored.record["position"]),
    )


class RunWriter:
    """Writes what happens in one run to its folder, whose lock the caller holds.

    Args:
      config: of the run.
      run_dir: its folder.
      start: where it is taken up.
      display: is told as well.
      started: `time.perf_counter()` when this process began to work on it.

    Attributes:
      config: as given.
      run_dir: as given.
      display: as given.
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
        write_versions(run_dir, jax.local_devices()[0].device_kind)
        folder, num_kept = run_dir / CHECKPOINTS_FOLDER, config.logging.checkpoints_kept
        self._checkpoints = CheckpointWriter(folder, num_kept)
        self._tracker = Tracker(run_dir, config, start.position, start.counters.env_steps)
        self._position = self._tracker.position()
        self._support_warning = SupportWarning(config.network)
        if start.state is not None:
            display.note(f"resumed at {start.counters.env_steps:,} environment steps")

    def write_chunk(self, metrics: Mapping[str, Any], num_updates: int, seconds: float) -> None:
        """A chunk that took `seconds`, after which there have been `num_updates` updates."""
        steps = self.config.env_steps_per_chunk
        rates = {
            "time/env_steps_per_second": steps / seconds,
            "time/updates_per_second": (num_updates - self.counters.num_updates) / seconds,
        }
        self.counters.env_steps += steps
        self.counters.num_updates = num_updates
        self.counters.train_seconds += seconds
        row = {**self._counts(), **rates, **{name: float(x) for name, x in metrics.items()}}
        self._tracker.write_metrics(row)
        self._position = self._tracker.position()
        self.display.metrics(row)
        if warning := self._support_warning.watch(row):
            self.display.note(warning)

    def write_evaluation(self, result: EvaluationResult) -> dict[str, float]:
        """An evaluation of the present parameters; returns its row."""
        row = {
            "env_steps": self.counters.env_steps,
            "num_updates": self.counters.num_updates,
            "train_seconds": self.counters.train_seconds,
            **summarise(result),
        }
        self._tracker.write_evaluation(row)
        if result.oracle:
            self._tracker.write_metrics({"env_steps": self.counters.env_steps, **result.oracle})
        self.display.evaluation(row)
        return row

    def save(self, state: TrainState) -> None:
        """A checkpoint of the end of the last chunk, unless there is one."""
        if self._saved_step == self.counters.env_steps:
            return
        self.display.activity("saving")
        self._tracker.sync()
        self._checkpoints.save(self.counters.env_steps, split_state(state), self._record())
        self._saved_step = self.counters.env_steps

    def save_failure(self, state: TrainState, update: int, term: str) -> None:
        """Saves the state apart from the checkpoints, which stay good; the run goes no further."""
        folder = self.run_dir / FAILURE_FOLDER
        shutil.rmtree(folder, ignore_errors=True)  # Of an earlier try that ended the same way.
        with contextlib.closing(CheckpointWriter(folder, num_kept=1)) as writer:
            told = {"update": update, "term": term}
            writer.save(self.counters.env_steps, split_state(state), {**self._record(), **told})
        self.failure = NonFiniteError(
            f"{term} was not finite at update {update:,}, in the chunk that ended at environment "
            f"step {self.counters.env_steps:,}; that update and all later ones were not applied, "
            f"and the state is saved in {folder / str(self.counters.env_steps)}."
        )

    def write_result(self, evaluation: EvaluationResult, runs_at_once: int) -> None:
        """The final evaluation, and last the file that says the run is finished.

        Args:
          evaluation: of the final parameters.
          runs_at_once: of the program, whose seconds each of them counts as its own.
        """
        row = self.write_evaluation(evaluation)
        write_scores(self.run_dir, self.counters.env_steps, evaluation)
        self._count_seconds()
        self.result = {
            "experiment": self.config.name,
            "environment": self.config.environment.name,
            "seed": self.config.seed,
            **row,
            **dataclasses.asdict(self.counters),
            "runs_at_once": runs_at_once,
            "device": jax.local_devices()[0].device_kind,
        }
        write_json(self.run_dir / RESULT_FILE, self.result)

    def close(self) -> None:
        """Closes files and ends threads."""
        self._tracker.close()
        self._checkpoints.close()

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
        }


def split_state(state: TrainState) -> dict[str, PyTree]:
    """The groups of a checkpoint: the agent, which others read too, apart from the large replay."""
    rest = state.replace(agent=None, replay=None)
    return {"agent": state.agent, "replay": state.replay, "loop": rest}


def _join_state(groups: Mapping[str, PyTree]) -> TrainState:
    """The inverse of `split_state`."""
    joined: TrainState = groups["loop"].replace(agent=groups["agent"], replay=groups["replay"])
    return joined


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
