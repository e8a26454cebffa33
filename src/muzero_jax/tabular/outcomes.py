"""Models of finite processes: the outcomes of actions, counted or known, and planning with them.

States are numbered. The number `S`, one past the last state, stands for the end of an episode; its
value is 0, and tables of values `[S + 1, A]` have a row for it. Nothing is batched; lift with
`jax.vmap`.
"""

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from muzero_jax.core.types import Array
from muzero_jax.tabular.processes.mdp import TabularMDP

_TOLERANCE, _MAX_SWEEPS = 1e-6, 10_000


class OutcomeTable(struct.PyTreeNode):
    """A model: at most `K` different outcomes of every pair of a state and an action.

    Attributes:
      next_state: `[S, A, K]` int32; `S` where the episode ended.
      count: `[S, A, K]` float32 count or probability; 0 where there is no outcome.
      reward: `[S, A, K]` float32 mean reward.
    """

    next_state: Array
    count: Array
    reward: Array

    @property
    def visits(self) -> Array:
        """`[S, A]` number of observations of each pair, without outcomes that were replaced."""
        return self.count.sum(axis=-1)


class Steps(struct.PyTreeNode):
    """Steps one after the other, fields `[N]`; `next_state` is `S` where an episode ended."""

    state: Array
    action: Array
    reward: Array
    next_state: Array


def empty_table(*shape: int) -> OutcomeTable:
    """A table without outcomes, of `S` states, `A` actions and room for `K` outcomes of a pair."""
    return OutcomeTable(jnp.zeros(shape, jnp.int32), jnp.zeros(shape), jnp.zeros(shape))


def table_of(mdp: TabularMDP) -> OutcomeTable:
    """A model that knows all of a process; its counts are the probabilities of the outcomes."""
    return OutcomeTable(
        next_state=jnp.asarray(np.where(mdp.terminates, mdp.num_states, mdp.next_state), jnp.int32),
        count=jnp.asarray(mdp.probability, jnp.float32),
        reward=jnp.asarray(mdp.reward, jnp.float32),
    )


def count_steps(table: OutcomeTable, steps: Steps) -> OutcomeTable:
    """Adds `[N]` observed steps in their order.

    A new outcome for which there is no room replaces the rarest one, so a table with room for one
    outcome holds the last one.
    """

    def add(table: OutcomeTable, step: Steps) -> tuple[OutcomeTable, None]:
        pair = step.state, step.action
        is_same = (table.next_state[pair] == step.next_state) & (table.count[pair] > 0)
        is_known, rarest = is_same.any(), jnp.argmin(table.count[pair])
        place = *pair, jnp.where(is_known, jnp.argmax(is_same), rarest)
        count = jnp.where(is_known, table.count[place] + 1.0, 1.0)
        mean = table.reward[place]
        mean = jnp.where(is_known, mean + (step.reward - mean) / count, step.reward)
        next_state = table.next_state.at[place].set(step.next_state.astype(jnp.int32))
        counts, rewards = table.count.at[place].set(count), table.reward.at[place].set(mean)
        return OutcomeTable(next_state, counts, rewards), None

    return jax.lax.scan(add, table, steps)[0]


def follow(
    qvalue: Array,
    steps: Steps,
    step_size: Array | float,
    discount: Array | float,
    counts: Array | bool = True,
) -> tuple[Array, Array]:
    """Q-learning along steps, one after the other (Watkins and Dayan 1992).

    Args:
      qvalue: `[S + 1, A]` values.
      steps: `[N]` steps.
      step_size: share of the way to the target.
      discount: discount of one step.
      counts: `[]` or `[N]` bool, whether to learn from a step.

    Returns:
      The new `[S + 1, A]` values, and the `[N]` distances from the targets.
    """

    def move(qvalue: Array, example: tuple[Steps, Array]) -> tuple[Array, Array]:
        step, counted = example
        target = step.reward + discount * qvalue[step.next_state].max()
        error = jnp.where(counted, target - qvalue[step.state, step.action], 0.0)
        return qvalue.at[step.state, step.action].add(step_size * error), error

    return jax.lax.scan(move, qvalue, (steps, jnp.broadcast_to(counts, steps.state.shape)))


def draw_outcome(
    table: OutcomeTable, rng_key: Array, state: Array, action: Array
) -> tuple[Array, Array]:
    """Draws an outcome with the frequency with which it was observed.

    Args:
      table: the model.
      rng_key: consumed.
      state: `[]` int32.
      action: `[]` int32.

    Returns:
      `[]` reward and next state; meaningless where the pair was never observed.
    """
    counts = table.count[state, action]
    slot = jax.random.categorical(rng_key, jnp.log(counts)) if counts.shape[0] > 1 else 0
    return table.reward[state, action, slot], table.next_state[state, action, slot]


def backup(
    table: OutcomeTable, qvalue: Array, discount: Array | float, pair: tuple[Array, ...] = ()
) -> Array:
    """Expected backups (Sutton and Barto 2018, equation 4.2); 0 where nothing was observed.

    Args:
      table: the model.
      qvalue: `[S + 1, A]` values.
      discount: discount of one step.
      pair: a state `[]` and an action `[]`, whose backup `[]` is returned; by default the backups
        `[S, A]` of all pairs.
    """
    counts = table.count[pair]
    targets = table.reward[pair] + discount * qvalue.max(axis=-1)[table.next_state[pair]]
    # A single outcome has a frequency of exactly 1, so its target is not rounded.
    frequency = counts / jnp.maximum(counts.sum(axis=-1, keepdims=True), 1e-9)
    return (frequency * targets).sum(axis=-1)


def sweep_to_convergence(
    table: OutcomeTable, qvalue: Array, discount: Array | float, is_known: Array
) -> Array:
    """The `[S + 1, A]` values after value iteration over the known pairs, until it settles.

    Args:
      table: the model.
      qvalue: `[S + 1, A]` values to start from; unknown pairs keep theirs.
      discount: discount of one step.
      is_known: `[S, A]` bool, whether a pair is known.
    """

    def sweep(state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        qvalue, _, num_sweeps = state
        backed_up = jnp.where(is_known, backup(table, qvalue, discount), qvalue[:-1])
        change = jnp.abs(backed_up - qvalue[:-1]).max()
        return qvalue.at[:-1].set(backed_up), change, num_sweeps + 1

    def unsettled(state: tuple[Array, Array, Array]) -> Array:
        return (state[1] > _TOLERANCE) & (state[2] < _MAX_SWEEPS)

    start = (qvalue, jnp.full((), jnp.inf), jnp.int32(0))
    return jax.lax.while_loop(unsettled, sweep, start)[0]


def priorities_of_all(table: OutcomeTable, qvalue: Array, discount: Array | float) -> Array:
    """`[S, A]` change that a backup would make to each pair; 0 where it was never observed.

    Args:
      table: the model.
      qvalue: `[S + 1, A]` values.
      discount: discount of one step.
    """
    change = jnp.abs(backup(table, qvalue, discount) - qvalue[:-1])
    return jnp.where(table.visits > 0, change, 0.0)


def sweep_most_urgent(
    table: OutcomeTable,
    values: tuple[Array, Array],
    discount: Array | float,
    step_size: Array | float = 1.0,
    threshold: float = 0.0,
) -> tuple[Array, Array]:
    """Backs up the pair of highest priority, and lets the pairs that lead to its state wait.

    Prioritised sweeping (Moore and Atkeson 1993; Sutton and Barto 2018, section 8.4).

    Args:
      table: the model.
      values: `[S + 1, A]` values, and `[S, A]` priorities: the change that a backup would make to a
        pair, 0 where it does not wait. Both stay the same where no pair waits.
      discount: discount of one step.
      step_size: share of the way to the backed-up value.
      threshold: largest change that does not make a pair wait.
    """
    qvalue, priority = values
    place = jnp.unravel_index(jnp.argmax(priority), priority.shape)
    is_waiting = priority[place] > 0.0
    old, target = qvalue[place], backup(table, qvalue, discount, place)
    new = jnp.where(is_waiting, old + step_size * (target - old), old)
    qvalue, priority = qvalue.at[place].set(new), priority.at[place].set(0.0)
    changes = priorities_of_all(table, qvalue, discount)
    leads_there = ((table.next_state == place[0]) & (table.count > 0)).any(axis=-1)
    urgent = is_waiting & leads_there & (changes > threshold)
    return qvalue, jnp.where(urgent, changes, priority)
