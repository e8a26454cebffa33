"""A ring of transitions on the device, sampled in windows of consecutive steps.

Storage is `[time_capacity, num_envs, ...]`: one row for each step of all environments. A window
runs along one environment's column; it may wrap around the end of the storage and span the ends of
episodes, but never crosses the write head.
"""

import dataclasses
import functools
import math

import chex
import jax
import jax.numpy as jnp
from flax import struct

from muzero_jax.core.types import Array, PRNGKey, Transition
from muzero_jax.replay.settings import ReplayConfig

PRIORITY_FLOOR = 1e-3
"""Added to every priority, so that no window is forgotten."""


@dataclasses.dataclass(frozen=True)
class WindowSpec:
    """Which part of the stored steps an agent learns from.

    Attributes:
      length: consecutive transitions `L` in a window.
      observation_offsets: positions in the window whose observations, which are large, are read.
    """

    length: int
    observation_offsets: tuple[int, ...]


class ReplayState(struct.PyTreeNode):
    """The ring. `C` rows, of which the `size` before `head` are filled.

    Attributes:
      transitions: fields `[C, num_envs, ...]`.
      priorities: `[C, num_envs]` float32, of the windows that start there.
      head: `[]` int32, the row written next.
      size: `[]` int32, filled rows.
    """

    transitions: Transition
    priorities: Array
    head: Array
    size: Array


class Batch(struct.PyTreeNode):
    """Sampled windows.

    Attributes:
      transitions: fields `[B, L, ...]`, but `observation` is `[B, len(observation_offsets), ...]`
        and `final_observation` is `[B, ...]`, that of the window's first end.
      importance_weights: `[B]` in (0, 1], 1 for uniform sampling.
      index: `[B]` int32, flat positions of the starts, for `update_priorities`.
    """

    transitions: Transition
    importance_weights: Array
    index: Array


@dataclasses.dataclass(frozen=True)
class Replay:
    """Pure functions over a `ReplayState`.

    Attributes:
      config: the settings of the ring, whose capacity is rounded down to whole rows.
      window: what is read around each sampled start; the ring holds at least one window.
      num_envs: environments that are written side by side.
    """

    config: ReplayConfig
    window: WindowSpec
    num_envs: int

    def init(self, transition: Transition) -> ReplayState:
        """An empty ring, from the shapes of one unbatched transition."""
        shape = (self.config.capacity // self.num_envs, self.num_envs)
        return ReplayState(
            transitions=jax.tree.map(lambda x: jnp.zeros((*shape, *x.shape), x.dtype), transition),
            priorities=jnp.zeros(shape, jnp.float32),
            head=jnp.zeros((), jnp.int32),
            size=jnp.zeros((), jnp.int32),
        )

    def add(self, state: ReplayState, transitions: Transition, priorities: Array) -> ReplayState:
        """Writes `T` rows at the head.

        Args:
          state: the ring.
          transitions: fields `[T, num_envs, ...]`.
          priorities: `[T, num_envs]` of the windows that start at the rows.
        """
        chex.assert_tree_shape_prefix(transitions, priorities.shape)
        num_rows, time_capacity = priorities.shape[0], state.priorities.shape[0]
        if num_rows > time_capacity:
            raise ValueError(f"cannot add {num_rows} rows to a replay of {time_capacity}.")
        rows = (state.head + jnp.arange(num_rows)) % time_capacity

        def write(stored: Array, new: Array) -> Array:
            return stored.at[rows].set(new, unique_indices=True)

        return ReplayState(
            transitions=jax.tree.map(write, state.transitions, transitions),
            priorities=write(state.priorities, priorities),
            head=(state.head + num_rows) % time_capacity,
            size=jnp.minimum(state.size + num_rows, time_capacity),
        )

    def can_sample(self, state: ReplayState) -> Array:
        """`[]` bool, whether enough is held to learn."""
        time_capacity = self.config.capacity // self.num_envs
        min_rows = min(math.ceil(self.config.min_size / self.num_envs), time_capacity)
        return state.size >= max(self.window.length, min_rows)

    def sample(
        self,
        state: ReplayState,
        rng_key: PRNGKey,
        priority_exponent: Array | float = 1.0,
        importance_exponent: Array | float = 1.0,
    ) -> Batch:
        """Draws a batch of windows.

        Args:
          state: the ring.
          rng_key: consumed.
          priority_exponent: exponent of the priorities (Schaul et al. 2016, arXiv 1511.05952).
          importance_exponent: exponent of the importance weights.
        """
        draw = _draw_by_priority
        if not self.config.prioritised:
            draw = functools.partial(_draw_by_age, recency=self.config.recency)
        probabilities = jnp.power(state.priorities + PRIORITY_FLOOR, priority_exponent)
        length, batch_size = self.window.length, self.config.batch_size
        row, env, weights = draw(state, rng_key, probabilities, length, batch_size)
        weights = jnp.power(weights, importance_exponent)
        return Batch(
            transitions=_read(state.transitions, row, env, self.window),
            importance_weights=weights / weights.max(),
            index=row * self.num_envs + env,
        )

    def update_priorities(self, state: ReplayState, index: Array, priorities: Array) -> ReplayState:
        """Replaces the priorities of sampled windows.

        Args:
          state: the ring.
          index: `[B]` where the windows start, from the `Batch`.
          priorities: `[B]`.
        """
        row, env = index // self.num_envs, index % self.num_envs
        return state.replace(priorities=state.priorities.at[row, env].set(priorities))


def _draw_by_age(
    state: ReplayState,
    rng_key: PRNGKey,
    probabilities: Array,
    length: int,
    batch_size: int,
    recency: float,
) -> tuple[Array, Array, Array]:
    """Rows, environments and importance weights (all 1) of drawn windows, `[B]` each.

    All windows are as likely, or new ones are likelier than old ones (`ReplayConfig.recency`).
    """
    del probabilities
    time_capacity, num_envs = state.priorities.shape
    row_key, env_key = jax.random.split(rng_key)
    num_starts = jnp.maximum(state.size - length + 1, 1)
    if recency:
        from_newest = jnp.power(jax.random.uniform(row_key, (batch_size,)), 1.0 + recency)
        place = num_starts - 1 - jnp.floor(num_starts * from_newest).astype(jnp.int32)
        place = jnp.maximum(place, 0)
    else:
        place = jax.random.randint(row_key, (batch_size,), 0, num_starts)
    row = (state.head - state.size + place) % time_capacity
    env = jax.random.randint(env_key, (batch_size,), 0, num_envs)
    return row, env, jnp.ones(batch_size)


def _draw_by_priority(
    state: ReplayState, rng_key: PRNGKey, probabilities: Array, length: int, batch_size: int
) -> tuple[Array, Array, Array]:
    """Stratified proportional draws: first a row by the sum of its weights, then an environment.

    Two short cumulative sums keep float32 exact enough for millions of transitions, where one long
    sum would not be. Rows are taken by age, where all starts come first: a parallel cumulative sum
    is not quite flat over the weightless rows that follow, and a draw that falls there by rounding
    is given to the last start. The strata are shuffled, because learners may treat the first part
    of a batch differently from the rest.
    """
    time_capacity, num_envs = state.priorities.shape
    order_key, offset_key = jax.random.split(rng_key)
    num_starts = jnp.maximum(state.size - length + 1, 1)
    ages = jnp.arange(time_capacity)
    rows = (state.head - state.size + ages) % time_capacity
    row_weights = jnp.where(ages < num_starts, probabilities.sum(axis=1)[rows], 0.0)
    cumulative = jnp.cumsum(row_weights)
    total = cumulative[-1]
    strata = jax.random.permutation(order_key, batch_size)
    target = (strata + jax.random.uniform(offset_key, (batch_size,))) / batch_size * total
    age = jnp.minimum(jnp.searchsorted(cumulative, target, side="right"), num_starts - 1)
    row = rows[age]
    before = jnp.where(age > 0, cumulative[age - 1], 0.0)
    within = jnp.cumsum(probabilities[row], axis=1)
    # Rounding may leave the rest of the draw a hair past the row's own sum.
    env = jnp.minimum((within <= (target - before)[:, None]).sum(axis=1), num_envs - 1)
    weights = total / (num_starts * num_envs * probabilities[row, env])
    return row.astype(jnp.int32), env.astype(jnp.int32), weights


def _read(transitions: Transition, row: Array, env: Array, window: WindowSpec) -> Transition:
    """Gathers the windows `[B, L, ...]` that start at (`row`, `env`), `[B]` each."""
    time_capacity, num_envs = transitions.action.shape

    def gather(stored: Array, offsets: Array) -> Array:
        index = (row[:, None] + offsets) % time_capacity * num_envs + env[:, None]
        return stored.reshape((-1, *stored.shape[2:]))[index]

    every = jnp.arange(window.length)[None]
    small = transitions.replace(observation=None, final_observation=None)
    windows = jax.tree.map(lambda x: gather(x, every), small)
    offsets = jnp.array(window.observation_offsets, jnp.int32)[None]
    windows = windows.replace(observation=gather(transitions.observation, offsets))
    if transitions.final_observation is None:
        return windows
    last = (windows.discount == 0.0) | windows.truncated
    first_end = jnp.argmax(last, axis=1)[:, None]
    final_observation = gather(transitions.final_observation, first_end)[:, 0]
    return windows.replace(final_observation=final_observation)
