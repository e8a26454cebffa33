"""Optimism about what was seldom tried: a bonus for each state and action, from hashed counts.

Observations are sorted into cells, exactly where they are whole numbers, and in bins of half a
standard deviation where they are real. A table counts how often each action was taken in each cell
(Tang et al. 2017, arXiv 1611.04717); the bonus falls with the square root of the count (Strehl and
Littman 2008, section 3).
"""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from muzero_jax.agents.base import Rollout
from muzero_jax.agents.definition import unchanged
from muzero_jax.core.types import Array, PyTree

_TABLE_BITS = 20
_BIN_WIDTH = 0.5


class VisitCounts(struct.PyTreeNode):
    """How often each action was taken in each cell of the observations.

    Attributes:
      counts: `[2^20]` float32 visits of the pairs of a cell and an action, by hash.
      total: `[*observation_shape]` sum of the mean observations of the rollouts that the bins were
        made from; `[0]` where observations are whole numbers.
      squares: sum of the mean squares of these observations, of the same shape.
      num_measured: `[]` float32, the number of these rollouts.
    """

    counts: Array
    total: Array
    squares: Array
    num_measured: Array


@dataclasses.dataclass(frozen=True)
class Novelty:
    """Counts, and the bonus that follows from them.

    Attributes:
      observation: shape and dtype of one observation.
    """

    observation: jax.ShapeDtypeStruct

    @property
    def _is_real(self) -> bool:
        return bool(jnp.issubdtype(self.observation.dtype, jnp.floating))

    def init(self) -> VisitCounts:
        """Counts before the first step."""
        nothing = jnp.zeros(self.observation.shape if self._is_real else (0,))
        counts = jnp.zeros(2**_TABLE_BITS)
        return VisitCounts(counts, nothing, nothing, jnp.zeros(()))

    def observed(
        self,
        state: VisitCounts,
        rollout: Rollout,
        num_updates: Array,
        average: Callable[[PyTree], PyTree] = unchanged,
    ) -> VisitCounts:
        """The counts after one more rollout; the bins are fixed from the first update on.

        The shards of a run count together, and divide their visits by the number of shards.

        Args:
          state: the counts before.
          rollout: the rollout.
          num_updates: `[]` int32, the updates that were made before.
          average: averages over the shards of the run.
        """
        steps = rollout.transitions
        seen = steps.observation.reshape((-1, *self.observation.shape))
        if self._is_real:
            is_early = (num_updates == 0).astype(jnp.float32)
            moments = average((seen.mean(axis=0), jnp.square(seen).mean(axis=0)))
            state = state.replace(
                total=state.total + is_early * moments[0],
                squares=state.squares + is_early * moments[1],
                num_measured=state.num_measured + is_early,
            )
        pair = pair_number(self.cell(state, seen), steps.action.reshape(-1))
        visits = average(jnp.zeros_like(state.counts).at[pair].add(1.0))
        return state.replace(counts=state.counts + visits)

    def cell(self, state: VisitCounts, observation: Array) -> Array:
        """`[B]` uint32 hashes of the cells of `[B, ...]` observations."""
        flat = observation.reshape((len(observation), -1))
        if self._is_real:
            mean = state.total / jnp.maximum(state.num_measured, 1.0)
            variance = state.squares / jnp.maximum(state.num_measured, 1.0) - jnp.square(mean)
            width = _BIN_WIDTH * jnp.sqrt(jnp.maximum(variance, 1e-12))
            flat = jnp.floor((flat - mean.reshape((1, -1))) / width.reshape((1, -1)))
            flat = jnp.clip(flat, -1e9, 1e9)
        factors = np.random.default_rng(0).integers(2**32, size=(1, flat.shape[1]), dtype=np.uint32)
        return _mixed((flat.astype(jnp.int32).astype(jnp.uint32) * (factors | 1)).sum(axis=1))

    def bonus(self, state: VisitCounts, cell: Array, action: Array) -> Array:
        """`[...]` bonuses 1 / sqrt(count + 1) of pairs.

        Args:
          state: the counts.
          cell: `[...]` hashes of the cells.
          action: `[...]` int32.
        """
        return jax.lax.rsqrt(state.counts[pair_number(cell, action)] + 1.0)


def pair_number(cell: Array, action: Array) -> Array:
    """`[...]` places in the table of the pairs of a cell and an action."""
    mixed = _mixed(cell + (action.astype(jnp.uint32) + 1) * jnp.uint32(0x9E3779B9))
    return (mixed >> (32 - _TABLE_BITS)).astype(jnp.int32)


def _mixed(x: Array) -> Array:
    """The finalizer of MurmurHash3, which spreads 32 bits over all bits."""
    x = (x ^ (x >> 16)) * jnp.uint32(0x85EBCA6B)
    x = (x ^ (x >> 13)) * jnp.uint32(0xC2B2AE35)
    return x ^ (x >> 16)
