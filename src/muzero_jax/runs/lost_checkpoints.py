"""Tells a run that has lost its checkpoints from one that never had any. JAX is not imported.

A run that was killed before its first checkpoint simply begins anew. A run that has made a
checkpoint, and has none now, would lose what it has reported if it did the same.
"""

from pathlib import Path

from muzero_jax.checkpoints.checkpoint_folder import checkpoint_steps
from muzero_jax.config import ExperimentConfig
from muzero_jax.core.errors import LostCheckpointsError
from muzero_jax.core.file_names import CHECKPOINTS_FOLDER, METRICS_FILE, RESULT_FILE
from muzero_jax.core.files import last_json_line

# Stands in a run folder from its first checkpoint on.
_MARKER_FILE = ".has_checkpoints"


def mark_checkpointed(run_dir: Path) -> None:
    """Records that the run has made a checkpoint; a checkpoint must be complete by then."""
    (run_dir / _MARKER_FILE).touch()


def forget_checkpoints(run_dir: Path) -> None:
    """Takes the record back, for a run that is to begin anew: the marker, then the metrics.

    A process that dies in between, or after it has then removed checkpoints, leaves a run that has
    checkpoints, or one that never had any.
    """
    for name in (_MARKER_FILE, METRICS_FILE):
        (run_dir / name).unlink(missing_ok=True)


def check_not_lost(run_dir: Path, config: ExperimentConfig, restart: bool = False) -> None:
    """Refuses to begin a run anew that has made a checkpoint before.

    Args:
      run_dir: the run folder.
      config: settings of the run.
      restart: whether the user has asked for a new beginning.

    Raises:
      LostCheckpointsError: the run has made a checkpoint, has none now, and `restart` is false.
    """
    has_some = bool(checkpoint_steps(run_dir / CHECKPOINTS_FOLDER))
    if has_some or restart or not _had_checkpoints(run_dir, config):
        return
    raise LostCheckpointsError(
        f"{run_dir} has been trained for {_reported_steps(run_dir):,} environment steps, but its "
        f"checkpoints are gone; put them back into {run_dir / CHECKPOINTS_FOLDER}, or begin the "
        "run anew with --restart, which overwrites what it has reported."
    )


def _had_checkpoints(run_dir: Path, config: ExperimentConfig) -> bool:
    """The marker says so; or the reports go on after the step of the first checkpoint.

    The reports speak for runs that are older than the marker.
    """
    if (run_dir / _MARKER_FILE).exists() or (run_dir / RESULT_FILE).exists():
        return True
    chunk, interval = config.env_steps_per_chunk, config.logging.checkpoint_interval
    first = min(-(-interval // chunk) * chunk, config.total_env_steps)
    return _reported_steps(run_dir) > first


def _reported_steps(run_dir: Path) -> int:
    """Environment steps of the last line of `metrics.jsonl`; 0 where there is none."""
    steps = last_json_line(run_dir / METRICS_FILE).get("env_steps", 0)
    return int(steps) if isinstance(steps, int | float) else 0
