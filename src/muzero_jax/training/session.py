"""Getting a run ready: sizes checked, state restored or made, the chunk compiled and timed."""

import dataclasses
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax

from muzero_jax.training.build import Experiment
from muzero_jax.training.checkpoint import checkpoint_steps, restore_newest, set_aside
from muzero_jax.training.loop import TrainState
from muzero_jax.training.memory import check_program_fits, check_state_fits, device_memory_bytes
from muzero_jax.training.run_folder import CHECKPOINTS_FOLDER
from muzero_jax.training.tracking import Position
from muzero_jax.types import Metrics, PRNGKey, PyTree


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


class Session:
    """What one process needs to work on a run.

    Attributes:
      experiment: the parts of the run.
      shapes: of the training state.
      evaluation_key: from which, with the number of steps, the keys of evaluations are made.

    Raises (when constructed):
      DoesNotFitError: the state is larger than the device's memory; nothing is allocated yet.
    """

    def __init__(self, experiment: Experiment):
        self.experiment = experiment
        # Two branches, so that evaluations cannot touch the randomness of training.
        self._train_key, self.evaluation_key = _split_key(experiment.config.seed)
        self._init = jax.jit(experiment.train.init)
        self.shapes: TrainState = jax.eval_shape(self._init, self._train_key)
        self._memory_bytes = device_memory_bytes(jax.devices()[0])
        check_state_fits(experiment.config, self.shapes, self._memory_bytes)

    def find_start(self, run_dir: Path) -> Start:
        """Reads the newest usable checkpoint; without any the run starts anew.

        Raises:
          NoCheckpointError: there are checkpoints, but none can be used.
        """
        folder = run_dir / CHECKPOINTS_FOLDER
        if not checkpoint_steps(folder):
            return Start(None, Counters(), Position())
        restored = restore_newest(folder, split_state(self.shapes))
        set_aside(folder, restored.unusable)
        return Start(
            state=_join_state(restored.groups),
            counters=Counters(**restored.record["counters"]),
            position=Position(**restored.record["position"]),
        )

    def compile(
        self, state: TrainState | None
    ) -> tuple[Callable[[TrainState], tuple[TrainState, Metrics]], TrainState, float]:
        """Compiles the chunk, and makes the first state where there is none.

        Returns:
          The compiled chunk, the state (`state` itself if given), and the seconds it took.

        Raises:
          DoesNotFitError: the program needs more memory than there is; it is not run.
        """
        start = time.perf_counter()
        jitted = jax.jit(self.experiment.train.train_chunk, donate_argnums=0)
        train_chunk = jitted.lower(self.shapes).compile()
        check_program_fits(train_chunk, self._memory_bytes)
        if state is None:
            state = self._init.lower(self._train_key).compile()(self._train_key)
        return train_chunk, state, time.perf_counter() - start


def split_state(state: TrainState) -> dict[str, PyTree]:
    """The groups of a checkpoint: the agent, which others read too, apart from the large replay."""
    rest = state.replace(agent=None, replay=None)
    return {"agent": state.agent, "replay": state.replay, "loop": rest}


def checkpoint_record(counters: Counters, position: Position) -> dict[str, Any]:
    """What is saved beside the state, for `Session.find_start`."""
    return {"counters": dataclasses.asdict(counters), "position": dataclasses.asdict(position)}


def _join_state(groups: Mapping[str, PyTree]) -> TrainState:
    """The inverse of `split_state`."""
    joined: TrainState = groups["loop"].replace(agent=groups["agent"], replay=groups["replay"])
    return joined


def _split_key(seed: int) -> tuple[PRNGKey, PRNGKey]:
    train_key, evaluation_key = jax.random.split(jax.random.key(seed))
    return train_key, evaluation_key


def fresh_evaluation_key(seed: int, num_env_steps: int) -> PRNGKey:
    """A key for later evaluations, with which none repeats an evaluation of any run itself.

    Args:
      seed: of the evaluation.
      num_env_steps: that the agent was trained for.
    """
    # Splitting a key in two is folding in 0 and 1: those are the branches of `_split_key`.
    return jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), 2), num_env_steps)
