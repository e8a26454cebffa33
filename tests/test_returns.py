import jax
import jax.numpy as jnp
import numpy as np
import pytest

from muzero_jax.maths.returns import n_step_returns, window_ends

REWARD = jnp.array([1.0, 2.0, 3.0, 4.0])
VALUE = jnp.array([10.0, 20.0, 30.0, 40.0])  # of the states that transitions 0..3 lead to
NEVER = jnp.zeros(4, bool)


def returns(discount, truncated=NEVER, *, n, td_lambda=1.0):
    return n_step_returns(REWARD, discount, truncated, VALUE, td_steps=n, td_lambda=td_lambda)


def test_n_step_returns_hand_numbers():
    # 1 + 0.5 (2 + 0.5 * 20), 2 + 0.5 (3 + 0.5 * 30), 3 + 0.5 (4 + 0.5 * 40)
    np.testing.assert_allclose(returns(jnp.full(4, 0.5), n=2), [7.0, 11.0, 15.0])


def test_n_step_returns_at_termination_ends_the_sum():
    discount = jnp.array([0.5, 0.0, 0.5, 0.5])
    # 1 + 0.5 * 2; the start at the terminal transition keeps its reward.
    np.testing.assert_allclose(returns(discount, n=3)[:2], [2.0, 2.0])


def test_n_step_returns_at_truncation_bootstrap_at_once():
    truncated = NEVER.at[1].set(True)
    # 1 + 0.5 (2 + 0.5 * 20) and 2 + 0.5 * 20, whatever n and lambda.
    for n, td_lambda in ((3, 1.0), (4, 1.0)):
        result = returns(jnp.full(4, 0.5), truncated, n=n, td_lambda=td_lambda)
        np.testing.assert_allclose(result[:2], [7.0, 12.0][: len(result)])
    mixed = returns(jnp.full(4, 0.5), truncated, n=3, td_lambda=0.5)
    # Start 1 is truncated at once; start 0 mixes v_1 = 10 and G_1 = 12.
    np.testing.assert_allclose(mixed, [1 + 0.5 * 11.0, 12.0])


def test_n_step_returns_two_players_alternate_sign():
    # 1 - (2 - (3 - 30)) = 1 - 2 + 3 - 30
    result = returns(jnp.full(4, -1.0), n=3)
    np.testing.assert_allclose(result, [1 - 2 + 3 - 30.0, 2 - 3 + 4 - 40.0])


def test_n_step_returns_lambda_hand_numbers():
    # G_1 = 2 + 0.5 * 20 = 12 (horizon); G_0 = 1 + 0.5 (0.75 * 10 + 0.25 * 12) = 6.25
    result = returns(jnp.full(4, 0.5), n=2, td_lambda=0.25)
    np.testing.assert_allclose(result[0], 6.25)


def test_n_step_returns_lambda_zero_is_one_step():
    discount = jnp.array([0.9, 0.8, 0.7, 0.6])
    np.testing.assert_allclose(
        returns(discount, n=3, td_lambda=0.0), (REWARD + discount * VALUE)[:2], rtol=1e-6
    )


def test_n_step_returns_of_the_whole_episode_equal_monte_carlo():
    rng = np.random.default_rng(0)
    reward, value = rng.normal(size=(2, 12)).astype(np.float32)
    discount = np.full(12, 0.97, np.float32)
    discount[9] = 0.0
    expected = sum(0.97**t * reward[t] for t in range(10))
    for n in (10, 11, 12):
        result = n_step_returns(reward, discount, np.zeros(12, bool), value, td_steps=n)
        np.testing.assert_allclose(result[0], expected, rtol=1e-5)


@pytest.mark.parametrize("last", ["terminated", "truncated"])
def test_window_ends_by_hand(last):
    discount = jnp.array([1.0, 1.0, 0.0, 1.0, 0.0])
    truncated = jnp.array([False, False, False, True, False])
    if last == "truncated":
        discount, truncated = jnp.ones(5), jnp.array([False, False, True, False, True])
    ends = window_ends(discount, truncated)
    assert ends.first_end == 2
    np.testing.assert_array_equal(ends.alive, [True, True, True, False, False])
    cut = last == "truncated"
    np.testing.assert_array_equal(ends.truncated_before, [False, False, False, cut, cut])


def test_window_ends_without_an_end():
    ends = window_ends(jnp.full(3, 1.0), jnp.zeros(3, bool))
    assert ends.first_end == 3
    assert ends.alive.all() and not ends.truncated_before.any()


def test_window_ends_at_first_and_at_last_transition():
    first = window_ends(jnp.array([0.0, 1.0]), jnp.zeros(2, bool))
    np.testing.assert_array_equal(first.alive, [True, False])
    last = window_ends(jnp.ones(2), jnp.array([False, True]))
    assert last.alive.all() and not last.truncated_before.any() and last.first_end == 1


def test_returns_functions_are_unbatched_and_vmap():
    with pytest.raises(AssertionError):
        window_ends(jnp.ones((2, 3)), jnp.zeros((2, 3), bool))
    batch = jax.vmap(lambda d: returns(d, n=2))(jnp.stack([jnp.full(4, 0.5), jnp.zeros(4)]))
    np.testing.assert_allclose(batch, [[7.0, 11.0, 15.0], [1.0, 2.0, 3.0]])
