"""The classical learners of tables: Q-learning, Dyna-Q, prioritised sweeping and R-max.

They share a table of action values and, but for Q-learning, a model of what was observed; they
differ in what an update backs up.
"""

from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
from flax import struct

from muzero_jax.agents.base import (
    ActOutput,
    Agent,
    Hyperparameters,
    LearnOutput,
    Moment,
    Rollout,
    Windows,
)
from muzero_jax.agents.definition import Sizes
from muzero_jax.agents.exploration import RandomActions
from muzero_jax.core.types import Array, Metrics, PRNGKey
from muzero_jax.envs.base import Environment, random_legal_action
from muzero_jax.replay.buffer import Batch, WindowSpec
from muzero_jax.tabular.outcomes import (
    OutcomeTable,
    Steps,
    backup,
    count_steps,
    draw_outcome,
    empty_table,
    follow,
    sweep_most_urgent,
    sweep_to_convergence,
)
from muzero_jax.tabular.settings import DynaSettings, QSettings, RmaxSettings, SweepingSettings
from muzero_jax.tabular.table_model import (
    replayed_steps,
    require_num_states,
    rollout_steps,
    state_number,
)


class TabularQState(struct.PyTreeNode):
    """Everything that is learned.

    Attributes:
      qvalue: `[S + 1, A]`; the row of the end is 0.
      model: counts of what was observed; None for Q-learning.
      priority: `[S, A]` of prioritised sweeping; None for the others.
      hyperparameters: traced settings.
      num_updates: `[]` int32.
    """

    qvalue: Array
    model: OutcomeTable | None
    priority: Array | None
    hyperparameters: Hyperparameters
    num_updates: Array

    @property
    def known(self) -> OutcomeTable:
        """The model of a learner that has one."""
        assert self.model is not None
        return self.model

    @property
    def discount(self) -> Array | float:
        """Discount of one step."""
        return self.hyperparameters["target.discount"]


Backup: TypeAlias = tuple[TabularQState, Metrics]
CountedSteps: TypeAlias = tuple[Steps, Array | bool]
"""`[N]` steps, and whether to learn from each."""


class _QLearning:
    """The functions of the agent around their static parts; it holds no state."""

    name = "q_learning"
    first_value = "initial_value"
    has_model, has_priority = False, False

    def __init__(self, settings: Any, env: Environment):
        self.table = settings.table
        self.num_states = require_num_states(env, self.name)
        self.shape = self.num_states, env.spec.num_actions

    def init(self, rng_key: PRNGKey, hyperparameters: Hyperparameters) -> TabularQState:
        del rng_key  # Nothing is random.
        qvalue = jnp.full(self.shape, getattr(self.table, self.first_value), jnp.float32)
        return TabularQState(
            qvalue=jnp.concatenate([qvalue, jnp.zeros((1, self.shape[1]))]),
            model=empty_table(*self.shape, self.table.num_outcomes) if self.has_model else None,
            priority=jnp.zeros(self.shape) if self.has_priority else None,
            hyperparameters=jax.tree.map(jnp.float32, dict(hyperparameters)),
            num_updates=jnp.zeros((), jnp.int32),
        )

    def act(self, state: TabularQState, rng_key: PRNGKey, moment: Moment) -> ActOutput:
        """Any of equally good actions, and sometimes any action at all."""
        qvalue, value = self._values(state, moment)
        tie_key, epsilon_key = jax.random.split(rng_key)
        action = random_legal_action(tie_key, qvalue == value[:, None])
        action, _ = RandomActions().act(epsilon_key, action, moment, state.hyperparameters)
        return ActOutput(action=action, value=value)

    def act_greedily(self, state: TabularQState, rng_key: PRNGKey, moment: Moment) -> ActOutput:
        """The first of the best actions."""
        del rng_key  # Nothing is random.
        qvalue, value = self._values(state, moment)
        return ActOutput(action=jnp.argmax(qvalue, axis=-1).astype(jnp.int32), value=value)

    def _values(self, state: TabularQState, moment: Moment) -> tuple[Array, Array]:
        """`[B, A]` values of the legal actions, and `[B]` the best of each."""
        qvalue = state.qvalue[state_number(moment.timestep.observation)]
        qvalue = jnp.where(moment.timestep.legal_action_mask, qvalue, -jnp.inf)
        return qvalue, qvalue.max(axis=-1)

    def observe(self, state: TabularQState, rollout: Rollout) -> TabularQState:
        """Counts what the actions of a rollout led to."""
        steps = rollout_steps(rollout, self.num_states)
        return state.replace(model=count_steps(state.known, steps))

    def learn(self, state: TabularQState, rng_key: PRNGKey, batch: Batch) -> LearnOutput:
        state, metrics = self._back_up(state, rng_key, batch)
        if state.model is not None:
            metrics |= {"table/known_pairs": (state.model.visits > 0).mean()}
        metrics |= {"target/value": state.qvalue.max(axis=-1).mean()}
        return LearnOutput(state.replace(num_updates=state.num_updates + 1), metrics)

    def _back_up(self, state: TabularQState, rng_key: PRNGKey, batch: Batch) -> Backup:
        """What an update backs up: Q-learning along some steps."""
        steps, counts = self._steps(state, rng_key, batch)
        rate = state.hyperparameters["table.step_size"]
        qvalue, error = follow(state.qvalue, steps, rate, state.discount, counts)
        return state.replace(qvalue=qvalue), {"loss/value": jnp.mean(jnp.square(error))}

    def _steps(self, state: TabularQState, rng_key: PRNGKey, batch: Batch) -> CountedSteps:
        """The steps of an update: here the replayed ones."""
        del state, rng_key
        return replayed_steps(batch.transitions, self.num_states), True


class _DynaQ(_QLearning):
    """The same backups, of steps that the model makes up (Sutton 1990)."""

    name = "dyna_q"
    has_model = True

    def _steps(self, state: TabularQState, rng_key: PRNGKey, batch: Batch) -> CountedSteps:
        pair_key, outcome_key = jax.random.split(rng_key)
        origin, action = self._pairs(state.known, pair_key, batch)
        keys = jax.random.split(outcome_key, origin.shape[0])
        draw = jax.vmap(draw_outcome, in_axes=(None, 0, 0, 0))
        reward, next_state = draw(state.known, keys, origin, action)
        is_known = state.known.visits[origin, action] > 0
        return Steps(origin, action, reward, next_state), is_known

    def _pairs(self, model: OutcomeTable, rng_key: PRNGKey, batch: Batch) -> tuple[Array, Array]:
        """States and actions `[N]` to back up."""
        if self.table.backup_pairs == "replayed":
            steps = replayed_steps(batch.transitions, self.num_states)
            return steps.state, steps.action
        uniform = self.table.backup_pairs == "uniform"
        allowed = jnp.ones_like(model.visits) if uniform else model.visits > 0
        shape = (self.table.num_backups,)
        pair = jax.random.categorical(rng_key, jnp.log(allowed.ravel()), shape=shape)
        return pair // self.shape[1], pair % self.shape[1]


class _PrioritisedSweeping(_QLearning):
    """Backs up the state and action whose value would change most (Moore and Atkeson 1993)."""

    name = "prioritised_sweeping"
    has_model, has_priority = True, True

    def observe(self, state: TabularQState, rollout: Rollout) -> TabularQState:
        """Counts the steps, and how urgent it is to back up the pairs that they began with."""
        state, steps = super().observe(state, rollout), rollout_steps(rollout, self.num_states)
        assert state.priority is not None
        pairs = steps.state, steps.action
        back_up = jax.vmap(backup, in_axes=(None, None, None, 0))
        change = back_up(state.known, state.qvalue, state.discount, pairs) - state.qvalue[pairs]
        is_urgent = jnp.abs(change) > self.table.priority_threshold
        urgent = jnp.where(is_urgent, jnp.abs(change), 0.0)
        return state.replace(priority=state.priority.at[pairs].set(urgent))

    def _back_up(self, state: TabularQState, rng_key: PRNGKey, batch: Batch) -> Backup:
        del rng_key, batch
        rate = state.hyperparameters["table.step_size"]
        threshold = self.table.priority_threshold

        def step(_: Array, values: tuple[Array, Array]) -> tuple[Array, Array]:
            return sweep_most_urgent(state.known, values, state.discount, rate, threshold)

        begin = state.qvalue, state.priority
        qvalue, priority = jax.lax.fori_loop(0, self.table.num_backups, step, begin)
        metrics = {"table/urgency": priority.max()}
        return state.replace(qvalue=qvalue, priority=priority), metrics


class _Rmax(_QLearning):
    """Plans as if the unknown were the best (Brafman and Tennenholtz 2002, section 4).

    What becomes known only lowers values, so that the last plan is a good start for the next.
    """

    name = "rmax"
    first_value = "optimistic_value"
    has_model = True

    def _back_up(self, state: TabularQState, rng_key: PRNGKey, batch: Batch) -> Backup:
        del rng_key, batch
        is_known = state.known.visits >= self.table.known_after
        qvalue = sweep_to_convergence(state.known, state.qvalue, state.discount, is_known)
        return state.replace(qvalue=qvalue), {"table/known": is_known.mean()}


_LEARNERS = {
    QSettings: _QLearning,
    DynaSettings: _DynaQ,
    SweepingSettings: _PrioritisedSweeping,
    RmaxSettings: _Rmax,
}


def make_q_learner(settings: QSettings, env: Environment, sizes: Sizes) -> Agent:
    """Builds the learner to which the settings belong.

    Args:
      settings: the settings of one of the learners.
      env: the environment.
      sizes: the sizes of the run, which no learner needs.

    Raises:
      ConfigError: the environment's states are not numbered.
    """
    del sizes
    learner = _LEARNERS[type(settings)](settings, env)
    return Agent(
        data=Windows(WindowSpec(2, (0, 1)), settings.replay),
        init=learner.init,
        act=learner.act,
        greedy={"values": learner.act_greedily},
        learn=learner.learn,
        observe=learner.observe if learner.has_model else None,
    )
