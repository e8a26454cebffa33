"""Planning with a model of a finite process: value iteration and prioritised sweeping, compiled."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from muzero_jax.core.types import Array
from muzero_jax.tabular.outcomes import OutcomeTable, backup_all, backup_pair, leads_to
from muzero_jax.tabular.processes.mdp import TabularMDP


def table_of(mdp: TabularMDP) -> OutcomeTable:
    """The process as a model that knows everything; its counts are the probabilities."""
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
    """Value iteration over the known pairs; the others keep their values.

    Args:
      table: the model.
      qvalue: `[S + 1, A]` where to start.
      discount: of one step.
      is_known: `[S, A]` bool.
      tolerance: ends when no value changes by more in a sweep.
      max_sweeps: ends at the latest then.

    Returns:
      `[S + 1, A]`.
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
    """What prioritised sweeping works on.

    Attributes:
      qvalue: `[S + 1, A]`.
      priority: `[S, A]` by how much a backup would change a value; 0 where nobody waits.
    """

    qvalue: Array
    priority: Array


def priorities_of_all(table: OutcomeTable, qvalue: Array, discount: Array | float) -> Array:
    """`[S, A]` by how much a backup would change each observed pair."""
    change = jnp.abs(backup_all(table, qvalue, discount) - qvalue[:-1])
    return jnp.where(table.visits > 0, change, 0.0)


def sweep_most_urgent(
    table: OutcomeTable,
    state: SweepingState,
    discount: Array | float,
    step_size: Array | float = 1.0,
    threshold: float = 0.0,
) -> SweepingState:
    """Backs up the pair of highest priority, and passes the change on to what leads there.

    Prioritised sweeping (Moore and Atkeson 1993; Sutton and Barto 2018, section 8.4).

    Args:
      table: the model.
      state: nothing happens to it where no pair waits.
      discount: of one step.
      step_size: share of the way to the backed-up value.
      threshold: changes up to this do not make a pair wait.
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
