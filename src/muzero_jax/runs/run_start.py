"""Where a process takes a run up: at its newest checkpoint, or at its beginning."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path

from muzero_jax.checkpoints.checkpoint import restore_newest
from muzero_jax.checkpoints.checkpoint_folder import checkpoint_steps, set_aside
from muzero_jax.config import ExperimentConfig
from muzero_jax.core.errors import InvalidRunError, NoCheckpointError
from muzero_jax.core.file_names import CHECKPOINTS_FOLDER
from muzero_jax.core.types import PyTree
from muzero_jax.runs.best_agent import BEST_GROUP, BestAgent
from muzero_jax.runs.lost_checkpoints import check_not_lost
from muzero_jax.tracking.tracker import Position
from muzero_jax.training.train_state import TrainState


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
      best: best agent by evaluation until the checkpoint; None where there is none yet.
    """

    state: TrainState | None
    counters: Counters
    position: Position
    best: BestAgent | None = None

    @classmethod
    def fresh(cls) -> "Start":
        """The beginning of a run."""
        return cls(None, Counters(), Position())


def find_start(
    run_dir: Path,
    config: ExperimentConfig,
    shapes: TrainState,
    at_most: int | None = None,
    restart: bool = False,
) -> Start:
    """Reads the newest usable checkpoint of a run; a run that never had any starts anew.

    Args:
      run_dir: the run folder.
      config: settings of the run.
      shapes: shapes of the run's state.
      at_most: checkpoints of more environment steps are left out.
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
    if not [step for step in all_steps if at_most is None or step <= at_most]:
        return Start.fresh()
    try:
        restored = restore_newest(
            folder, split_state(shapes), at_most, optional={BEST_GROUP: shapes.agent}
        )
    except NoCheckpointError:
        if not restart:
            raise
        set_aside(folder, all_steps)
        return Start.fresh()
    if restart:
        raise InvalidRunError(
            f"--restart is for a run whose checkpoints are gone or damaged; without it {run_dir} "
            f"goes on from checkpoint {restored.step}."
        )
    set_aside(folder, restored.unusable)
    return Start(
        state=_join_state(restored.groups),
        counters=Counters(**restored.record["counters"]),
        position=Position(**restored.record["position"]),
        best=BestAgent.restored(restored),
    )


def split_state(state: TrainState) -> dict[str, PyTree]:
    """The groups of a checkpoint: the agent, which others read too, apart from the large replay."""
    rest = state.replace(agent=None, replay=None)
    return {"agent": state.agent, "replay": state.replay, "loop": rest}


def _join_state(groups: Mapping[str, PyTree]) -> TrainState:
    """The inverse of `split_state`."""
    joined: TrainState = groups["loop"].replace(agent=groups["agent"], replay=groups["replay"])
    return joined
