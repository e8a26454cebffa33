"""Diagnosing a run: measures its agent, its model and its ring, and says what to change."""

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import rich.box
from rich.console import Console
from rich.table import Table

from muzero_jax.core.errors import CheckpointMismatchError, ConfigError
from muzero_jax.core.keys import fresh_evaluation_key
from muzero_jax.core.stages import stage
from muzero_jax.core.types import PRNGKey
from muzero_jax.replay.distinct import count_distinct_observations
from muzero_jax.runs.build import LoadedRun, load_ring, load_run
from muzero_jax.training.diagnosis import TRUE_MODEL, Diagnosis, DiagnosisSizes
from muzero_jax.training.diagnosis_metrics import missing
from muzero_jax.training.evaluation import Evaluate
from muzero_jax.viewing.advice import advise, depths_of

_DISTINCT = "explore/distinct_observations_share"
_PRINTED_ALONE = (
    *(_DISTINCT, "explore/nongreedy_action_share", "policy/q_agreement_share"),
    *("policy/prior_entropy_where_q_agrees", "evaluation/score", "evaluation/score_true_model"),
    *("model/value_error_at_depth_0_own", "model/value_spread"),
    *("model/reward_size_own", "model/reward_size_random"),
)


@dataclasses.dataclass(frozen=True)
class RunDiagnosis:
    """What was measured of a run.

    Attributes:
      metrics: the metrics by name; NaN where nothing was found for one.
      missing: why other metrics do not apply, by their names.
      facts: what was measured: environment, experiment, steps and seed.
    """

    metrics: Mapping[str, float]
    missing: Mapping[str, str]
    facts: Mapping[str, Any]

    def as_dict(self) -> dict[str, Any]:
        """Everything as values of JSON; null where nothing was found for a metric."""
        metrics = {name: x if math.isfinite(x) else None for name, x in self.metrics.items()}
        told = {"advice": advise(self.metrics), "not_applicable": dict(self.missing)}
        return {**self.facts, "metrics": metrics, **told}


def diagnose_run(
    run_dir: Path,
    *,
    sizes: DiagnosisSizes,
    seed: int = 0,
    checkpoint: str = "",
    true_model_episodes: int = 0,
) -> RunDiagnosis:
    """Measures which limit binds the learning of a run.

    Args:
      run_dir: the run folder.
      sizes: how much is played and compared; as many environments explore as in the run.
      seed: seed of everything random in the episodes.
      checkpoint: the checkpoint to use, see `load_run`.
      true_model_episodes: episodes that are played with the learned and with the true model; 0
        leaves the comparison out.

    Raises:
      RunError: the run cannot be read.
      ConfigError: the true model is asked for, and the agent cannot act by it.
    """
    run = load_run(run_dir, checkpoint)
    if true_model_episodes and TRUE_MODEL not in run.agent.greedy:
        raise ConfigError(
            f"the agent {run.config.agent} cannot search the true model; leave out --true_model."
        )
    rng_key = fresh_evaluation_key(seed, run.num_env_steps)
    stage("playing, and asking the model")
    sizes = dataclasses.replace(sizes, num_acting=run.config.training.num_envs)
    diagnosis = Diagnosis(run.env, run.agent, sizes)
    answers = jax.device_get(jax.jit(diagnosis.answers)(run.agent_state, rng_key))
    metrics, lacking = diagnosis.metrics(answers), missing(answers)
    stage("counting the observations of the ring")
    counted, reason = _ring_metrics(run_dir, run)
    if reason:
        lacking[_DISTINCT] = reason
    if true_model_episodes:
        stage("playing with the learned and the true model")
        metrics |= _true_model_metrics(run, rng_key, true_model_episodes)
    facts = {
        "environment": run.config.environment.name,
        "experiment": run.config.name,
        "agent": run.config.agent,
        "num_players": run.env.spec.num_players,
        "env_steps": run.num_env_steps,
        "diagnosis_seed": seed,
    }
    return RunDiagnosis({**counted, **metrics}, lacking, facts)


def _ring_metrics(run_dir: Path, run: LoadedRun) -> tuple[dict[str, float], str]:
    """How varied the ring of a run is; the text says why where that is not known."""
    try:
        ring, _ = load_ring(run_dir, run)
    except CheckpointMismatchError:
        return {}, "the ring was saved under another time limit"
    if ring is None:
        return {}, "the agent has no ring, or the checkpoint holds none"
    num_distinct, num_all = count_distinct_observations(ring)
    share = num_distinct / num_all if num_all else math.nan
    return {_DISTINCT: share, "explore/distinct_observations": float(num_distinct)}, ""


def _true_model_metrics(run: LoadedRun, rng_key: PRNGKey, num_episodes: int) -> dict[str, float]:
    """The scores of the agent's own search and of the same search of the environment."""
    config = dataclasses.replace(
        run.config.evaluation, num_episodes=1, final_num_episodes=num_episodes
    )
    ways = {"evaluation/score": None, "evaluation/score_true_model": run.agent.greedy[TRUE_MODEL]}
    scores = {}
    for name, act in ways.items():
        evaluate = Evaluate(run.env, run.agent, config, act=act)
        scores[name] = evaluate(run.agent_state, rng_key, num_episodes).scores
    noise = math.sqrt(sum(float(np.var(x)) / len(x) for x in scores.values()))
    means = {name: float(np.mean(x)) for name, x in scores.items()}
    return {**means, "evaluation/score_difference_error": noise}


def print_diagnosis(diagnosis: RunDiagnosis, console: Console) -> None:
    """Prints the metrics, each group with its advice, and what does not apply."""
    metrics, told = diagnosis.metrics, advise(diagnosis.metrics)

    def say(text: str) -> None:
        console.print(text, highlight=False, markup=False, soft_wrap=True)

    for name in _PRINTED_ALONE:
        if name in metrics:
            say(f"{name:<38} {_shown(metrics, name)}")
            if name in told:
                say(f"    {told.pop(name)}")
    if depths_of(metrics):
        console.print(_model_table(metrics))
    for name, text in told.items():
        say(f"{name}\n    {text}")
    for name, reason in diagnosis.missing.items():
        say(f"{name:<38} does not apply: {reason}.")
    if diagnosis.facts["num_players"] > 1:
        say(
            "The agent played both sides here. Values and returns are those of the player to move; "
            "scores are against a random opponent."
        )


def _shown(metrics: Mapping[str, float], name: str) -> str:
    """A metric as it is printed, with what it is to be compared with."""
    value = metrics[name]
    if math.isnan(value):
        return "nothing was found for it"
    if name == _DISTINCT:
        return f"{value:.2%} ({metrics['explore/distinct_observations']:,.0f} observations)"
    if name.endswith("_share"):
        return f"{value:.2%}"
    if name == "policy/prior_entropy_where_q_agrees":
        return f"{value:.3g} nats (uniform: {metrics['policy/uniform_entropy_where_q_agrees']:.3g})"
    return _with_share(metrics, name)


def _with_share(metrics: Mapping[str, float], name: str) -> str:
    """A number with its share of the spread of the values, where it has one."""
    relative = metrics.get(f"{name}_relative", math.nan)
    share = "" if math.isnan(relative) else f" ({relative:.0%} of the spread)"
    return f"{metrics[name]:.4g}{share}"


def _model_table(metrics: Mapping[str, float]) -> Table:
    """The errors of the model by depth, with their shares of the spread of the values."""
    table = Table(
        title="model/*_error_at_depth_*: mean absolute errors of the unrolled model",
        title_justify="left",
        box=rich.box.SIMPLE,
    )
    columns = [f"{kind}, {way}" for kind in ("value", "reward") for way in ("own", "random")]
    for column in ("depth", *columns):
        table.add_column(column, justify="right")
    for depth in depths_of(metrics):
        cells = [
            f"model/{kind}_error_at_depth_{depth}_{way}"
            for kind, _, way in (column.partition(", ") for column in columns)
        ]
        table.add_row(str(depth), *(_cell(metrics, name) for name in cells))
    return table


def _cell(metrics: Mapping[str, float], name: str) -> str:
    if math.isnan(metrics[name]):
        return "-"
    return _with_share(metrics, name).replace(" of the spread", "")
