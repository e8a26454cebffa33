"""The ring, with counters as data: what was written where can be read off every value."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from muzero_jax.core.types import Transition
from muzero_jax.replay.buffer import PRIORITY_FLOOR, Replay, WindowSpec
from muzero_jax.replay.settings import ReplayConfig
from muzero_jax.runs.memory import tree_bytes

# capacity, num_envs, rollout_length, window_length: wraps inside a rollout, at its end, never;
# capacities that are no multiple of anything; a ring of exactly one window; windows of one step.
SHAPES = [
    (10, 1, 3, 4),
    (25, 3, 4, 5),
    (13, 2, 6, 6),
    (64, 4, 5, 1),
    (35, 5, 1, 3),
    (99, 7, 11, 2),
]


def make_replay(*, num_envs, window, min_size=1, **settings):
    """A ring of these settings."""
    return Replay(ReplayConfig(min_size=min_size, **settings), window, num_envs)


def counters(start: int, num_steps: int, num_envs: int, *, truncates: bool = True) -> Transition:
    """Rows `start..`; every field says its row `t` and its environment `e` (as `t * 100 + e`)."""
    t = np.arange(start, start + num_steps)[:, None]
    tag = (t * 100 + np.arange(num_envs)).astype(np.int32)
    number = tag.astype(np.float32)
    rows = Transition(
        observation=np.stack([number, -number], axis=-1),
        legal_action_mask=bits_of(tag),
        to_play=tag,
        action=tag,
        reward=number,
        discount=np.ones_like(number),
        truncated=np.zeros_like(number, bool),
        final_observation=np.stack([number + 0.5, number], axis=-1) if truncates else None,
        record={"weights": np.stack([number, number + 1], axis=-1), "value": -number},
    )
    return jax.tree.map(jnp.asarray, rows)


def bits_of(tag):
    """The three lowest bits of a number, as a mask of legal actions."""
    return (tag[..., None] >> np.arange(3)) % 2 == 1


def empty(replay, **options):
    """The ring before anything is added."""
    return jax.jit(replay.init)(jax.tree.map(lambda x: x[0, 0], counters(0, 1, 1, **options)))


def filled(capacity, num_envs, rollout_length, window, *, num_steps, batch_size=64, **options):
    """A replay after `num_steps` rows, and its jitted functions."""
    replay = make_replay(
        capacity=capacity, num_envs=num_envs, window=window, batch_size=batch_size, **options
    )
    add = jax.jit(replay.add)
    state, states = empty(replay), []
    for start in range(0, num_steps, rollout_length):
        rows = counters(start, rollout_length, num_envs)
        state = add(state, rows, jnp.ones((rollout_length, num_envs)))
        states.append((start + rollout_length, state))
    return replay, states


def starts_of(batch, num_envs):
    """Row and environment of each window's first step, from the data itself."""
    tag = np.asarray(batch.transitions.action[:, 0])
    return tag // 100, tag % 100


@pytest.mark.parametrize("capacity,num_envs,rollout_length,length", SHAPES)
def test_windows_are_consecutive_in_every_field_and_never_cross_the_head(
    capacity, num_envs, rollout_length, length
):
    offsets = tuple(sorted({0, length // 2, length - 1}))
    window = WindowSpec(length, offsets)
    time_capacity = capacity // num_envs
    replay, states = filled(
        capacity,
        num_envs,
        rollout_length,
        window,
        num_steps=3 * time_capacity + rollout_length,
    )
    by_priority = dataclasses.replace(replay.config, prioritised=True)
    samples = [jax.jit(Replay(c, window, num_envs).sample) for c in (replay.config, by_priority)]
    for total, state in states:
        size = min(total, time_capacity)
        assert state.size == size and state.head == total % time_capacity
        assert replay.can_sample(state) == (size >= length)
        for sample in samples if size >= length else ():
            batch = jax.device_get(sample(state, jax.random.key(total), 1.0, 1.0))
            row, env = starts_of(batch, num_envs)
            assert row.min() >= total - size and row.max() + length <= total
            assert (env < num_envs).all()
            rows = row[:, None] + np.arange(length)
            tag = rows * 100 + env[:, None]
            got = batch.transitions
            np.testing.assert_array_equal(got.action, tag)
            np.testing.assert_array_equal(got.to_play, tag)
            np.testing.assert_array_equal(got.reward, tag)
            np.testing.assert_array_equal(got.legal_action_mask, bits_of(tag))
            np.testing.assert_array_equal(got.record["value"], -tag)
            np.testing.assert_array_equal(got.record["weights"][..., 1], tag + 1)
            np.testing.assert_array_equal(got.observation[..., 0], tag[:, list(offsets)])
            assert got.final_observation.shape == (64, 2)
            np.testing.assert_array_equal(batch.index, row % time_capacity * num_envs + env)
            assert np.isfinite(batch.importance_weights).all()


@pytest.mark.parametrize("recency", [1.0, 2.0])
@pytest.mark.parametrize("num_steps", [60, 150])
def test_new_windows_are_likelier_as_recency_says(num_steps, recency):
    """Of n starts the share of the newest m is (m / n) ** (1 / (1 + recency)), in every column."""
    window = WindowSpec(4, (0,))
    replay, states = filled(
        202, 2, 1, window, num_steps=num_steps, batch_size=20_000, recency=recency
    )
    total, state = states[-1]
    num_starts = min(total, 101) - 3
    batch = jax.jit(replay.sample)(state, jax.random.key(0), 1.0, 1.0)
    row, env = starts_of(batch, 2)
    newest = total - 4
    assert row.max() == newest and row.min() >= newest - num_starts + 1
    for count in (1, 5, num_starts // 2, num_starts):
        expected = (count / num_starts) ** (1 / (1 + recency))
        assert np.mean(row > newest - count) == pytest.approx(expected, abs=0.015)
    assert np.mean(env) == pytest.approx(0.5, abs=0.02)
    np.testing.assert_array_equal(batch.importance_weights, 1.0)


@pytest.mark.parametrize("prioritised", [False, True])
@pytest.mark.parametrize("num_steps", [9, 14, 23])
def test_every_start_is_covered_uniformly(num_steps, prioritised):
    window = WindowSpec(4, (0,))
    replay, states = filled(
        22, 2, 1, window, num_steps=num_steps, batch_size=4096, prioritised=prioritised
    )
    total, state = states[-1]
    size = min(total, 11)
    batch = jax.jit(replay.sample)(state, jax.random.key(0), 1.0, 1.0)
    row, env = starts_of(batch, 2)
    keys, counts = np.unique(row * 2 + env, return_counts=True)
    first = 2 * (total - size)
    # Exactly the starts whose window lies inside: the oldest row and the newest allowed included.
    np.testing.assert_array_equal(keys, np.arange(first, 2 * (total - 4 + 1)))
    expected = 4096 / len(keys)
    assert np.abs(counts - expected).max() < 5 * np.sqrt(expected)
    np.testing.assert_allclose(batch.importance_weights, 1.0, rtol=1e-5)


def test_first_and_last_transition_of_an_episode_are_both_starts():
    """Episodes of three steps, in a ring that wraps: all three phases start windows equally."""
    window = WindowSpec(5, (0,))
    replay, states = filled(17, 1, 2, window, num_steps=40, batch_size=3000)
    _, state = states[-1]
    row, _ = starts_of(jax.jit(replay.sample)(state, jax.random.key(1), 1.0, 1.0), 1)
    phases = np.bincount(row % 3, minlength=3) / 3000
    starts = np.unique(row)
    np.testing.assert_allclose(
        phases, np.bincount(starts % 3, minlength=3) / len(starts), atol=0.05
    )
    assert (phases > 0.2).all()


def test_final_observation_is_that_of_the_first_end():
    window = WindowSpec(4, (0,))
    replay = make_replay(capacity=9, num_envs=1, window=window, batch_size=200)
    rows = counters(0, 9, 1)
    rows = rows.replace(
        truncated=(jnp.arange(9) % 3 == 2)[:, None],
        discount=jnp.where(jnp.arange(9) == 4, 0.0, 1.0)[:, None],
    )
    state = jax.jit(replay.add)(empty(replay), rows, jnp.ones((9, 1)))
    batch = jax.jit(replay.sample)(state, jax.random.key(0), 1.0, 1.0)
    row, _ = starts_of(batch, 1)
    first_end = np.array([2, 2, 2, 4, 4, 5])[row]
    np.testing.assert_array_equal(batch.transitions.final_observation[:, 0], first_end * 100 + 0.5)


def test_environments_that_never_truncate_store_no_final_observation():
    rows = counters(0, 4, 2, truncates=False)
    replay = make_replay(capacity=8, num_envs=2, window=WindowSpec(2, (0,)), batch_size=3)
    state = empty(replay, truncates=False)
    state = jax.jit(replay.add)(state, rows, jnp.ones((4, 2)))
    batch = jax.jit(replay.sample)(state, jax.random.key(0), 1.0, 1.0)
    assert batch.transitions.final_observation is None
    assert tree_bytes(empty(replay)) - tree_bytes(state) == 8 * 2 * 4


def prioritised_state(priorities, length=1, batch_size=8192):
    """A full ring of `[C, num_envs]` priorities whose head has wrapped."""
    time_capacity, num_envs = priorities.shape
    replay, states = filled(
        time_capacity * num_envs,
        num_envs,
        1,
        WindowSpec(length, (0,)),
        num_steps=time_capacity + 3,
        batch_size=batch_size,
        prioritised=True,
    )
    return replay, states[-1][1].replace(priorities=jnp.asarray(priorities, jnp.float32))


@pytest.mark.parametrize("exponent", [0.0, 0.5, 1.0])
def test_prioritised_sampling_follows_the_proportions(exponent):
    priorities = np.random.default_rng(0).uniform(0.0, 4.0, (6, 3))
    priorities[2, 1] = 0.0
    replay, state = prioritised_state(priorities, length=3)
    batch = jax.jit(replay.sample)(state, jax.random.key(0), exponent, 1.0)
    weights = (priorities + PRIORITY_FLOOR) ** exponent
    # Rows 3, 4, 5, 0, 1, 2 hold the steps in order; the last two cannot start a window of three.
    weights[[1, 2]] = 0.0
    expected = (weights / weights.sum()).ravel()
    counts = np.bincount(batch.index, minlength=18)
    spread = np.sqrt(8192 * expected) + 1
    assert (np.abs(counts - 8192 * expected) < 4 * spread).all()
    assert (counts[expected == 0] == 0).all()


def test_a_window_without_priority_is_drawn_by_the_floor():
    """A thousandth is added to every priority: 0 and 0.002 are drawn as 1 to 3."""
    replay, state = prioritised_state(np.array([[0.0, 0.002]]))
    batch = jax.jit(replay.sample)(state, jax.random.key(0), 1.0, 1.0)
    np.testing.assert_allclose((np.asarray(batch.index) == 0).mean(), 0.25, atol=0.02)
    np.testing.assert_allclose(batch.importance_weights[batch.index == 0], 1.0, rtol=1e-5)
    np.testing.assert_allclose(batch.importance_weights[batch.index == 1], 1 / 3, rtol=1e-5)
    # Where no window has any priority, all are drawn alike.
    replay, state = prioritised_state(np.zeros((3, 2)))
    batch = jax.jit(replay.sample)(state, jax.random.key(0), 1.0, 1.0)
    counts = np.bincount(batch.index, minlength=6)
    assert np.abs(counts - 8192 / 6).max() < 200
    np.testing.assert_allclose(batch.importance_weights, 1.0, rtol=1e-5)


@pytest.mark.parametrize("importance_exponent", [0.0, 0.4, 1.0])
def test_importance_weights_by_hand(importance_exponent):
    priorities = np.array([[1.0, 3.0], [0.5, 0.5]]) - PRIORITY_FLOOR
    replay, state = prioritised_state(priorities, batch_size=512)
    batch = jax.jit(replay.sample)(state, jax.random.key(0), 1.0, importance_exponent)
    assert set(np.asarray(batch.index)) == {0, 1, 2, 3}
    # (N P)^-beta over its largest: N = 4, P = (1, 3, 0.5, 0.5) / 5, the largest is 1 / 0.4.
    exact = np.array([1 / 0.8, 1 / 2.4, 1 / 0.4, 1 / 0.4])[batch.index] * 0.4
    np.testing.assert_allclose(batch.importance_weights, exact**importance_exponent, rtol=1e-5)


def test_update_priorities_writes_back_where_the_windows_started():
    replay, state = prioritised_state(np.ones((5, 3)), length=2, batch_size=64)
    sample = jax.jit(replay.sample)
    batch = sample(state, jax.random.key(0), 1.0, 1.0)
    fresh = batch.transitions.reward[:, 0] / 100
    update = jax.jit(replay.update_priorities)
    state = update(state, batch.index, fresh)
    row, env = starts_of(batch, 3)
    np.testing.assert_allclose(state.priorities[row % 5, env], fresh)
    untouched = np.ones((5, 3), bool)
    untouched[row % 5, env] = False
    assert (np.asarray(state.priorities)[untouched] == 1.0).all()
    # One heavy window is then drawn nearly always.
    state = state.replace(priorities=jnp.zeros((5, 3)))
    state = update(state, jnp.full(64, batch.index[0]), jnp.full(64, 1000.0))
    again = sample(state, jax.random.key(1), 1.0, 1.0)
    assert (again.index == batch.index[0]).mean() > 0.95


def test_new_rows_overwrite_the_priorities_of_the_old():
    replay, state = prioritised_state(np.full((4, 2), 9.0))
    # The head is at row 3 after 7 steps; two more rows land in rows 3 and 0.
    state = jax.jit(replay.add)(state, counters(7, 2, 2), jnp.full((2, 2), 5.0))
    np.testing.assert_array_equal(state.priorities[:, 0], [5.0, 9.0, 9.0, 5.0])


def test_prioritised_draw_at_the_very_end_is_a_start(monkeypatch):
    """Parallel float32 sums are not flat over weightless rows; no draw may fall there."""
    last = np.nextafter(np.float32(1.0), np.float32(0.0))
    monkeypatch.setattr(jax.random, "uniform", lambda key, shape: jnp.full(shape, last))
    replay, state = prioritised_state(np.ones((600, 1)), length=100, batch_size=1)

    def draw(rng_key):
        # Not `jax.random.uniform`, which is patched.
        priorities = jnp.exp(jax.random.normal(rng_key, (600, 1)))
        return replay.sample(state.replace(priorities=priorities), rng_key, 1.0, 1.0)

    batch = jax.jit(jax.vmap(draw))(jax.random.split(jax.random.key(0), 200))
    row = np.asarray(batch.transitions.action[:, 0, 0]) // 100
    assert row.max() + 100 <= 603
    assert jnp.isfinite(batch.importance_weights).all()


def test_order_of_a_prioritised_batch_says_nothing_of_the_storage():
    """Learners reanalyse the first part of a batch: it must not always be the same rows."""
    replay, state = prioritised_state(np.ones((64, 1)), batch_size=64)
    batch = jax.jit(replay.sample)(state, jax.random.key(0), 1.0, 1.0)
    index = np.asarray(batch.index)
    assert abs(np.corrcoef(index, np.arange(64))[0, 1]) < 0.5
    # Stratified all the same: 64 equal strata over 64 rows hit nearly all of them once.
    assert len(np.unique(index)) >= 63


def test_min_size_counts_transitions_and_can_always_be_reached():
    make = functools.partial(make_replay, num_envs=4, window=WindowSpec(3, (0,)), batch_size=2)
    state = empty(make(capacity=40))
    ready = {
        min_size: [
            bool(make(capacity=40, min_size=min_size).can_sample(state.replace(size=jnp.array(n))))
            for n in range(11)
        ].index(True)
        for min_size in (1, 13, 20, 40)
    }
    assert ready == {1: 3, 13: 4, 20: 5, 40: 10}
    # A ring of 11 transitions holds two whole rows of four environments, not 11 transitions.
    short = make_replay(
        capacity=11, num_envs=4, window=WindowSpec(2, (0,)), batch_size=2, min_size=11
    )
    assert short.can_sample(state.replace(size=jnp.array(2)))


def test_add_refuses_more_rows_than_the_ring_holds():
    replay = make_replay(capacity=8, num_envs=2, window=WindowSpec(2, (0,)), batch_size=2)
    rows = counters(0, 5, 2)
    state = empty(replay)
    with pytest.raises(ValueError, match="5 rows to a replay of 4"):
        replay.add(state, rows, jnp.ones((5, 2)))


def test_sampling_depends_on_the_key_only():
    for prioritised in (False, True):
        window = WindowSpec(2, (0,))
        replay, states = filled(60, 2, 4, window, num_steps=32, prioritised=prioritised)
        sample, state = jax.jit(replay.sample), states[-1][1]
        draws = [sample(state, jax.random.key(seed), 1.0, 1.0).index for seed in (0, 0, 1)]
        np.testing.assert_array_equal(draws[0], draws[1])
        assert (draws[0] != draws[2]).any()
