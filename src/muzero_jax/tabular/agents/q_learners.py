"""The classical learners of tables: Q-learning, Dyna-Q, prioritised sweeping and R-max.

They share a table of action values and, but for Q-learning, a model of what was observed; they
differ in what an update backs up.
"""

import functools
from typing import Any

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
from muzero_jax.agents.exploration import sometimes_random
from muzero_jax.core.types import Array, Metrics, PRNGKey
from muzero_jax.envs.base import Environment, random_legal_action
from muzero_jax.replay.buffer import Batch, WindowSpec
from muzero_jax.tabular.oracle.sweeping import (
    SweepingState,
    sweep_most_urgent,
    sweep_to_convergence,
)
from muzero_jax.tabular.outcomes import (
    OutcomeTable,
    Steps,
    backup_pair,
    count_steps,
    draw_outcome,
    empty_table,
    follow,
)
from muzero_jax.tabular.settings import QSettings
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


class _QLearning:
    """The functions of the agent around their static parts; it holds no state."""

    name = "q_learning"
    has_model = False

    def __init__(self, settings: Any, env: Environment):
        self.settings, self.table, self.num_actions = settings, settings.table, env.spec.num_actions
        self.num_states = require_num_states(env, self.name)

    def as_agent(self) -> Agent:
        return Agent(
            data=Windows(WindowSpec(2, (0, 1)), self.settings.replay),
            init=self.init,
            act=self.act,
            greedy={"values": self.act_greedily},
            learn=self.learn,
            observe=self.observe if self.has_model else None,
        )

    @property
    def first_value(self) -> float:
        """Value of what was never learned."""
        value: float = self.table.initial_value
        return value

    def init(self, rng_key: PRNGKey, hyperparameters: Hyperparameters) -> TabularQState:
        del rng_key  # Nothing is random.
        shape = (self.num_states, self.num_actions)
        model = empty_table(*shape, self.table.num_outcomes) if self.has_model else None
        return TabularQState(
            qvalue=jnp.full((self.num_states + 1, self.num_actions), self.first_value, jnp.float32)
            .at[-1]
            .set(0.0),
            model=model,
            priority=None,
            hyperparameters=jax.tree.map(jnp.float32, dict(hyperparameters)),
            num_updates=jnp.zeros((), jnp.int32),
        )

    def act(self, state: TabularQState, rng_key: PRNGKey, moment: Moment) -> ActOutput:
        """Any of equally good actions, and sometimes any action at all."""
        qvalue, value = self._values(state, moment)
        legal = moment.timestep.legal_action_mask
        tie_key, epsilon_key = jax.random.split(rng_key)
        action = random_legal_action(tie_key, qvalue == value[:, None])
        epsilon = state.hyperparameters["exploration.epsilon"]
        return ActOutput(action=sometimes_random(epsilon_key, action, legal, epsilon), value=value)

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
        _, steps = rollout_steps(rollout, self.num_states)
        return self._count(state, steps)

    def _count(self, state: TabularQState, steps: Steps) -> TabularQState:
        assert state.model is not None
        counted: TabularQState = state.replace(model=count_steps(state.model, steps))
        return counted

    def learn(self, state: TabularQState, rng_key: PRNGKey, batch: Batch) -> LearnOutput:
        state, metrics = self._backup(state, rng_key, batch)
        state = state.replace(num_updates=state.num_updates + 1)
        if state.model is not None:
            metrics |= {"table/known_pairs": (state.model.visits > 0).mean()}
        metrics |= {"target/value": state.qvalue.max(axis=-1).mean()}
        return LearnOutput(state, metrics)

    def _backup(
        self, state: TabularQState, rng_key: PRNGKey, batch: Batch
    ) -> tuple[TabularQState, Metrics]:
        """What an update backs up: here the replayed steps."""
        del rng_key
        return _follow(state, replayed_steps(batch.transitions, self.num_states))


class _DynaQ(_QLearning):
    """The same backups, of steps that the model makes up (Sutton 1990)."""

    name = "dyna_q"
    has_model = True

    def _backup(
        self, state: TabularQState, rng_key: PRNGKey, batch: Batch
    ) -> tuple[TabularQState, Metrics]:
        assert state.model is not None
        pair_key, outcome_key = jax.random.split(rng_key)
        origin, action = self._pairs(state.model, pair_key, batch)
        keys = jax.random.split(outcome_key, origin.shape[0])
        draw = jax.vmap(draw_outcome, in_axes=(None, 0, 0, 0))
        reward, next_state = draw(state.model, keys, origin, action)
        known = state.model.visits[origin, action] > 0
        return _follow(state, Steps(origin, action, reward, next_state), known)

    def _pairs(self, model: OutcomeTable, rng_key: PRNGKey, batch: Batch) -> tuple[Array, Array]:
        """States and actions `[N]` to back up."""
        if self.table.backup_pairs == "replayed":
            steps = replayed_steps(batch.transitions, self.num_states)
            return steps.state, steps.action
        uniform = self.table.backup_pairs == "uniform"
        allowed = jnp.ones_like(model.visits) if uniform else model.visits > 0
        shape = (self.table.num_backups,)
        pair = jax.random.categorical(rng_key, jnp.log(allowed.ravel()), shape=shape)
        return pair // self.num_actions, pair % self.num_actions


class _PrioritisedSweeping(_QLearning):
    """Backs up the state and action whose value would change most (Moore and Atkeson 1993)."""

    name = "prioritised_sweeping"
    has_model = True

    def init(self, rng_key: PRNGKey, hyperparameters: Hyperparameters) -> TabularQState:
        state = super().init(rng_key, hyperparameters)
        begun: TabularQState = state.replace(
            priority=jnp.zeros((self.num_states, self.num_actions))
        )
        return begun

    def _count(self, state: TabularQState, steps: Steps) -> TabularQState:
        """Counts the steps, and how urgent it is to back up the pairs that they began with."""
        state = super()._count(state, steps)
        assert state.model is not None and state.priority is not None
        place = (steps.state, steps.action)
        backup = jax.vmap(backup_pair, in_axes=(None, None, None, 0, 0))
        change = backup(state.model, state.qvalue, _discount(state), *place) - state.qvalue[place]
        urgency = jnp.abs(change)
        urgent = jnp.where(urgency > self.table.priority_threshold, urgency, 0.0)
        counted: TabularQState = state.replace(priority=state.priority.at[place].set(urgent))
        return counted

    def _backup(
        self, state: TabularQState, rng_key: PRNGKey, batch: Batch
    ) -> tuple[TabularQState, Metrics]:
        del rng_key, batch
        model, priority = state.model, state.priority
        assert model is not None and priority is not None
        rate = state.hyperparameters["table.step_size"]

        def step(_: Array, sweeping: SweepingState) -> SweepingState:
            return sweep_most_urgent(
                model, sweeping, _discount(state), rate, self.table.priority_threshold
            )

        begin = SweepingState(state.qvalue, priority)
        swept = jax.lax.fori_loop(0, self.table.num_backups, step, begin)
        metrics = {"table/urgency": swept.priority.max()}
        return state.replace(qvalue=swept.qvalue, priority=swept.priority), metrics


class _Rmax(_QLearning):
    """Plans as if the unknown were the best (Brafman and Tennenholtz 2002, section 4).

    What becomes known only lowers values, so that the last plan is a good start for the next.
    """

    name = "rmax"
    has_model = True

    @property
    def first_value(self) -> float:
        value: float = self.table.optimistic_value
        return value

    def _backup(
        self, state: TabularQState, rng_key: PRNGKey, batch: Batch
    ) -> tuple[TabularQState, Metrics]:
        del rng_key, batch
        assert state.model is not None
        is_known = state.model.visits >= self.table.known_after
        qvalue = sweep_to_convergence(state.model, state.qvalue, _discount(state), is_known)
        return state.replace(qvalue=qvalue), {"table/known": is_known.mean()}


def _follow(
    state: TabularQState, steps: Steps, counts: Array | None = None
) -> tuple[TabularQState, Metrics]:
    """Q-learning along `[N]` steps, of those where `counts` holds."""
    rate = state.hyperparameters["table.step_size"]
    qvalue, error = follow(state.qvalue, steps, rate, _discount(state), counts)
    return state.replace(qvalue=qvalue), {"loss/value": jnp.mean(jnp.square(error))}


def _discount(state: TabularQState) -> Array | float:
    return state.hyperparameters["target.discount"]


def _make(learner: type[_QLearning], settings: QSettings, env: Environment, sizes: Sizes) -> Agent:
    """Builds an agent; raises `ConfigError` where the environment's states are not numbered."""
    del sizes
    return learner(settings, env).as_agent()


make_q_learning = functools.partial(_make, _QLearning)
make_dyna_q = functools.partial(_make, _DynaQ)
make_prioritised_sweeping = functools.partial(_make, _PrioritisedSweeping)
make_rmax = functools.partial(_make, _Rmax)
