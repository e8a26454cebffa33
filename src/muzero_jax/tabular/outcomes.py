"""What actions of a finite process lead to, as counted or as known, and backups over it.

States are numbered; `S` itself, one past the last, stands for the end of an episode, whose value is
0. Tables of values have a row for it. Nothing is batched; lift with `jax.vmap`.
"""

import jax
import jax.numpy as jnp
from flax import struct

from muzero_jax.core.types import Array


class OutcomeTable(struct.PyTreeNode):
    """At most `K` different outcomes of every state and action.

    Attributes:
      next_state: `[S, A, K]` int32; `S` where the episode ended.
      count: `[S, A, K]` float32, how often, or how probably; 0 where there is no outcome.
      reward: `[S, A, K]` float32, the mean.
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
        """`[S, A]` how often each pair was observed, but for outcomes that were replaced."""
        return self.count.sum(axis=-1)


class Steps(struct.PyTreeNode):
    """Single steps, one after the other: fields `[N]`; `next_state` is `S` where it ended."""

    state: Array
    action: Array
    reward: Array
    next_state: Array


def empty_table(num_states: int, num_actions: int, num_outcomes: int) -> OutcomeTable:
    """A table of nothing, `[num_states, num_actions, num_outcomes]`."""
    shape = (num_states, num_actions, num_outcomes)
    return OutcomeTable(jnp.zeros(shape, jnp.int32), jnp.zeros(shape), jnp.zeros(shape))


def count_outcome(table: OutcomeTable, step: Steps) -> OutcomeTable:
    """Adds one observed step, whose fields are `[]`.

    An outcome for which there is no room takes the place of the rarest: with room for one, the
    table holds what happened last.
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
      qvalue: `[S + 1, A]`.
      steps: `[N]`.
      step_size: share of the way to the target.
      discount: of one step.
      counts: `[N]` bool, the steps to follow; all where None.

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
    """The most frequent outcome of every pair, `[S, A]` each, or `[...]` of `[..., K]` rows of it.

    Returns:
      The next state and the reward, meaningless where nothing was observed, and whether it was.
    """
    num_outcomes = table.count.shape[-1]
    is_likeliest = jax.nn.one_hot(jnp.argmax(table.count, axis=-1), num_outcomes, dtype=bool)

    def pick(x: Array) -> Array:
        return jnp.where(is_likeliest, x, 0).sum(axis=-1, dtype=x.dtype)

    return pick(table.next_state), pick(table.reward), table.count.max(axis=-1) > 0


def draw_outcome(
    table: OutcomeTable, rng_key: Array, state: Array, action: Array
) -> tuple[Array, Array]:
    """The reward `[]` and next state `[]` of an outcome, drawn as often as it was observed.

    The `rng_key` is consumed. Of a pair that was never observed the answer is meaningless.
    """
    counts = table.count[state, action]
    slot = jax.random.categorical(rng_key, jnp.log(counts)) if counts.shape[0] > 1 else 0
    return table.reward[state, action, slot], table.next_state[state, action, slot]


def backup_pair(
    table: OutcomeTable, qvalue: Array, discount: Array | float, state: Array, action: Array
) -> Array:
    """`[]` the expected backup of one pair (Sutton and Barto 2018, equation 4.2).

    Args:
      table: the model.
      qvalue: `[S + 1, A]`.
      discount: of one step.
      state: `[]`.
      action: `[]`.
    """
    place = (state, action)
    return _expected(table, qvalue.max(axis=-1), discount, place)


def backup_all(table: OutcomeTable, qvalue: Array, discount: Array | float) -> Array:
    """`[S, A]` the expected backups of all pairs at once; 0 for those that were never observed."""
    return _expected(table, qvalue.max(axis=-1), discount, ())


def _expected(
    table: OutcomeTable, value: Array, discount: Array | float, place: tuple[Array, ...]
) -> Array:
    counts = table.count[place]
    targets = table.reward[place] + discount * value[table.next_state[place]]
    # Of a single outcome the frequency is exactly 1, and its target is not rounded.
    frequency = counts / jnp.maximum(counts.sum(axis=-1, keepdims=True), 1e-9)
    return (frequency * targets).sum(axis=-1)


def leads_to(table: OutcomeTable, state: Array) -> Array:
    """`[S, A]` bool, the pairs that were observed to lead to `state`."""
    return ((table.next_state == state) & (table.count > 0)).any(axis=-1)
