"""Outcomes of the actions of a finite process, counted or known, and backups over them.

States are numbered. The number `S`, one past the last state, stands for the end of an episode; its
value is 0, and tables of values `[S + 1, A]` have a row for it. Nothing is batched; lift with
`jax.vmap`.
"""

import jax
import jax.numpy as jnp
from flax import struct

from muzero_jax.core.types import Array


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
    def num_states(self) -> int:
        """`S`."""
        return int(self.next_state.shape[0])

    @property
    def num_actions(self) -> int:
        """`A`."""
        return int(self.next_state.shape[1])

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


def empty_table(num_states: int, num_actions: int, num_outcomes: int) -> OutcomeTable:
    """A table without outcomes.

    Args:
      num_states: number of states `S`.
      num_actions: number of actions `A`.
      num_outcomes: room for each pair, `K`.
    """
    shape = (num_states, num_actions, num_outcomes)
    return OutcomeTable(jnp.zeros(shape, jnp.int32), jnp.zeros(shape), jnp.zeros(shape))


def count_outcome(table: OutcomeTable, step: Steps) -> OutcomeTable:
    """Adds one observed step, whose fields are `[]`.

    A new outcome for which there is no room replaces the rarest one, so a table with room for one
    outcome holds the last one.
    """
    place = (step.state, step.action)
    counts = table.count[place]
    is_same = (table.next_state[place] == step.next_state) & (counts > 0)
    slot = jnp.where(is_same.any(), jnp.argmax(is_same), jnp.argmin(counts))
    count = jnp.where(is_same.any(), counts[slot] + 1.0, 1.0)
    mean = table.reward[(*place, slot)]
    mean = jnp.where(is_same.any(), mean + (step.reward - mean) / count, step.reward)
    return OutcomeTable(
        next_state=table.next_state.at[(*place, slot)].set(step.next_state.astype(jnp.int32)),
        count=table.count.at[(*place, slot)].set(count),
        reward=table.reward.at[(*place, slot)].set(mean),
    )


def count_steps(table: OutcomeTable, steps: Steps) -> OutcomeTable:
    """Adds `[N]` observed steps in their order."""

    def add(table: OutcomeTable, step: Steps) -> tuple[OutcomeTable, None]:
        return count_outcome(table, step), None

    return jax.lax.scan(add, table, steps)[0]


def follow(
    qvalue: Array,
    steps: Steps,
    step_size: Array | float,
    discount: Array | float,
    counts: Array | None = None,
) -> tuple[Array, Array]:
    """Q-learning along steps, one after the other (Watkins and Dayan 1992).

    Args:
      qvalue: `[S + 1, A]` values.
      steps: `[N]` steps.
      step_size: share of the way to the target.
      discount: discount of one step.
      counts: `[N]` bool, whether to learn from a step; None learns from all.

    Returns:
      The new `[S + 1, A]` values, and the `[N]` distances from the targets.
    """
    counts = jnp.ones(steps.state.shape, bool) if counts is None else counts

    def move(qvalue: Array, example: tuple[Steps, Array]) -> tuple[Array, Array]:
        step, counted = example
        target = step.reward + discount * qvalue[step.next_state].max()
        error = jnp.where(counted, target - qvalue[step.state, step.action], 0.0)
        return qvalue.at[step.state, step.action].add(step_size * error), error

    return jax.lax.scan(move, qvalue, (steps, counts))


def likeliest_outcome(table: OutcomeTable) -> tuple[Array, Array, Array]:
    """The most frequent outcome of each pair of a table `[..., K]`.

    Returns:
      `[...]` next state and reward, which are meaningless where nothing was observed, and whether
      an outcome was observed.
    """
    num_outcomes = table.count.shape[-1]
    is_likeliest = jax.nn.one_hot(jnp.argmax(table.count, axis=-1), num_outcomes, dtype=bool)

    def pick(x: Array) -> Array:
        return jnp.where(is_likeliest, x, 0).sum(axis=-1, dtype=x.dtype)

    return pick(table.next_state), pick(table.reward), table.count.max(axis=-1) > 0


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


def backup_pair(
    table: OutcomeTable, qvalue: Array, discount: Array | float, state: Array, action: Array
) -> Array:
    """`[]` expected backup of one pair (Sutton and Barto 2018, equation 4.2).

    Args:
      table: the model.
      qvalue: `[S + 1, A]` values.
      discount: discount of one step.
      state: `[]` int32.
      action: `[]` int32.
    """
    return _expected(table, qvalue.max(axis=-1), discount, (state, action))


def backup_all(table: OutcomeTable, qvalue: Array, discount: Array | float) -> Array:
    """`[S, A]` expected backups of all pairs; 0 where a pair was never observed.

    Args:
      table: the model.
      qvalue: `[S + 1, A]` values.
      discount: discount of one step.
    """
    return _expected(table, qvalue.max(axis=-1), discount, ())


def _expected(
    table: OutcomeTable, value: Array, discount: Array | float, place: tuple[Array, ...]
) -> Array:
    counts = table.count[place]
    targets = table.reward[place] + discount * value[table.next_state[place]]
    # A single outcome has a frequency of exactly 1, so its target is not rounded.
    frequency = counts / jnp.maximum(counts.sum(axis=-1, keepdims=True), 1e-9)
    return (frequency * targets).sum(axis=-1)


def leads_to(table: OutcomeTable, state: Array) -> Array:
    """`[S, A]` bool, whether a pair was observed to lead to `state`."""
    return ((table.next_state == state) & (table.count > 0)).any(axis=-1)
