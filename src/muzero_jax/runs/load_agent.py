"""Reading an agent from a run's checkpoints: the newest, one of a given number, or the best."""

from pathlib import Path

from muzero_jax.checkpoints.checkpoint import Restored, restore_newest, restore_one
from muzero_jax.checkpoints.checkpoint_folder import describe_steps
from muzero_jax.core.errors import InvalidRunError
from muzero_jax.core.file_names import CHECKPOINTS_FOLDER
from muzero_jax.core.types import PyTree
from muzero_jax.runs.run_folder import read_result
from muzero_jax.runs.run_start import BEST_GROUP, BestAgent


def load_agent(run_dir: Path, checkpoint: str, shapes: PyTree) -> tuple[PyTree, int]:
    """Reads an agent's state, and the environment steps that it was trained for.

    Args:
      run_dir: the run folder.
      checkpoint: the number of a checkpoint, `best`, or empty for the newest.
      shapes: shapes of the agent's state.

    Raises:
      InvalidRunError: the run has no such checkpoint, or no evaluated agent.
      NoCheckpointError: the checkpoint is damaged.
      CheckpointMismatchError: the agent has arrays of other shapes.
    """
    folder, groups = run_dir / CHECKPOINTS_FOLDER, {"agent": shapes}
    if checkpoint.isdecimal():
        restored = restore_one(folder, int(checkpoint), groups)
    elif checkpoint in ("", BEST_GROUP):
        optional = {BEST_GROUP: shapes} if checkpoint else {}
        restored = restore_newest(folder, groups, optional=optional)
    else:
        raise InvalidRunError(
            f"--checkpoint must be best or the number of a checkpoint of {run_dir}, found "
            f"{checkpoint!r}; there are {describe_steps(folder)}."
        )
    if checkpoint == BEST_GROUP:
        return _best(run_dir, restored)
    return restored.groups["agent"], restored.step


def _best(run_dir: Path, newest: Restored) -> tuple[PyTree, int]:
    """The better one of the best agent in the newest checkpoint and the run's final agent."""
    best, result = BestAgent.restored(newest), read_result(run_dir)
    if BEST_GROUP not in newest.record:
        raise InvalidRunError(
            f"{run_dir} keeps no best agent: its checkpoints are of a version that kept none."
        )
    # The last checkpoint is made before the final evaluation.
    is_final = result is not None and result["env_steps"] == newest.step
    if result is not None and is_final and (best is None or best.is_behind(result["score_mean"])):
        return newest.groups["agent"], newest.step
    if best is None:
        raise InvalidRunError(
            f"{run_dir} has no best agent yet: it was not evaluated before its newest checkpoint."
        )
    return best.agent, best.env_steps
