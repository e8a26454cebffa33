"""A ring whose duplicates are known."""

import jax.numpy as jnp
import numpy as np
from tiny import make_batch

from muzero_jax.replay.buffer import Replay, ReplayState, WindowSpec
from muzero_jax.replay.distinct import count_distinct_observations
from muzero_jax.replay.settings import ReplayConfig


def ring_of(observation, head, size):
    """A ring of which only the observations `[..., C, N, 2]` matter."""
    observation = jnp.asarray(observation, jnp.float32)
    transitions = make_batch(WindowSpec(1, (0,)), 1, 2).transitions
    transitions = transitions.replace(observation=observation)
    places = jnp.zeros(observation.shape[:-1])
    return ReplayState(transitions, places, jnp.int32(head), jnp.int32(size))


def test_only_filled_rows_count():
    """Four rows of two environments; the two rows before the head, which wraps, are filled."""
    rows = [[[1, 0], [1, 0]], [[2, 0], [3, 0]], [[4, 0], [5, 0]], [[1, 0], [0, 1]]]
    assert count_distinct_observations(ring_of(rows, head=1, size=2)) == (2, 4)
    assert count_distinct_observations(ring_of(rows, head=3, size=3)) == (5, 6)
    assert count_distinct_observations(ring_of(rows, head=0, size=4)) == (6, 8)
    assert count_distinct_observations(ring_of(rows, head=0, size=0)) == (0, 0)


def test_the_rings_of_shards_are_one():
    rows = [[[[1, 0]], [[2, 0]]], [[[1, 0]], [[3, 0]]]]
    assert count_distinct_observations(ring_of(rows, head=0, size=2)) == (3, 4)
    assert count_distinct_observations(ring_of(rows, head=1, size=1)) == (1, 2)


def test_numbers_and_truth_values_are_counted_too():
    replay = Replay(ReplayConfig(capacity=8, min_size=1, batch_size=1), WindowSpec(1, (0,)), 2)
    for observation, distinct in ((jnp.array([[1, 2], [1, 1]]), 2), (jnp.array([[True] * 2]), 1)):
        batch = make_batch(WindowSpec(1, (0,)), 1, 2).transitions
        one = batch.replace(observation=observation[0, 0])
        one = one.replace(**{n: getattr(batch, n)[0, 0] for n in ("action", "reward")})
        ring = replay.init(one)
        assert count_distinct_observations(ring) == (0, 0)
        filled = ring.replace(
            transitions=ring.transitions.replace(
                observation=ring.transitions.observation.at[: len(observation)].set(observation)
            ),
            head=jnp.int32(len(observation)),
            size=jnp.int32(len(observation)),
        )
        found = count_distinct_observations(filled)
        assert found == (distinct, observation.size)
        assert isinstance(found[0], int) and np.isfinite(found[1])
