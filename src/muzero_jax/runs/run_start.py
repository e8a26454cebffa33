"""Where a process takes a run up: at its newest checkpoint, or at its beginning.

A checkpoint also holds the best agent of the evaluations before it. So a run that is taken up goes
on with the best agent of that moment, whatever came after it.
"""

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np

from muzero_jax.checkpoints.checkpoint import Restored, restore
from muzero_jax.checkpoints.checkpoint_folder import checkpoint_steps, set_aside
from muzero_jax.config import ExperimentConfig
from muzero_jax.core.errors import InvalidRunError, NoCheckpointError
from muzero_jax.core.file_names import CHECKPOINTS_FOLDER
from muzero_jax.core.keys import from_numbers, is_key, to_numbers
from muzero_jax.core.types import PyTree
from muzero_jax.runs.continuing import check_not_lost
from muzero_jax.tracking.tracker import Position
from muzero_jax.training.train_state import TrainState

# The name of the best agent's group in a checkpoint.
BEST_GROUP = "best"


@dataclasses.dataclass
class Counters:
    """How far a run is; saved with every checkpoint, so that times add up over resumes.

    Attributes:
      env_steps: environment steps so far.
      num_updates: optimiser steps so far.
      train_seconds: wall-clock of the compiled chunks.
      compile_seconds: wall-clock of tracing and compiling the chunks.
      total_seconds: wall-clock of everything, from the building of the run's parts.
    """

    env_steps: int = 0
    num_updates: int = 0
    train_seconds: float = 0.0
    compile_seconds: float = 0.0
    total_seconds: float = 0.0


@dataclasses.dataclass(frozen=True)
class BestAgent:
    """The agent, on the host, whose evaluation had the highest mean score; of equals the first."""

    agent: PyTree
    env_steps: int
    score_mean: float

    @classmethod
    def restored(cls, checkpoint: Restored) -> "BestAgent | None":
        """The best agent that a checkpoint holds; None if it holds none."""
        record = checkpoint.record.get(BEST_GROUP)
        return None if record is None else cls(checkpoint.groups[BEST_GROUP], **record)

    def record(self) -> dict[str, Any]:
        """The entry in a checkpoint's record that `restored` reads."""
        return {"env_steps": self.env_steps, "score_mean": self.score_mean}

    def is_behind(self, score_mean: float) -> bool:
        """Whether another agent's mean score is better; every score is better than NaN."""
        return score_mean > self.score_mean or math.isnan(self.score_mean)


def copy_to_host(x: Any) -> Any:
    """Copies an array, which is about to be overwritten, to the host."""
    data = np.array(to_numbers(x))
    return from_numbers(data, x) if is_key(x) else data


@dataclasses.dataclass(frozen=True)
class Start:
    """Where a process takes a run up; without arguments the beginning of a run.

    Attributes:
      state: training state in the checkpoint; None at the beginning.
      counters: counters in the checkpoint.
      position: lengths of the report files at the checkpoint.
      best: best agent by the evaluations before the checkpoint; None if there was none.
    """

    state: TrainState | None = None
    counters: Counters = dataclasses.field(default_factory=Counters)
    position: Position = dataclasses.field(default_factory=Position)
    best: BestAgent | None = None


def find_start(
    run_dir: Path,
    config: ExperimentConfig,
    shapes: TrainState,
    at_most: int | None = None,
    restart: bool = False,
) -> Start:
    """Reads the newest usable checkpoint of a run; a run that never had any starts anew.

    Args:
      run_dir: run folder.
      config: settings of the run.
      shapes: shapes of the run's state.
      at_most: most environment steps that the checkpoint may have; None for any number.
      restart: whether a run that has lost its checkpoints starts anew as well.

    Raises:
      LostCheckpointsError: the run had checkpoints, and has none now; see `check_not_lost`.
      InvalidRunError: `restart` is asked for, but there is a checkpoint that can be used.
      NoCheckpointError: there are checkpoints, but none can be used.
      CheckpointMismatchError: the newest checkpoint holds arrays of other shapes.
    """
    folder = run_dir / CHECKPOINTS_FOLDER
    all_steps = checkpoint_steps(folder)
    if not all_steps:
        check_not_lost(run_dir, config, restart)
    possible = [step for step in all_steps if at_most is None or step <= at_most]
    if not possible:
        return Start()
    try:
        restored = restore(folder, split_state(shapes), {BEST_GROUP: shapes.agent}, possible)
    except NoCheckpointError:
        if not restart:
            raise
        set_aside(folder, all_steps)
        return Start()
    if restart:
        raise InvalidRunError(
            f"--restart is for a run whose checkpoints are gone or damaged; without it {run_dir} "
            f"goes on from checkpoint {restored.step}."
        )
    set_aside(folder, [step for step in possible if step > restored.step])
    groups, record = restored.groups, restored.record
    return Start(
        groups["loop"].replace(agent=groups["agent"], replay=groups["replay"]),
        Counters(**record["counters"]),
        Position(**record["position"]),
        BestAgent.restored(restored),
    )


def split_state(state: TrainState) -> dict[str, PyTree]:
    """The groups of a checkpoint: the agent, which others read too, apart from the large replay."""
    rest = state.replace(agent=None, replay=None)
    return {"agent": state.agent, "replay": state.replay, "loop": rest}
