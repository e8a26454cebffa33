"""Looking into one decision of a trained agent: what the network thought, and what search made."""

import dataclasses
from pathlib import Path

import jax
import numpy as np
import rich.box
from rich.console import Console
from rich.table import Table

from muzero_jax.core.errors import ConfigError, RunError
from muzero_jax.core.stages import stage
from muzero_jax.core.types import TimeStep
from muzero_jax.runs.build import LoadedRun, load_run
from muzero_jax.search.policies import SearchOutput
from muzero_jax.viewing.play import batch_of_one, play_episodes
from muzero_jax.viewing.render_text import render_text
from muzero_jax.viewing.tree_pictures import draw_tree, prior_of


@dataclasses.dataclass(frozen=True)
class Decision:
    """One searched moment of a greedy episode, on the host.

    Attributes:
      step: steps taken before it.
      timestep: what the environment gave, unbatched.
      search: what the search found there, unbatched, with its tree.
    """

    step: int
    timestep: TimeStep
    search: SearchOutput

    @property
    def rows(self) -> list[dict[str, float]]:
        """For each action its prior, visits, Q-value (NaN untried) and improved policy."""
        tree = self.search.tree
        assert tree is not None
        visits = np.asarray(tree.children_visits[0])
        qvalues = np.asarray(
            tree.children_rewards[0] + tree.children_discounts[0] * tree.children_values[0]
        )
        columns = {
            "prior": prior_of(tree, 0),
            "visits": visits,
            "q": np.where(visits > 0, qvalues, np.nan),
            "policy": np.asarray(self.search.action_weights),
        }
        actions = range(len(visits))
        return [{"action": a, **{k: float(v[a]) for k, v in columns.items()}} for a in actions]


def inspect_run(
    run_dir: Path, *, step: int, seed: int, out: Path, checkpoint: str = ""
) -> Decision:
    """Draws the search tree of a decision of a run's agent, and prints its numbers.

    Args:
      run_dir: the run folder.
      step: step of a greedy episode, from 0.
      seed: seed of everything random in the episode.
      out: folder of the pictures, `tree_step<step>.svg` and `.png`.
      checkpoint: the checkpoint to use, see `load_run`.

    Raises:
      RunError: the run cannot be read, or the episode ends before that step.
      MissingExtraError: matplotlib or Pillow is not installed.
    """
    run = load_run(run_dir, checkpoint)
    stage("compiling and playing")
    decision = find_decision(run, step, seed)
    console = Console()
    console.print(render_text(run.env.spec, decision.timestep), highlight=False, markup=False)
    console.print(_table(decision))
    action = int(decision.search.action)
    assert decision.search.tree is not None
    num_simulations = int(np.sum(decision.search.tree.children_visits[0]))
    title = (
        f"{run.config.environment.name}, step {step}: action {action} after "
        f"{num_simulations} simulations"
    )
    paths = [out / f"tree_step{step}.{kind}" for kind in ("svg", "png")]
    draw_tree(decision.search.tree, action, title, paths)
    for path in paths:
        console.print(f"tree: {path}", highlight=False, soft_wrap=True)
    return decision


def find_decision(run: LoadedRun, step: int, seed: int) -> Decision:
    """Searches at a step of the first episode that `play_episodes` plays with the same seed.

    Args:
      run: the run whose agent plays.
      step: step of the episode, from 0.
      seed: seed of everything random in the episode.

    Raises:
      ConfigError: the agent does not plan.
      RunError: the episode ends before.
    """
    if run.agent.plan is None:
        raise ConfigError(
            f"the agent {run.config.agent} does not search, so that no decision of it can be drawn."
        )
    game = (run.env, run.agent, run.agent_state)
    (episode,) = play_episodes(*game, episodes=1, max_episode_steps=step, seed=seed)
    scene = episode[-1]
    if scene.timestep.last:
        raise RunError(f"the episode of seed {seed} ends after {scene.step} steps, before {step}.")
    plan = jax.jit(run.agent.plan)
    output = plan(run.agent_state, jax.random.key(seed), batch_of_one(scene.moment))
    return Decision(step, scene.timestep, jax.device_get(jax.tree.map(lambda x: x[0], output)))


def _table(decision: Decision) -> Table:
    value = float(decision.search.search_value)
    table = Table(
        title=f"step {decision.step}: value {value:.4g}", title_justify="left", box=rich.box.SIMPLE
    )
    for name in ("action", "legal", "prior", "visits", "Q", "search policy", ""):
        table.add_column(name, justify="right")
    for row in decision.rows:
        action = int(row["action"])
        table.add_row(
            str(action),
            "yes" if decision.timestep.legal_action_mask[action] else "no",
            f"{row['prior']:.1%}",
            f"{row['visits']:.0f}",
            "" if np.isnan(row["q"]) else f"{row['q']:.4g}",
            f"{row['policy']:.1%}",
            "taken" if action == int(decision.search.action) else "",
        )
    return table
