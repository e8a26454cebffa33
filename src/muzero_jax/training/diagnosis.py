"""Which limit binds an agent's learning: exploration, its preferences, or its learned model.

`Diagnosis` is an observer of evaluations. `evaluation.observers
muzero_jax.training.diagnosis:Diagnosis` puts its metrics into `metrics.jsonl` of a run, and `muzero
diagnose RUN` prints them with advice; docs/learning.md says what each means.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from muzero_jax.agents.base import Agent, Moment, Unrolled
from muzero_jax.config import ConfigError, EvaluationConfig
from muzero_jax.core.types import Array, PRNGKey, PyTree
from muzero_jax.envs.base import Discrete, Environment
from muzero_jax.search.root_policy import summarise_roots
from muzero_jax.training.diagnosis_metrics import mean_of, metrics_of
from muzero_jax.training.evaluation import Evaluate
from muzero_jax.training.greedy_play import (
    Steps,
    explores,
    play_at_random,
    play_greedily,
    returns_to_go,
    true_answers,
)

MOST_MISSING = 0.05
"""A return is known where the value at the end of the record has at most this weight in it."""
TRUE_MODEL = "true_model"
"""The greedy way of acting that searches the environment itself."""


@dataclasses.dataclass(frozen=True)
class DiagnosisSizes:
    """How much is played and compared; the greedy steps are nearly all of the cost.

    Attributes:
      num_envs: environments that are played side by side.
      num_steps: greedy steps in each of them.
      num_states: states of these episodes, drawn without replacement, that are looked at closely.
      num_depths: steps for which the model is unrolled from each.
      num_acting: environments that act in one batch in training, because an agent may explore more
        in some of them; about 1,024 exploring steps are taken.
    """

    num_envs: int = 8
    num_steps: int = 512
    num_states: int = 256
    num_depths: int = 5
    num_acting: int = 16

    @property
    def num_exploring_steps(self) -> int:
        """Exploring steps in each of `num_acting` environments."""
        return max(1, 1_024 // self.num_acting)


class Diagnosis:
    """Measures an agent on its own greedy episodes; in games it plays all sides.

    The agent acts `num_envs * num_steps` times, 4,096 by default. All in all that is about what an
    evaluation of 32 episodes of 240 steps costs. What an agent cannot be asked for is left out, see
    `diagnosis_metrics.missing`.

    Args:
      env: one environment, neither batched nor auto-resetting.
      agent: the learner.
      sizes: how much is played and compared.

    Raises (when constructed):
      ConfigError: a size is below 1, or there are fewer steps than depths.
    """

    def __init__(self, env: Environment, agent: Agent, sizes: DiagnosisSizes | None = None):
        self.sizes = sizes = sizes or DiagnosisSizes()
        if min(vars(sizes).values()) < 1 or sizes.num_steps < sizes.num_depths:
            raise ConfigError(
                "a diagnosis needs sizes of at least 1, and no fewer steps than depths; found "
                f"{sizes}."
            )
        self._env, self._agent = env, agent

    def answers(self, agent_state: PyTree, rng_key: PRNGKey) -> dict[str, Any]:
        """What the agent's play and its model come to, see the functions below.

        Args:
          agent_state: the state of the agent.
          rng_key: consumed.
        """
        play_key, draw_key, random_key, ask_key = jax.random.split(rng_key, 4)
        sizes, agent = self.sizes, self._agent
        moments, values, steps = play_greedily(
            *(self._env, agent, agent_state, play_key),
            num_envs=sizes.num_envs,
            num_steps=sizes.num_steps,
        )
        row, env = self._draw(draw_key)
        moment: Moment = jax.tree.map(lambda x: x[row, env], moments)
        found = self._ask(agent_state, ask_key, moment)
        discount = discount_of(agent_state)
        if values is not None and discount is not None:
            returns, weight = jax.vmap(returns_to_go, (1, None), 1)(steps, discount)
            known = weight <= MOST_MISSING
            found["returns"] = {"value": values, "truth": returns, "known": known}
        if values is not None:
            found["values"] = values
        if agent.unroll is None:
            return found
        rows = row[None] + jnp.arange(sizes.num_depths)[:, None]
        own = jax.tree.map(lambda x: x[rows, env[None]], steps)
        random = play_at_random(self._env, agent, agent_state, random_key, moment, sizes.num_depths)
        for name, taken in (("own", own), ("random", random)):
            found[name] = self._compare(agent_state, moment, taken)
        return found

    def metrics(self, answers: Mapping[str, Any]) -> dict[str, float]:
        """The metrics, of which those that nothing was found for are NaN.

        Errors are means of absolute errors, in rewards of the environment. Beside each stands its
        share of the spread of the values, under a name that ends in `_relative`.

        Args:
          answers: what `answers` gives, on the host.
        """
        return metrics_of(answers)

    def _draw(self, rng_key: PRNGKey) -> tuple[Array, Array]:
        """Rows and environments `[M]` of the states that are looked at closely.

        Enough rows follow each for the unrolling.
        """
        sizes = self.sizes
        num_rows = sizes.num_steps - sizes.num_depths + 1
        num_all = num_rows * sizes.num_envs
        shape = (min(sizes.num_states, num_all),)
        drawn = jax.random.choice(rng_key, num_all, shape, replace=False)
        return drawn // sizes.num_envs, drawn % sizes.num_envs

    def _ask(self, agent_state: PyTree, rng_key: PRNGKey, moment: Moment) -> dict[str, Any]:
        """How the agent explores from some of `[M]` moments, and what its search finds there."""
        explore_key, plan_key = jax.random.split(rng_key)
        env, agent, found = self._env, self._agent, dict[str, Any]()
        if isinstance(env.spec.action_space, Discrete):
            rows = jnp.arange(self.sizes.num_acting) % len(moment.episode_step)
            begin: Moment = jax.tree.map(lambda x: x[rows], moment)
            num_steps = self.sizes.num_exploring_steps
            found["differs"] = explores(env, agent, agent_state, explore_key, begin, num_steps)
        tree = None
        if agent.plan is not None:
            tree = agent.plan(agent_state, plan_key, moment).tree
        if tree is not None:
            legal, roots = moment.timestep.legal_action_mask, summarise_roots(tree)
            logits = jnp.where(legal, tree.children_prior_logits[:, tree.ROOT_INDEX], -jnp.inf)
            found["policy"] = {
                "prior": jax.nn.softmax(logits),
                "qvalue": roots.qvalues,
                "tried": legal & (roots.visits > 0),
                "legal": legal,
            }
        return found

    def _compare(
        self, agent_state: PyTree, moment: Moment, steps: Steps
    ) -> dict[str, dict[str, Array]]:
        """Predictions and truth `[K, M]` of values and rewards along `[K, M]` steps."""
        unroll = self._agent.unroll
        assert unroll is not None
        predicted: Unrolled = unroll(agent_state, moment.timestep.observation, steps.action)
        truth = jax.vmap(true_answers, 1, 1)(steps)
        return {
            "value": {"value": predicted.value[1:], "truth": truth.value, "known": truth.known},
            "reward": {"value": predicted.reward, "truth": truth.reward, "known": truth.known},
        }


class TrueModelScore:
    """The score with the simulator in the place of the learned dynamics, as an observer.

    It costs as much as an evaluation of `num_episodes` episodes in which every simulation steps the
    environment.

    Args:
      env: one environment, neither batched nor auto-resetting.
      agent: a learner with the greedy way of acting `true_model`.
      num_episodes: complete episodes.

    Raises (when constructed):
      ConfigError: the agent cannot act so.
    """

    def __init__(self, env: Environment, agent: Agent, num_episodes: int = 32):
        if TRUE_MODEL not in agent.greedy:
            raise ConfigError(f"the agent has no way of acting {TRUE_MODEL}.")
        config = EvaluationConfig(num_episodes=num_episodes, final_num_episodes=num_episodes)
        self._evaluate = Evaluate(env, agent, config, act=agent.greedy[TRUE_MODEL])
        self._quota = self._evaluate.quota(num_episodes)

    def answers(self, agent_state: PyTree, rng_key: PRNGKey) -> PyTree:
        """Scores, lengths and cuts of the episodes. The `rng_key` is consumed."""
        episodes, _ = self._evaluate.run(agent_state, rng_key, jnp.asarray(self._quota))
        return episodes

    def metrics(self, answers: PyTree) -> dict[str, float]:
        """`evaluation/score_true_model`, the mean score."""
        scores, _, _ = answers
        chosen = np.arange(scores.shape[1])[None] < self._quota[:, None]
        return {"evaluation/score_true_model": mean_of(scores[chosen])}


def discount_of(agent_state: PyTree) -> Array | float | None:
    """The discount of one step: the one traced setting called `discount`, in whichever section.

    None where there is none, or more than one.
    """
    traced = agent_state.hyperparameters
    found = [x for name, x in traced.items() if name.rpartition(".")[2] == "discount"]
    return found[0] if len(found) == 1 else None
