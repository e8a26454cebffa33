"""Going on with a run under changed settings, such as for more steps. JAX is not imported.

A finished run that is to be trained further counts as unfinished from the moment at which its
result is renamed until the new result is written. The steps of that change are ordered so that a
process may die between any two of them: the settings change last, and whatever is taken away is
there under another name by then. A run that dies in between is an unfinished run with its old
settings, whose result comes back when it is continued.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from muzero_jax.config import ConfigError, ExperimentConfig, OptimizerConfig, SearchConfig
from muzero_jax.core.file_names import RESULT_FILE, SCORES_FILE
from muzero_jax.core.files import write_text
from muzero_jax.runs.run_folder import read_result, write_config
from muzero_jax.settings import apply_settings

# The settings, and the whole sections, that may change when a run goes on.
_MAY_CHANGE = ("training.num_env_steps", "environment.time_limit", "evaluation.")


def continued_config(
    run_dir: Path, config: ExperimentConfig, changes: Mapping[str, Any]
) -> ExperimentConfig:
    """The settings with which a run goes on.

    Args:
      run_dir: the run folder, for messages.
      config: settings of the run so far.
      changes: values of changed settings by dotted name.

    Raises:
      ConfigError: a setting is changed that must stay, to a value that is not allowed, or to fewer
        steps.
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
    return changed


def is_extended(config: ExperimentConfig, changed: ExperimentConfig) -> bool:
    """Whether the changed settings make a run longer."""
    return changed.total_env_steps > config.total_env_steps


def check_has_work(run_dir: Path, config: ExperimentConfig, changed: ExperimentConfig) -> None:
    """Refuses changed settings for a finished run that they do not make longer.

    Args:
      run_dir: the folder of a finished run.
      config: settings of the run so far.
      changed: settings that are asked for.

    Raises:
      ConfigError: there is nothing to do for them.
    """
    if changed != config and not is_extended(config, changed):
        raise ConfigError(
            f"{run_dir} is finished after {config.total_env_steps:,} environment steps; only a "
            "higher training.num_env_steps continues it (`muzero evaluate` takes other settings of "
            "the evaluation)."
        )


def keep_changes(run_dir: Path, config: ExperimentConfig, changed: ExperimentConfig) -> None:
    """Writes the settings with which a run goes on, and keeps its earlier result under its steps.

    Args:
      run_dir: the run folder, whose lock the caller holds.
      config: settings of the run so far.
      changed: settings with which it goes on.
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
    """Where a file of an earlier result is kept, such as `result-4096.json`."""
    return path.with_name(f"{path.stem}-{result['env_steps']}{path.suffix}")


def describe_stretched(config: ExperimentConfig, changed: ExperimentConfig) -> str:
    """Says which schedules a longer run stretches; empty where there are none.

    Args:
      config: settings of the run so far.
      changed: settings with which it goes on.
    """
    if not is_extended(config, changed):
        return ""
    names = list(_stretched(config))
    if not names:
        return ""
    return (
        f"notice: {' and '.join(names)} follow the length of the whole run, so that this run "
        f"differs from one that was planned for {changed.total_env_steps:,} steps from the start"
    )


def _stretched(config: ExperimentConfig) -> Iterator[str]:
    """The settings of the run's agent that follow the length of the whole run."""
    optimizer = getattr(config.learner, "optimizer", None)
    if isinstance(optimizer, OptimizerConfig):
        if optimizer.schedule != "constant":
            yield "optimizer.schedule"
        if optimizer.warmup_updates > config.num_updates:
            yield "optimizer.warmup_updates"
    search = getattr(config.learner, "search", None)
    if not isinstance(search, SearchConfig):
        return
    if search.policy == "muzero" and search.temperature != search.final_temperature:
        yield "search.final_temperature"
