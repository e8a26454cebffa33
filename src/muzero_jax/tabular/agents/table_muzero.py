"""MuZero with a table for a network: the same search and targets, learned by counting.

The model is what was observed last or most often, the prior counts actions or search policies, and
values move towards the targets by a constant share (Sutton and Barto 2018, equation 2.5).
"""

import dataclasses

import jax
import jax.numpy as jnp
from flax import struct

from muzero_jax.agents.base import Agent, Hyperparameters, LearnOutput, Rollout, Windows
from muzero_jax.agents.definition import Sizes
from muzero_jax.agents.muzero.planning import Planner
from muzero_jax.agents.muzero.targets import make_targets, make_window_spec
from muzero_jax.core.types import Array, PRNGKey
from muzero_jax.envs.base import Environment
from muzero_jax.replay.buffer import Batch
from muzero_jax.tabular.outcomes import count_steps
from muzero_jax.tabular.settings import TableMuZeroSettings
from muzero_jax.tabular.table_model import (
    TableModel,
    TableParams,
    require_num_states,
    rollout_steps,
    state_number,
)


class TableMuZeroState(struct.PyTreeNode):
    """Everything that is learned.

    Attributes:
      params: the table.
      hyperparameters: traced settings.
      num_updates: `[]` int32.
    """

    params: TableParams
    hyperparameters: Hyperparameters
    num_updates: Array


class _TableMuZero:
    """The functions of the agent around their static parts; it holds no state."""

    def __init__(self, settings: TableMuZeroSettings, env: Environment, sizes: Sizes):
        self.table = settings.table
        self.targets = dataclasses.replace(settings.target, num_unroll_steps=0)
        self.num_states = require_num_states(env, "table_muzero")
        self.num_actions = env.spec.num_actions
        self.model = TableModel(settings.table, self.num_states, self.num_actions)
        self.planner = Planner(self.model, settings.search, sizes.num_updates, env=env)
        self.window = make_window_spec(self.targets, all_unrolled=False)

    def init(self, rng_key: PRNGKey, hyperparameters: Hyperparameters) -> TableMuZeroState:
        del rng_key  # Nothing is random.
        return TableMuZeroState(
            params=self.model.init(),
            hyperparameters=jax.tree.map(jnp.float32, dict(hyperparameters)),
            num_updates=jnp.zeros((), jnp.int32),
        )

    def observe(self, state: TableMuZeroState, rollout: Rollout) -> TableMuZeroState:
        """Counts what the actions of a rollout led to, and the actions."""
        steps = rollout_steps(rollout, self.num_states)
        searched = rollout.transitions.record.action_weights
        policy = {
            "uniform": 0.0,
            "action": jax.nn.one_hot(steps.action, self.num_actions),
            "search": searched.reshape((-1, self.num_actions)),
        }[self.table.prior]
        params = state.params.replace(
            model=count_steps(state.params.model, steps),
            policy_count=state.params.policy_count.at[steps.state].add(policy),
        )
        return state.replace(params=params)

    def learn(self, state: TableMuZeroState, rng_key: PRNGKey, batch: Batch) -> LearnOutput:
        targets = make_targets(
            self.targets,
            self.window,
            batch.transitions,
            state.hyperparameters["target.discount"],
            value_fn=lambda observation, legal: self.model.root(state.params, observation).value,
            search_fn=self.planner.fresh_search(state, state.params, rng_key),
        )
        rate = state.hyperparameters["table.step_size"]

        def move(value: Array, example: tuple[Array, Array, Array]) -> tuple[Array, Array]:
            origin, target, weight = example
            error = target - value[origin]
            return value.at[origin].add(rate * weight * error), error

        origin = state_number(batch.transitions.observation[:, 0])
        weight = batch.importance_weights * targets.value_mask[:, 0]
        value, error = jax.lax.scan(move, state.params.value, (origin, targets.value[:, 0], weight))
        params, num_updates = state.params.replace(value=value), state.num_updates + 1
        state = state.replace(params=params, num_updates=num_updates)
        metrics = {
            "loss/value": jnp.mean(jnp.square(error)),
            "target/value": targets.value[:, 0].mean(),
            "table/known_pairs": (state.params.model.visits > 0).mean(),
        }
        return LearnOutput(state, metrics, priorities=jnp.abs(error))


def make_table_muzero(settings: TableMuZeroSettings, env: Environment, sizes: Sizes) -> Agent:
    """Builds the agent.

    Args:
      settings: the settings; nothing is unrolled, whatever `target.num_unroll_steps` says.
      env: the environment.
      sizes: the sizes of the run.

    Raises:
      ConfigError: the environment's states are not numbered.
    """
    learner = _TableMuZero(settings, env, sizes)
    return learner.planner.as_agent(
        data=Windows(learner.window, settings.replay),
        init=learner.init,
        learn=learner.learn,
        observe=learner.observe,
    )
