"""Compiled planning with a model of a finite process: value iteration and prioritised sweeping."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from muzero_jax.core.types import Array
from muzero_jax.tabular.outcomes import OutcomeTable, backup_all, backup_pair, leads_to
from muzero_jax.tabular.processes.mdp import TabularMDP


def table_of(mdp: TabularMDP) -> OutcomeTable:
    """A model that knows all of a process; its counts are the probabilities of the outcomes."""
    return OutcomeTable(
        next_state=jnp.asarray(np.where(mdp.terminates, mdp.num_states, mdp.next_state), jnp.int32),
        count=jnp.asarray(mdp.probability, jnp.float32),
        reward=jnp.asarray(mdp.reward, jnp.float32),
    )


def sweep_to_convergence(
    table: OutcomeTable,
    qvalue: Array,
    discount: Array | float,
    is_known: Array,
    *,
    tolerance: float = 1e-6,
    max_sweeps: int = 10_000,
) -> Array:
    """Value iteration over the known pairs of a state and an action.

    Args:
      table: the model.
      qvalue: `[S + 1, A]` values to start from; unknown pairs keep theirs.
      discount: discount of one step.
      is_known: `[S, A]` bool, whether a pair is known.
      tolerance: largest change of a value in the last sweep.
      max_sweeps: largest number of sweeps.

    Returns:
      `[S + 1, A]` the new values.
    """

    def sweep(state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        qvalue, _, num_sweeps = state
        backed_up = jnp.where(is_known, backup_all(table, qvalue, discount), qvalue[:-1])
        change = jnp.abs(backed_up - qvalue[:-1]).max()
        return qvalue.at[:-1].set(backed_up), change, num_sweeps + 1

    def unsettled(state: tuple[Array, Array, Array]) -> Array:
        return (state[1] > tolerance) & (state[2] < max_sweeps)

    start = (qvalue, jnp.full((), jnp.inf), jnp.int32(0))
    swept: Array = jax.lax.while_loop(unsettled, sweep, start)[0]
    return swept


class SweepingState(struct.PyTreeNode):
    """Values, and the pairs of a state and an action that wait for a backup.

    Attributes:
      qvalue: `[S + 1, A]` values.
      priority: `[S, A]` change that a backup would make to the pair; 0 where it does not wait.
    """

    qvalue: Array
    priority: Array


def priorities_of_all(table: OutcomeTable, qvalue: Array, discount: Array | float) -> Array:
    """`[S, A]` change that a backup would make to each pair; 0 where it was never observed.

    Args:
      table: the model.
      qvalue: `[S + 1, A]` values.
      discount: discount of one step.
    """
    change = jnp.abs(backup_all(table, qvalue, discount) - qvalue[:-1])
    return jnp.where(table.visits > 0, change, 0.0)


def sweep_most_urgent(
    table: OutcomeTable,
    state: SweepingState,
    discount: Array | float,
    step_size: Array | float = 1.0,
    threshold: float = 0.0,
) -> SweepingState:
    """Backs up the pair of highest priority, and lets the pairs that lead to its state wait.

    Prioritised sweeping (Moore and Atkeson 1993; Sutton and Barto 2018, section 8.4).

    Args:
      table: the model.
      state: values and priorities; they stay the same where no pair waits.
      discount: discount of one step.
      step_size: share of the way to the backed-up value.
      threshold: largest change that does not make a pair wait.
    """
    place = jnp.unravel_index(jnp.argmax(state.priority), state.priority.shape)
    is_waiting = state.priority[place] > 0.0
    old = state.qvalue[place]
    target = backup_pair(table, state.qvalue, discount, *place)
    qvalue = state.qvalue.at[place].set(
        jnp.where(is_waiting, old + step_size * (target - old), old)
    )
    priority = state.priority.at[place].set(0.0)
    changes = priorities_of_all(table, qvalue, discount)
    urgent = leads_to(table, place[0]) & (changes > threshold)
    priority = jnp.where(is_waiting & urgent, changes, priority)
    return SweepingState(qvalue, priority)
