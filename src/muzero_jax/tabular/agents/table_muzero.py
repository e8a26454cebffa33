"""MuZero with a table for a network: the same search and targets, learned by counting.

The model is what was observed last or most often, the prior counts actions or search policies, and
values move towards the targets by a constant share (Sutton and Barto 2018, equation 2.5).
"""

import dataclasses

import jax
import jax.numpy as jnp
from flax import struct

from muzero_jax.agents.base import Agent, Hyperparameters, LearnOutput
from muzero_jax.agents.planning import Planner, make_muzero_model
from muzero_jax.agents.targets import make_targets, make_window_spec
from muzero_jax.config import ExperimentConfig
from muzero_jax.core.types import Array, PRNGKey, Transition
from muzero_jax.envs.base import EnvironmentSpec
from muzero_jax.replay.buffer import Batch
from muzero_jax.tabular.outcomes import count_steps
from muzero_jax.tabular.table_model import TableParams, in_sequence, state_number, steps_of


class TabularMuZeroState(struct.PyTreeNode):
    """Everything that is learned.

    Attributes:
      params: the table.
      hyperparameters: traced settings.
      num_updates: `[]` int32.
    """

    params: TableParams
    hyperparameters: Hyperparameters
    num_updates: Array


def make_tabular_muzero(config: ExperimentConfig, spec: EnvironmentSpec) -> Agent:
    """Builds the agent.

    Args:
      config: the settings; nothing is unrolled, whatever `target.num_unroll_steps` says.
      spec: of the environment.

    Raises:
      ConfigError: the environment's states are not numbered.
    """
    return _TabularMuZero(config, spec).as_agent()


class _TabularMuZero:
    """The functions of the agent around their static parts; it holds no state."""

    def __init__(self, config: ExperimentConfig, spec: EnvironmentSpec):
        self.config = config
        self.targets = dataclasses.replace(config.target, num_unroll_steps=0)
        self.model = make_muzero_model(config, spec)
        self.planner = Planner(config, spec, self.model)
        window = make_window_spec(self.targets, all_unrolled=False)
        self.window = dataclasses.replace(window, with_final_observation=True)

    def as_agent(self) -> Agent:
        return Agent(
            window=self.window,
            init=self.init,
            act=self.planner.act,
            learn=self.learn,
            observe=self.observe,
        )

    def init(self, rng_key: PRNGKey, hyperparameters: Hyperparameters) -> TabularMuZeroState:
        return TabularMuZeroState(
            params=self.model.init(rng_key),
            hyperparameters=jax.tree.map(jnp.float32, dict(hyperparameters)),
            num_updates=jnp.zeros((), jnp.int32),
        )

    def observe(self, state: TabularMuZeroState, transitions: Transition) -> TabularMuZeroState:
        """Counts what the actions of a rollout `[T, num_envs]` led to, and the actions."""
        flat = in_sequence(transitions)
        steps = steps_of(flat, state.params.model.num_states)
        num_actions = state.params.model.num_actions
        policy = {
            "uniform": jnp.zeros((*steps.state.shape, num_actions)),
            "action": jax.nn.one_hot(steps.action, num_actions),
            "search": flat.record.action_weights,
        }[self.config.table.prior]
        params = state.params.replace(
            model=count_steps(state.params.model, steps),
            policy_count=state.params.policy_count.at[steps.state].add(policy),
        )
        return state.replace(params=params)

    def learn(self, state: TabularMuZeroState, rng_key: PRNGKey, batch: Batch) -> LearnOutput:
        def fresh_search(observation: Array, legal: Array) -> tuple[Array, Array]:
            output = self.planner.plan_with(state, state.params, rng_key, observation, legal)
            return output.action_weights, output.search_value

        targets = make_targets(
            self.targets,
            self.window,
            batch.transitions,
            state.hyperparameters["target.discount"],
            value_fn=lambda observation: self.planner.root(state.params, observation).value,
            search_fn=fresh_search,
        )
        rate = state.hyperparameters["table.step_size"]

        def move(value: Array, example: tuple[Array, Array, Array]) -> tuple[Array, Array]:
            origin, target, weight = example
            error = target - value[origin]
            return value.at[origin].add(rate * weight * error), error

        origin = state_number(batch.transitions.observation[:, 0])
        weight = batch.importance_weights * targets.value_mask[:, 0]
        value, error = jax.lax.scan(move, state.params.value, (origin, targets.value[:, 0], weight))
        state = state.replace(
            params=state.params.replace(value=value), num_updates=state.num_updates + 1
        )
        metrics = {
            "loss/value": jnp.mean(jnp.square(error)),
            "target/value": targets.value[:, 0].mean(),
            "table/known_pairs": (state.params.model.visits > 0).mean(),
        }
        return LearnOutput(state, metrics, priorities=jnp.abs(error))
