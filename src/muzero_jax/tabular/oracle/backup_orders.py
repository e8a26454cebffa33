"""Orders in which a given model is backed up, and the number of backups until it is solved.

Nothing is explored and no model is learned here. All orders make the same expected backups; they
differ in which pair of a state and an action is backed up next.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from muzero_jax.core.types import Array, PRNGKey, PyTree
from muzero_jax.envs.wrappers import AutoReset
from muzero_jax.tabular.oracle.sweeping import SweepingState, priorities_of_all, sweep_most_urgent
from muzero_jax.tabular.outcomes import OutcomeTable, Steps, backup_pair, follow
from muzero_jax.tabular.processes.environments import TabularEnvironment

Order = Literal[
    "prioritised",
    "uniform",
    "forward_sweeps",
    "backward_sweeps",
    "stored_steps",
    "stored_pairs",
]
"""How the next pair is found. `prioritised` is prioritised sweeping; `uniform` draws from the pairs
that the model knows; the sweeps take all pairs in turn, in ascending or descending order of their
states; `stored_steps` replays stored steps, and `stored_pairs` draws the same pairs and asks the
model about them."""

IsGood = Callable[[np.ndarray], np.ndarray]
"""Function of `[n, S, A]` values of n models, which returns `[n]` bool."""


class PlanState(struct.PyTreeNode):
    """The state of planning with a model.

    Attributes:
      sweeping: values and priorities.
      rng_key: key of the next draw.
      num_backups: `[]` int32 number of backups so far.
    """

    sweeping: SweepingState
    rng_key: PRNGKey
    num_backups: Array


def begin_plan(table: OutcomeTable, discount: Array | float, rng_key: PRNGKey) -> PlanState:
    """The state before the first backup, with values of 0.

    Args:
      table: the model.
      discount: discount of one step.
      rng_key: consumed.
    """
    qvalue = jnp.zeros((table.num_states + 1, table.num_actions))
    sweeping = SweepingState(qvalue, priorities_of_all(table, qvalue, discount))
    return PlanState(sweeping, rng_key, jnp.zeros((), jnp.int32))


@functools.partial(jax.jit, static_argnames="order")
def go_on(
    table: OutcomeTable,
    steps: Steps | None,
    state: PlanState,
    discount: Array | float,
    num_backups: Array | int,
    order: Order,
) -> PlanState:
    """Makes more backups.

    Args:
      table: the model.
      steps: `[N]` stored steps; None where the order needs none.
      state: the state to go on from.
      discount: discount of one step.
      num_backups: `[]` number of further backups.
      order: order of the backups.
    """

    def backup(_: Array, state: PlanState) -> PlanState:
        rng_key, draw_key = jax.random.split(state.rng_key)
        sweeping = state.sweeping
        if order == "prioritised":
            sweeping = sweep_most_urgent(table, sweeping, discount, threshold=1e-6)
        elif order == "stored_steps":
            assert steps is not None
            drawn = jax.tree.map(lambda x: x[None], _drawn(steps, draw_key))
            qvalue, _ = follow(sweeping.qvalue, drawn, 1.0, discount)
            sweeping = sweeping.replace(qvalue=qvalue)
        else:
            place = _next_pair(table, steps, order, draw_key, state.num_backups)
            change = backup_pair(table, sweeping.qvalue, discount, *place) - sweeping.qvalue[place]
            # The change is added, as in replay, so that both agree to the last bit.
            sweeping = sweeping.replace(qvalue=sweeping.qvalue.at[place].add(change))
        return PlanState(sweeping, rng_key, state.num_backups + 1)

    return jax.lax.fori_loop(0, num_backups, backup, state)


def _drawn(steps: Steps, rng_key: PRNGKey) -> Steps:
    index = jax.random.randint(rng_key, (), 0, steps.state.shape[0])
    return jax.tree.map(lambda x: x[index], steps)


def _next_pair(
    table: OutcomeTable, steps: Steps | None, order: Order, rng_key: PRNGKey, num_backups: Array
) -> tuple[Array, Array]:
    if order == "stored_pairs":
        assert steps is not None
        drawn = _drawn(steps, rng_key)
        return drawn.state, drawn.action
    num_pairs = table.num_states * table.num_actions
    if order == "uniform":
        total = jnp.cumsum(table.visits.ravel() > 0)
        rank = jax.random.randint(rng_key, (), 0, total[-1])
        pair = jnp.searchsorted(total, rank, side="right")
    else:
        pair = num_backups % num_pairs
        pair = num_pairs - 1 - pair if order == "backward_sweeps" else pair
    return pair // table.num_actions, pair % table.num_actions


def count_backups(
    tables: OutcomeTable,
    discount: float,
    order: Order,
    is_good: IsGood,
    *,
    steps: Steps | None = None,
    seed: int = 0,
    most: int = 1_000_000,
    growth: float = 1.05,
) -> np.ndarray:
    """Counts the backups of several models until their values are good.

    The values are looked at after every backup at first, and after 1 / (growth - 1) backups only
    after every further share `growth - 1`: the counts are right to within that share.

    Args:
      tables: `[n, S, A, K]` models, planned with side by side.
      discount: discount of one step.
      order: order of the backups.
      is_good: function that says which models' values, without the row of the end, are good.
      steps: `[n, N]` stored steps; None where the order needs none.
      seed: seed of the draws.
      most: largest number of backups.
      growth: ratio of the numbers of backups at two successive looks, above 1.

    Returns:
      `[n]` numbers of backups; infinite where `most` were not enough.
    """
    num_tables = tables.count.shape[0]
    keys = jax.random.split(jax.random.key(seed), num_tables)
    state = jax.vmap(begin_plan, in_axes=(0, None, 0))(tables, discount, keys)
    advance = jax.vmap(
        functools.partial(go_on, order=order),
        in_axes=(0, None if steps is None else 0, 0, None, None),
    )
    needed = np.full(num_tables, np.inf)
    done = 0
    while done < most and np.isinf(needed).any():
        further = max(1, int(done * (growth - 1.0)))
        state = advance(tables, steps, state, discount, further)
        done += further
        good = is_good(np.asarray(state.sweeping.qvalue)[:, :-1])
        needed[good & np.isinf(needed)] = done
    return needed


def random_steps(env: TabularEnvironment, rng_key: PRNGKey, *, num_steps: int) -> Steps:
    """`[num_steps]` steps of a random walk, which goes on after an episode's end.

    Args:
      env: the environment.
      rng_key: consumed.
      num_steps: number of steps.
    """
    walked = AutoReset(dataclasses.replace(env, observation="index"))
    rng_key, reset_key = jax.random.split(rng_key)
    begin, _ = walked.reset(reset_key)

    def step(state: PyTree, rng_key: PRNGKey) -> tuple[PyTree, Steps]:
        action_key, env_key = jax.random.split(rng_key)
        origin: Array = state.env_state
        action = jax.random.randint(action_key, (), 0, env.spec.num_actions)
        state, _ = walked.step(env_key, state, action)
        outcome = state.outcome
        has_ended = outcome.discount == 0.0
        following = jnp.where(has_ended, env.mdp.num_states, outcome.observation)
        return state, Steps(origin, action, outcome.reward[0], following)

    return jax.lax.scan(step, begin, jax.random.split(rng_key, num_steps))[1]
