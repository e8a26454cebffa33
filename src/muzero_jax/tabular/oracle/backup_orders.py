"""In which order a given model is backed up, and how many backups it takes until it is solved.

Nothing is explored and nothing is learned of the world here: what differs between the orders is
which pair of state and action is backed up next, by the same expected backup.
"""

import functools
from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from muzero_jax.core.types import Array, PRNGKey
from muzero_jax.tabular.oracle.sweeping import SweepingState, priorities_of_all, sweep_most_urgent
from muzero_jax.tabular.outcomes import OutcomeTable, Steps, backup_pair, follow

Order = Literal[
    "prioritised",
    "uniform",
    "forward_sweeps",
    "backward_sweeps",
    "stored_steps",
    "stored_pairs",
]
"""`prioritised` sweeps backwards from what changed; `uniform` draws from the pairs that the model
knows; sweeps take all pairs in turn, in ascending or descending order of their states;
`stored_steps` replays given steps, and `stored_pairs` asks the model what comes of the same pairs,
drawn alike."""

IsGood = Callable[[np.ndarray], np.ndarray]
"""From `[n, S, A]` values to `[n]` bool."""


class PlanState(struct.PyTreeNode):
    """Planning with a model.

    Attributes:
      sweeping: values, and priorities.
      rng_key: for the next draw.
      num_backups: `[]` int32, made so far.
    """

    sweeping: SweepingState
    rng_key: PRNGKey
    num_backups: Array


def begin_plan(table: OutcomeTable, discount: Array | float, rng_key: PRNGKey) -> PlanState:
    """Nothing backed up yet, all values 0."""
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
    """Makes `num_backups` (`[]`) more backups in the given order; `steps` are the stored ones."""

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
            # Added, not set, as replay does it: the two must agree to the last bit.
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
    """How many backups several models take until their values are good.

    They are looked at after 1, 2, 3, ... backups, and from 1 / (growth - 1) on only after every
    further share of that size: the numbers are right to within that.

    Args:
      tables: `[n, S, A, K]`, planned with side by side.
      discount: of one step.
      order: of the backups.
      is_good: told of values by the model's number in `[n]`, without the row of the end.
      steps: `[n, N]`, those that are stored; None where the order needs none.
      seed: of the draws.
      most: ends after so many.
      growth: above 1.

    Returns:
      `[n]`, infinite where `most` were not enough.
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
