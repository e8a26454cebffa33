"""The classical learners of tables: Q-learning, Dyna-Q, prioritised sweeping and R-max.

They share a table of action values and, but for Q-learning, a model of what was observed; they
differ in what an update backs up.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import struct

from muzero_jax.agents.base import ActOutput, Agent, Hyperparameters, LearnOutput
from muzero_jax.agents.exploration import sometimes_random
from muzero_jax.config import ExperimentConfig
from muzero_jax.core.types import Array, Metrics, PRNGKey, TimeStep, Transition
from muzero_jax.envs.base import EnvironmentSpec, random_legal_action
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
from muzero_jax.tabular.table_model import in_sequence, require_num_states, state_number, steps_of


class TabularQState(struct.PyTreeNode):
    """Everything that is learned.

    Attributes:
      qvalue: `[S + 1, A]`; the row of the end is 0.
      model: of what was observed; None for Q-learning.
      priority: `[S, A]` of prioritised sweeping; None for the others.
      hyperparameters: traced settings.
      num_updates: `[]` int32.
    """

    qvalue: Array
    model: OutcomeTable | None
    priority: Array | None
    hyperparameters: Hyperparameters
    num_updates: Array


def make_tabular_q(config: ExperimentConfig, spec: EnvironmentSpec) -> Agent:
    """Builds the learner that `config.agent.kind` names.

    Args:
      config: the settings.
      spec: of the environment.

    Raises:
      ConfigError: the environment's states are not numbered.
    """
    return _TabularQ(config, spec).as_agent()


class _TabularQ:
    """The functions of the agent around their static parts; it holds no state."""

    def __init__(self, config: ExperimentConfig, spec: EnvironmentSpec):
        self.kind, self.table = config.agent.kind, config.table
        self.num_states, self.num_actions = require_num_states(spec), spec.num_actions

    def as_agent(self) -> Agent:
        return Agent(
            window=WindowSpec(1, (0,), with_final_observation=True),
            init=self.init,
            act=self.act,
            learn=self.learn,
            observe=None if self.kind == "q_learning" else self.observe,
        )

    def init(self, rng_key: PRNGKey, hyperparameters: Hyperparameters) -> TabularQState:
        del rng_key  # Nothing is random.
        shape = (self.num_states, self.num_actions)
        # To R-max everything is as good as can be until it is known.
        is_rmax = self.kind == "rmax"
        first = self.table.optimistic_value if is_rmax else self.table.initial_value
        has_model = self.kind != "q_learning"
        return TabularQState(
            qvalue=jnp.full((self.num_states + 1, self.num_actions), first, jnp.float32)
            .at[-1]
            .set(0.0),
            model=empty_table(*shape, self.table.num_outcomes) if has_model else None,
            priority=jnp.zeros(shape) if self.kind == "prioritised_sweeping" else None,
            hyperparameters=jax.tree.map(jnp.float32, dict(hyperparameters)),
            num_updates=jnp.zeros((), jnp.int32),
        )

    def act(
        self, state: TabularQState, rng_key: PRNGKey, timestep: TimeStep, explore: bool
    ) -> ActOutput:
        """The best action; when exploring, any of equally good ones, and sometimes any at all."""
        legal = timestep.legal_action_mask
        qvalue = jnp.where(legal, state.qvalue[state_number(timestep.observation)], -jnp.inf)
        value = qvalue.max(axis=-1)
        if explore:
            tie_key, epsilon_key = jax.random.split(rng_key)
            action = random_legal_action(tie_key, qvalue == value[:, None])
            epsilon = state.hyperparameters["search.epsilon"]
            action = sometimes_random(epsilon_key, action, legal, epsilon)
        else:
            action = jnp.argmax(qvalue, axis=-1).astype(jnp.int32)
        return ActOutput(
            action=action, record=(), priority=jnp.ones_like(value), value=value, metrics={}
        )

    def observe(self, state: TabularQState, transitions: Transition) -> TabularQState:
        """Counts what the actions of a rollout `[T, num_envs]` led to."""
        steps = steps_of(in_sequence(transitions), self.num_states)

        assert state.model is not None
        state = state.replace(model=count_steps(state.model, steps))
        if state.priority is None or state.model is None:
            return state
        place = (steps.state, steps.action)
        backup = jax.vmap(backup_pair, in_axes=(None, None, None, 0, 0))
        change = backup(state.model, state.qvalue, _discount(state), *place) - state.qvalue[place]
        urgency = jnp.abs(change)
        urgent = jnp.where(urgency > self.table.priority_threshold, urgency, 0.0)
        return state.replace(priority=state.priority.at[place].set(urgent))

    def learn(self, state: TabularQState, rng_key: PRNGKey, batch: Batch) -> LearnOutput:
        update: Callable[..., tuple[TabularQState, Metrics]] = {
            "q_learning": self._replay,
            "dyna_q": self._dream,
            "prioritised_sweeping": self._sweep,
            "rmax": self._replan,
        }[self.kind]
        state, metrics = update(state, rng_key, batch)
        state = state.replace(num_updates=state.num_updates + 1)
        if state.model is not None:
            metrics |= {"table/known_pairs": (state.model.visits > 0).mean()}
        metrics |= {"target/value": state.qvalue.max(axis=-1).mean()}
        return LearnOutput(state, metrics, priorities=jnp.ones_like(batch.importance_weights))

    def _replay(
        self, state: TabularQState, rng_key: PRNGKey, batch: Batch
    ) -> tuple[TabularQState, Metrics]:
        """Experience replay (Lin 1992)."""
        del rng_key
        return _follow(state, steps_of(_first_rows(batch.transitions), self.num_states))

    def _dream(
        self, state: TabularQState, rng_key: PRNGKey, batch: Batch
    ) -> tuple[TabularQState, Metrics]:
        """Dyna-Q: the same backups, of steps that the model makes up (Sutton 1990)."""
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
            steps = steps_of(_first_rows(batch.transitions), self.num_states)
            return steps.state, steps.action
        uniform = self.table.backup_pairs == "uniform"
        allowed = jnp.ones_like(model.visits) if uniform else model.visits > 0
        shape = (self.table.num_backups,)
        pair = jax.random.categorical(rng_key, jnp.log(allowed.ravel()), shape=shape)
        return pair // self.num_actions, pair % self.num_actions

    def _sweep(
        self, state: TabularQState, rng_key: PRNGKey, batch: Batch
    ) -> tuple[TabularQState, Metrics]:
        """Prioritised sweeping."""
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

    def _replan(
        self, state: TabularQState, rng_key: PRNGKey, batch: Batch
    ) -> tuple[TabularQState, Metrics]:
        """R-max (Brafman and Tennenholtz 2002, section 4): plans as if the unknown were the best.

        What becomes known only lowers values, so that the last plan is a good start for the next.
        """
        del rng_key, batch
        assert state.model is not None
        is_known = state.model.visits >= self.table.known_after
        qvalue = sweep_to_convergence(state.model, state.qvalue, _discount(state), is_known)
        return state.replace(qvalue=qvalue), {"table/known": is_known.mean()}


def _first_rows(windows: Transition) -> Transition:
    """Windows of one transition, `[B, 1, ...]`, as transitions `[B, ...]`."""
    final_observation = windows.final_observation  # Has no axis for the rows.
    rows = jax.tree.map(lambda x: x[:, 0], windows.replace(final_observation=None))
    return rows.replace(final_observation=final_observation)


def _follow(
    state: TabularQState, steps: Steps, counts: Array | None = None
) -> tuple[TabularQState, Metrics]:
    """Q-learning along `[N]` steps, of those where `counts` holds."""
    rate = state.hyperparameters["table.step_size"]
    qvalue, error = follow(state.qvalue, steps, rate, _discount(state), counts)
    return state.replace(qvalue=qvalue), {"loss/value": jnp.mean(jnp.square(error))}


def _discount(state: TabularQState) -> Array | float:
    return state.hyperparameters["target.discount"]
