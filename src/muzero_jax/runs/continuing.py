"""Whether and how a run goes on. JAX is not imported.

A finished run that is to be trained further counts as unfinished from the moment at which its
result is renamed. Its settings change last, so that a process may die between any two steps: the
run then makes its old result again when it is continued.

A run that was killed before its first checkpoint begins anew. A run that had checkpoints and has
none now is refused, because a new beginning would overwrite its reports.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from muzero_jax.checkpoints.checkpoint_folder import checkpoint_steps
from muzero_jax.config import ConfigError, ExperimentConfig
from muzero_jax.core.errors import LostCheckpointsError
from muzero_jax.core.file_names import CHECKPOINTS_FOLDER, METRICS_FILE, RESULT_FILE, SCORES_FILE
from muzero_jax.core.files import last_json_line, write_text
from muzero_jax.runs.run_folder import read_result, write_config
from muzero_jax.settings import apply_settings

# The settings, and the whole sections, that may change when a run goes on.
_MAY_CHANGE = ("training.num_env_steps", "environment.time_limit", "evaluation.")
# This file lies in a run folder from the first checkpoint on.
_MARKER_FILE = ".has_checkpoints"


def continued_config(
    run_dir: Path, config: ExperimentConfig, changes: Mapping[str, Any]
) -> ExperimentConfig:
    """The settings with which a run goes on.

    Args:
      run_dir: run folder.
      config: settings of the run so far.
      changes: values of changed settings by dotted name.

    Raises:
      ConfigError: a setting must not change, or its new value is not allowed, or the run would get
        fewer steps, or the run is finished and would get no more.
    """
    fixed = [name for name in changes if not name.startswith(_MAY_CHANGE)]
    if fixed:
        raise ConfigError(
            f"{run_dir} is continued with the settings it has; only --training.num_env_steps, "
            f"--environment.time_limit and --evaluation.* may change, found --{fixed[0]}."
        )
    changed = apply_settings(config, changes)
    before, after = config.training.num_env_steps, changed.training.num_env_steps
    if after < before:
        raise ConfigError(
            f"training.num_env_steps can only be raised when a run is continued: {run_dir} has "
            f"{before}, found {after}."
        )
    has_work = changed == config or is_extended(config, changed)
    if not has_work and (run_dir / RESULT_FILE).exists():
        raise ConfigError(
            f"{run_dir} is finished after {config.total_env_steps:,} environment steps; only a "
            "higher training.num_env_steps continues it (`muzero evaluate` takes other settings of "
            "the evaluation)."
        )
    return changed


def is_extended(config: ExperimentConfig, changed: ExperimentConfig) -> bool:
    """Whether the changed settings make a run longer."""
    return changed.total_env_steps > config.total_env_steps


def keep_changes(run_dir: Path, config: ExperimentConfig, changed: ExperimentConfig) -> None:
    """Writes the settings with which a run goes on, and keeps its earlier result under its steps.

    Args:
      run_dir: run folder, whose lock the caller holds.
      config: settings of the run so far.
      changed: settings with which the run goes on.
    """
    if changed == config:
        return
    result, scores = read_result(run_dir), run_dir / SCORES_FILE
    if result is not None:
        if scores.exists():
            write_text(_under_steps(scores, result), scores.read_text(encoding="utf-8"))
        (run_dir / RESULT_FILE).replace(_under_steps(run_dir / RESULT_FILE, result))
    scores.unlink(missing_ok=True)
    write_config(run_dir, changed)


def _under_steps(path: Path, result: Mapping[str, Any]) -> Path:
    """The path under which a file of an earlier result is kept, such as `result-4096.json`."""
    return path.with_name(f"{path.stem}-{result['env_steps']}{path.suffix}")


def mark_checkpointed(run_dir: Path) -> None:
    """Records that the run has made a checkpoint, which must be complete by now."""
    (run_dir / _MARKER_FILE).touch()


def forget_checkpoints(run_dir: Path) -> None:
    """Removes the marker and then the metrics of a run that is to begin anew.

    A process that dies in between, or after it has then removed checkpoints, leaves a run that has
    checkpoints, or one that never had any.
    """
    for name in (_MARKER_FILE, METRICS_FILE):
        (run_dir / name).unlink(missing_ok=True)


def check_not_lost(run_dir: Path, config: ExperimentConfig, restart: bool = False) -> None:
    """Refuses to begin a run anew that has made a checkpoint before.

    Args:
      run_dir: run folder.
      config: settings of the run.
      restart: whether the user has asked for a new beginning.

    Raises:
      LostCheckpointsError: the run has made a checkpoint, has none now, and `restart` is false.
    """
    has_some = bool(checkpoint_steps(run_dir / CHECKPOINTS_FOLDER))
    if restart or has_some or not _had_checkpoints(run_dir, config):
        return
    raise LostCheckpointsError(
        f"{run_dir} has been trained, but its checkpoints are gone; put them back into "
        f"{run_dir / CHECKPOINTS_FOLDER}, or begin the run anew with --restart, which overwrites "
        "what it has reported."
    )


def _had_checkpoints(run_dir: Path, config: ExperimentConfig) -> bool:
    """Whether there is a marker, or a report of a step after the first checkpoint.

    The marker is hidden, so that a copy of the folder may lack it.
    """
    if any((run_dir / name).exists() for name in (_MARKER_FILE, RESULT_FILE)):
        return True
    reported = last_json_line(run_dir / METRICS_FILE).get("env_steps", 0)
    chunk, interval = config.env_steps_per_chunk, config.logging.checkpoint_interval
    return isinstance(reported, int | float) and reported > -(-interval // chunk) * chunk
