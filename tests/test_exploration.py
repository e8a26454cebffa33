"""Random actions: how often, how long, and how they are spread over the environments."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from muzero_jax.agents.base import Moment
from muzero_jax.agents.exploration import RandomActions, epsilon_ladder
from muzero_jax.envs.base import make_timestep

NUM_ENVS, NUM_ACTIONS = 2_000, 4


def moment_of(memory, legal=None):
    legal = jnp.ones((NUM_ENVS, NUM_ACTIONS), bool) if legal is None else legal
    timestep = jax.vmap(lambda _: make_timestep(jnp.zeros(1), num_actions=NUM_ACTIONS))(
        jnp.arange(NUM_ENVS)
    )
    timestep = timestep.replace(legal_action_mask=legal)
    return Moment(timestep, memory, jnp.zeros(NUM_ENVS, jnp.int32), None)


def lengths_of_repeats(actions):
    """How long each of `[T, B]` random actions lasted, those that were cut by the end left out."""
    found = []
    for column in np.asarray(actions).T:
        starts = np.flatnonzero(np.diff(column)) + 1
        found += list(np.diff(starts))
    return np.array(found)


def act_for(num_steps, longest, epsilon, legal=None):
    """`[T, B]` actions of environments whose own action is always 0."""
    random_actions = RandomActions(longest)

    def step(memory, key):
        own = jnp.zeros(NUM_ENVS, jnp.int32)
        action, memory = random_actions.act(key, own, moment_of(memory, legal), epsilon)
        return memory, action

    keys = jax.random.split(jax.random.key(0), num_steps)
    start = random_actions.init_memory(NUM_ENVS)
    return jax.lax.scan(step, start, keys)[1]


def test_the_ladder_is_that_of_ape_x():
    ladder = epsilon_ladder(0.4, 7.0, 8)
    np.testing.assert_allclose(ladder, [0.4 ** (1 + i) for i in range(8)], rtol=1e-5)
    np.testing.assert_allclose(epsilon_ladder(0.3, 0.0, 3), 0.3, rtol=1e-6)
    np.testing.assert_array_equal(epsilon_ladder(0.0, 7.0, 3), 0.0)
    np.testing.assert_allclose(epsilon_ladder(0.4, 7.0, 1), 0.4, rtol=1e-6)


@pytest.mark.parametrize("longest", [1, 8])
def test_environments_explore_as_often_as_their_epsilon_says(longest):
    epsilon = jnp.linspace(0.0, 1.0, NUM_ENVS)
    actions = act_for(1, longest, epsilon)[0]
    # A random action is the own one in one of four cases.
    assert actions[: NUM_ENVS // 2].astype(bool).mean() == pytest.approx(0.75 * 0.25, abs=0.03)
    assert actions[NUM_ENVS // 2 :].astype(bool).mean() == pytest.approx(0.75 * 0.75, abs=0.04)


def test_random_actions_last_as_long_as_their_law_says():
    """The number of steps exceeds k with probability 1 / (k + 1), and never the longest."""
    longest = 16
    # Of three legal actions none is the own one; two neighbours in time differ in two thirds.
    actions = act_for(4 * longest, longest, jnp.full(NUM_ENVS, 1.0))
    starts = np.asarray(act_for(1, longest, jnp.full(NUM_ENVS, 1.0)))
    assert set(np.unique(starts)) == {0, 1, 2, 3}
    first_change = np.argmax(np.asarray(actions) != np.asarray(actions)[:1], axis=0)
    changed = first_change > 0
    # The first action is followed by the same one by chance in a quarter of the cases.
    for k in (1, 2, 4):
        lasting = np.mean(~changed | (first_change > k))
        assert lasting > 1 / (k + 1) - 0.03
        assert lasting < 1 / (k + 1) + 0.25
    assert RandomActions(1).init_memory(3) == ()


def test_a_repeated_action_ends_where_it_is_illegal():
    random_actions = RandomActions(100)
    memory = random_actions.init_memory(NUM_ENVS)
    memory = memory.replace(
        action=jnp.full(NUM_ENVS, 2, jnp.int32), steps_left=jnp.full(NUM_ENVS, 5, jnp.int32)
    )
    own, never = jnp.zeros(NUM_ENVS, jnp.int32), jnp.zeros(NUM_ENVS)
    key = jax.random.key(0)
    action, after = random_actions.act(key, own, moment_of(memory), never)
    assert (action == 2).all() and (after.steps_left == 4).all()
    legal = jnp.ones((NUM_ENVS, NUM_ACTIONS), bool).at[:, 2].set(False)
    action, after = random_actions.act(key, own, moment_of(memory, legal), never)
    assert (action == 0).all() and (after.steps_left == 0).all()
