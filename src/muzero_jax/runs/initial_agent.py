"""Lets a new run begin with the parameters that the agent of another run has learned."""

import dataclasses
from pathlib import Path
from typing import Any

import jax

from muzero_jax.checkpoints.named_arrays import describe_arrays, first_difference
from muzero_jax.core.errors import CheckpointMismatchError, ConfigError, InvalidRunError
from muzero_jax.core.types import PyTree
from muzero_jax.runs.build import load_run
from muzero_jax.runs.run_folder import read_origin
from muzero_jax.training.train_state import TrainState

# The parts of an agent's state that belong to its run and were not learned.
_OF_THE_RUN = ("optimizer", "hyperparameters", "num_updates")


@dataclasses.dataclass(frozen=True)
class InitialAgent:
    """An agent of another run.

    Attributes:
      agent_state: whole state of the agent.
      origin: record of the agent's run and checkpoint for the new run's `versions.json`.
    """

    agent_state: PyTree
    origin: dict[str, Any]

    def check_fits(self, fresh: PyTree) -> None:
        """Refuses an agent with other learned arrays than `fresh`, the new run's agent or shapes.

        Raises:
          CheckpointMismatchError: an array differs; the message names it and both shapes.
        """
        difference = first_difference(describe_arrays(self._learned(fresh)), fresh)
        if difference:
            raise CheckpointMismatchError(
                f"the agent of {self.origin['run']} does not fit the new run's settings and "
                f"environment: {difference}."
            )

    def put_into(self, state: TrainState) -> TrainState:
        """Gives the first state of a run the learned arrays of this agent."""
        structure = jax.tree.structure(state.agent)
        learned = jax.tree.leaves(self._learned(state.agent))
        agent = jax.tree.map(
            lambda x, own: jax.device_put(x, own.sharding),
            jax.tree.unflatten(structure, learned),
            state.agent,
        )
        replaced: TrainState = state.replace(agent=agent)
        return replaced

    def _learned(self, fresh: PyTree) -> PyTree:
        if not hasattr(self.agent_state, "replace"):
            raise ConfigError(
                f"a run can begin with what another has learned only where the agent's state is a "
                f"flax.struct.PyTreeNode, found a {type(self.agent_state).__name__}."
            )
        names = [name for name in _OF_THE_RUN if hasattr(fresh, name)]
        return self.agent_state.replace(**{name: getattr(fresh, name) for name in names})


def load_initial_agent(run_dir: Path, checkpoint: str = "") -> InitialAgent:
    """Reads the agent of a run from the checkpoint of a given name, see `load_run`.

    Raises:
      RunError: the run has no such checkpoint, or it cannot be read.
    """
    run = load_run(run_dir, checkpoint)
    origin = {
        "run": str(run_dir.absolute()),
        "experiment": run.config.name,
        "checkpoint": checkpoint or str(run.num_env_steps),
        "env_steps": run.num_env_steps,
    }
    return InitialAgent(run.agent_state, origin)


def load_recorded_agent(run_dir: Path) -> InitialAgent | None:
    """Reads again the agent with which a run began; None for a run that began with a new agent.

    Raises:
      InvalidRunError: the agent's own run has gone on, and has another best agent now.
      RunError: the agent's own run has lost the checkpoint, or it cannot be read.
    """
    origin = read_origin(run_dir)
    if origin is None:
        return None
    agent = load_initial_agent(Path(origin["run"]), origin["checkpoint"])
    if agent.origin["env_steps"] != origin["env_steps"]:
        raise InvalidRunError(
            f"{run_dir} began with the agent that was the best of {origin['run']} after "
            f"{origin['env_steps']:,} environment steps, and now its best is that after "
            f"{agent.origin['env_steps']:,}; begin a new run with --init-from."
        )
    return agent
