"""Counts of what was tried, and the bonus that they give."""

import jax
import jax.numpy as jnp
import numpy as np
from test_reward_unit import rollout_of

from muzero_jax.agents.novelty import Novelty, pair_number

BEFORE, AFTER = jnp.int32(0), jnp.int32(1)
WHOLE = Novelty(jax.ShapeDtypeStruct((3,), jnp.int32))
REAL = Novelty(jax.ShapeDtypeStruct((2,), jnp.float32))


def seen(observation, action):
    """A rollout of `[T, B, ...]` observations and `[T, B]` actions."""
    rollout = rollout_of(jnp.zeros(action.shape))
    steps = rollout.transitions.replace(observation=observation, action=action)
    return rollout.replace(transitions=steps)


def test_counts_are_those_of_the_pairs_of_observation_and_action():
    one, two = jnp.array([1, 0, 0]), jnp.array([0, 1, 0])
    observation = jnp.stack([one, two, one, one])[:, None]
    action = jnp.array([[0], [0], [0], [1]])
    state = WHOLE.observed(WHOLE.init(), seen(observation, action), AFTER)
    cells = WHOLE.cell(state, jnp.stack([one, one, two, two]))
    pairs = pair_number(cells, jnp.array([0, 1, 0, 1]))
    np.testing.assert_array_equal(state.counts[pairs], [2, 1, 1, 0])
    assert state.counts.sum() == 4


def test_the_bonus_falls_with_the_square_root_of_the_count():
    state = WHOLE.init()
    cells, actions = jnp.array([5, 6, 7], jnp.uint32), jnp.array([0, 1, 2])
    counts = state.counts.at[pair_number(cells, actions)].set(jnp.array([0.0, 3.0, 99.0]))
    bonus = WHOLE.bonus(state.replace(counts=counts), cells, actions)
    np.testing.assert_allclose(bonus, [1.0, 0.5, 0.1], rtol=1e-5)


def test_different_boards_have_different_places_in_the_table():
    """Of 4,000 pairs in a table of a million places about eight share one by chance."""
    novelty = Novelty(jax.ShapeDtypeStruct((10, 10, 4), jnp.bool_))
    boards = jax.random.bernoulli(jax.random.key(0), 0.05, (1_000, 10, 10, 4))
    cells = novelty.cell(novelty.init(), boards)
    pairs = jnp.stack([pair_number(cells, jnp.full(1_000, a)) for a in range(4)])
    assert len(np.unique(pairs)) > 3_970
    assert pairs.min() >= 0 and pairs.max() < 2**20


def test_real_observations_share_a_cell_within_half_a_standard_deviation():
    scale = jnp.array([1.0, 100.0])
    observation = scale.reshape((1, 1, 2)) * jax.random.normal(jax.random.key(0), (500, 4, 2))
    rollout = seen(observation, jnp.zeros((500, 4), jnp.int32))
    state = REAL.observed(REAL.init(), rollout, BEFORE)
    near = scale[None] * jnp.array([[0.1, 0.1], [0.4, 0.4], [0.6, 0.1], [0.1, 0.6]])
    mean = state.total / state.num_measured
    cells = REAL.cell(state, near + mean[None])
    assert cells[0] == cells[1]
    assert len(np.unique(cells)) == 3


def test_bins_are_fixed_from_the_first_update_on():
    rollout = seen(jnp.ones((2, 2, 2)), jnp.zeros((2, 2), jnp.int32))
    state = REAL.observed(REAL.init(), rollout, AFTER)
    assert state.num_measured == 0 and (state.total == 0).all()
    assert state.counts.sum() == 4


def test_shards_count_together_and_divide_by_their_number():
    def of_shard(observation):
        rollout = seen(observation[None], jnp.zeros((1, 2), jnp.int32))
        return WHOLE.observed(
            WHOLE.init(), rollout, AFTER, lambda tree: jax.lax.pmean(tree, "shard")
        ).counts

    observation = jnp.array([[[1, 0, 0], [0, 1, 0]], [[1, 0, 0], [1, 0, 0]]])
    counts = jax.vmap(of_shard, axis_name="shard")(observation)
    np.testing.assert_array_equal(counts[0], counts[1])
    np.testing.assert_array_equal(np.sort(counts[0])[-2:], [0.5, 1.5])
