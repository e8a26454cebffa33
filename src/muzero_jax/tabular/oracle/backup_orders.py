"""Orders in which a given model is backed up, and the number of backups until it is solved.

Nothing is explored and no model is learned here.
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
from muzero_jax.tabular.outcomes import (
    OutcomeTable,
    Steps,
    backup,
    priorities_of_all,
    sweep_most_urgent,
)
from muzero_jax.tabular.processes.environments import TabularEnvironment

Order = Literal[
    "prioritised", "uniform", "forward_sweeps", "backward_sweeps", "stored_steps", "stored_pairs"
]
"""How the next pair is found. `prioritised` is prioritised sweeping; `uniform` draws from the pairs
that the model knows; the sweeps take all pairs in turn, in ascending or descending order of their
states; `stored_steps` replays stored steps, and `stored_pairs` draws the same pairs and asks the
model about them."""

IsGood = Callable[[np.ndarray], np.ndarray]
"""Function of `[n, S, A]` values of n models, which returns `[n]` bool."""


class PlanState(struct.PyTreeNode):
    """`[S + 1, A]` values, `[S, A]` priorities, the next key and the `[]` number of backups."""

    qvalue: Array
    priority: Array
    rng_key: PRNGKey
    num_backups: Array


def begin_plan(table: OutcomeTable, discount: Array | float, rng_key: PRNGKey) -> PlanState:
    """The state before the first backup, with values of 0.

    Args:
      table: the model.
      discount: discount of one step.
      rng_key: consumed.
    """
    num_states, num_actions, _ = table.count.shape
    qvalue = jnp.zeros((num_states + 1, num_actions))
    priority = priorities_of_all(table, qvalue, discount)
    return PlanState(qvalue, priority, rng_key, jnp.zeros((), jnp.int32))


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

    def back_up(_: Array, state: PlanState) -> PlanState:
        rng_key, draw_key = jax.random.split(state.rng_key)
        qvalue, priority = state.qvalue, state.priority
        if order == "prioritised":
            values = qvalue, priority
            qvalue, priority = sweep_most_urgent(table, values, discount, threshold=1e-6)
        elif order in ("stored_steps", "stored_pairs"):
            assert steps is not None
            index = jax.random.randint(draw_key, (), 0, steps.state.shape[0])
            step = jax.tree.map(lambda x: x[index], steps)
            pair = step.state, step.action
            target = backup(table, qvalue, discount, pair)
            if order == "stored_steps":
                target = step.reward + discount * qvalue[step.next_state].max()
            # The change is added in both, so that they agree to the last bit.
            qvalue = qvalue.at[pair].add(target - qvalue[pair])
        else:
            pair = _next_pair(table, order, draw_key, state.num_backups)
            qvalue = qvalue.at[pair].add(backup(table, qvalue, discount, pair) - qvalue[pair])
        return PlanState(qvalue, priority, rng_key, state.num_backups + 1)

    return jax.lax.fori_loop(0, num_backups, back_up, state)


def _next_pair(
    table: OutcomeTable, order: Order, rng_key: PRNGKey, num_backups: Array
) -> tuple[Array, Array]:
    num_states, num_actions, _ = table.count.shape
    if order == "uniform":
        total = jnp.cumsum(table.visits.ravel() > 0)
        rank = jax.random.randint(rng_key, (), 0, total[-1])
        pair = jnp.searchsorted(total, rank, side="right")
    else:
        pair = num_backups % (num_states * num_actions)
        pair = num_states * num_actions - 1 - pair if order == "backward_sweeps" else pair
    return pair // num_actions, pair % num_actions


def count_backups(
    tables: OutcomeTable,
    discount: float,
    order: Order,
    is_good: IsGood,
    *,
    steps: Steps | None = None,
    most: int = 1_000_000,
) -> np.ndarray:
    """Counts the backups of several models until their values are good.

    The values are looked at whenever the number of backups has grown by 5 %, or by one backup: the
    counts are right to within 5 %.

    Args:
      tables: `[n, S, A, K]` models, planned with side by side.
      discount: discount of one step.
      order: order of the backups.
      is_good: function that says which models' values, without the row of the end, are good.
      steps: `[n, N]` stored steps; None where the order needs none.
      most: largest number of backups.

    Returns:
      `[n]` numbers of backups; infinite where `most` were not enough.
    """
    num_tables = len(tables.count)
    keys = jax.random.split(jax.random.key(0), num_tables)
    state = jax.vmap(begin_plan, in_axes=(0, None, 0))(tables, discount, keys)
    advance = jax.vmap(
        functools.partial(go_on, order=order),
        in_axes=(0, None if steps is None else 0, 0, None, None),
    )
    needed = np.full(num_tables, np.inf)
    done = 0
    while done < most and np.isinf(needed).any():
        further = max(1, done // 20)
        state = advance(tables, steps, state, discount, further)
        done += further
        good = is_good(np.asarray(state.qvalue)[:, :-1])
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
        end, outcome = env.mdp.num_states, state.outcome
        following = jnp.where(outcome.discount == 0.0, end, outcome.observation)
        return state, Steps(origin, action, outcome.reward[0], following)

    return jax.lax.scan(step, begin, jax.random.split(rng_key, num_steps))[1]
