"""Random actions: how often, how long, and how they are spread over the environments."""

import functools

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


def settings(epsilon, exponent=0.0):
    return {"exploration.epsilon": jnp.asarray(epsilon), "exploration.epsilon_exponent": exponent}


def act_for(num_steps, longest, epsilon, legal=None):
    """`[T, B]` actions of environments whose own action is always 0."""
    random_actions = RandomActions(longest)

    def step(memory, key):
        own = jnp.zeros(NUM_ENVS, jnp.int32)
        action, memory = random_actions.act(key, own, moment_of(memory, legal), settings(epsilon))
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


def test_the_ladder_is_climbed_by_an_exponent():
    own, steps = jnp.zeros(NUM_ENVS, jnp.int32), RandomActions()
    chosen = functools.partial(steps.act, jax.random.key(0), own, moment_of(()))
    few = chosen(settings(1.0, 9.0))[0][NUM_ENVS // 2 :].astype(bool).mean()
    assert few == pytest.approx(0.75, abs=0.03)  # 1 to any power is 1.
    few = chosen(settings(0.5, 9.0))[0][NUM_ENVS // 2 :].astype(bool).mean()
    assert few < 0.01


def bursts_of(longest, epsilon):
    """The lengths of all whole bursts, told by which steps would go on without any epsilon."""
    random_actions, num_steps = RandomActions(longest), 60
    own = jnp.full(NUM_ENVS, 1, jnp.int32)
    # Only action 0 is legal, so that every step of a burst is seen.
    legal = jnp.zeros((NUM_ENVS, NUM_ACTIONS), bool).at[:, 0].set(True)

    def step(memory, key):
        begins = jnp.where(memory > 0, 0.0, epsilon)
        action, memory = random_actions.act(key, own, moment_of(memory, legal), settings(begins))
        return memory, action == 0

    keys = jax.random.split(jax.random.key(0), num_steps)
    start = random_actions.init_memory(NUM_ENVS)
    return np.asarray(jax.jit(lambda: jax.lax.scan(step, start, keys)[1])()).T


def test_bursts_last_as_long_as_their_law_says():
    """A burst is longer than k steps with probability 1 / (k + 1), and never than the longest."""
    longest = 16
    is_random = bursts_of(longest, jnp.full(NUM_ENVS, 0.02))
    lengths = []
    for row in is_random:
        edges = np.flatnonzero(np.diff(np.concatenate([[False], row, [False]]).astype(int)))
        lengths += [b - a for a, b in zip(edges[::2], edges[1::2], strict=True) if b < len(row)]
    lengths = np.array(lengths)
    # Two bursts that touch count as one: rarely, as few begin.
    assert len(lengths) > 1_000
    for k in (1, 2, 4):
        assert np.mean(lengths > k) == pytest.approx(1 / (k + 1), abs=0.05)
    assert np.mean(lengths > longest) < 0.01


def test_the_actions_of_a_burst_are_drawn_anew():
    random_actions = RandomActions(100)
    memory = jnp.full(NUM_ENVS, 5, jnp.int32)
    own = jnp.zeros(NUM_ENVS, jnp.int32)
    action, after = random_actions.act(jax.random.key(0), own, moment_of(memory), settings(0.0))
    np.testing.assert_allclose(np.bincount(action) / NUM_ENVS, 0.25, atol=0.04)
    assert (after == 4).all()
    # Illegal actions are not drawn, and without a burst the own action is taken.
    legal = jnp.ones((NUM_ENVS, NUM_ACTIONS), bool).at[:, 2].set(False)
    action, _ = random_actions.act(jax.random.key(0), own, moment_of(memory, legal), settings(0.0))
    assert (action != 2).all()
    action, after = random_actions.act(
        jax.random.key(0), own + 2, moment_of(jnp.zeros_like(memory)), settings(0.0)
    )
    assert (action == 2).all() and (after == 0).all()
    assert RandomActions(1).init_memory(3) == ()
