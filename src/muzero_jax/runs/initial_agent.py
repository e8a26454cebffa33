"""Lets a new run begin with the parameters that the agent of another run has learned."""

import dataclasses
from pathlib import Path
from typing import Any

import jax

from muzero_jax.checkpoints.named_arrays import describe_arrays, first_difference
from muzero_jax.core.errors import CheckpointMismatchError, ConfigError, InvalidRunError
from muzero_jax.core.file_names import VERSIONS_FILE
from muzero_jax.core.files import read_json
from muzero_jax.core.types import PyTree
from muzero_jax.runs.build import load_run
from muzero_jax.runs.run_folder import ORIGIN
from muzero_jax.training.train_state import TrainState

# The parts of an agent's state that belong to its run and were not learned.
_OF_THE_RUN = ("optimizer", "hyperparameters", "num_updates")


@dataclasses.dataclass(frozen=True)
class InitialAgent:
    """An agent of another run, and the record of its origin for the new run's `versions.json`."""

    agent_state: PyTree
    origin: dict[str, Any]

    def put_into(self, state: TrainState) -> TrainState:
        """Gives the first state of a run the learned arrays of this agent."""
        learned = jax.tree.leaves(_learned(self.agent_state, state.agent))
        own, structure = jax.tree.flatten(state.agent)
        placed = [jax.device_put(x, y.sharding) for x, y in zip(learned, own, strict=True)]
        replaced: TrainState = state.replace(agent=jax.tree.unflatten(structure, placed))
        return replaced


def load_initial_agent(run_dir: Path, checkpoint: str, fresh: PyTree) -> InitialAgent:
    """Reads the agent of a run, with which another run is to begin.

    Args:
      run_dir: folder of the agent's run.
      checkpoint: name of a checkpoint of that run, see `load_run`.
      fresh: shapes of the new run's own agent.

    Raises:
      CheckpointMismatchError: a learned array has another shape; the message names it and both.
      RunError: the run has no such checkpoint, or it cannot be read.
    """
    run = load_run(run_dir, checkpoint)
    if not hasattr(run.agent_state, "replace"):
        raise ConfigError(
            "a run can begin with what another has learned only where the agent's state is a "
            f"flax.struct.PyTreeNode, found a {type(run.agent_state).__name__}."
        )
    learned = describe_arrays(_learned(run.agent_state, fresh))
    if difference := first_difference(learned, fresh):
        raise CheckpointMismatchError(
            f"the agent of {run_dir} does not fit the new run's settings and environment: "
            f"{difference}."
        )
    origin = {
        "run": str(run_dir.absolute()),
        "experiment": run.config.name,
        "checkpoint": checkpoint or str(run.num_env_steps),
        "env_steps": run.num_env_steps,
    }
    return InitialAgent(run.agent_state, origin)


def load_recorded_agent(run_dir: Path, fresh: PyTree) -> InitialAgent | None:
    """Reads again the agent with which a run began; None for a run that began with a new agent.

    `fresh` has the shapes of the run's own agent.

    Raises:
      InvalidRunError: the agent's run has gone on, and has another best agent now.
      RunError: the agent's run has lost the checkpoint, or it cannot be read.
    """
    origin = read_json(run_dir / VERSIONS_FILE).get(ORIGIN)
    if origin is None:
        return None
    if not isinstance(origin, dict) or not {"run", "checkpoint", "env_steps"} <= set(origin):
        raise InvalidRunError(f"{run_dir / VERSIONS_FILE} is damaged: {ORIGIN} names no agent.")
    agent = load_initial_agent(Path(str(origin["run"])), str(origin["checkpoint"]), fresh)
    found = agent.origin["env_steps"]
    if found != origin["env_steps"]:
        raise InvalidRunError(
            f"{run_dir} began with the agent that was the best of {origin['run']} after "
            f"{origin['env_steps']} environment steps, and now its best is that after {found}; "
            "begin a new run with --init-from."
        )
    return agent


def _learned(agent_state: PyTree, fresh: PyTree) -> PyTree:
    """The state of an agent, with the parts that were not learned from `fresh`."""
    names = [name for name in _OF_THE_RUN if hasattr(fresh, name)]
    return agent_state.replace(**{name: getattr(fresh, name) for name in names})
