import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from muzero_jax.agents.network_state import NetworkState, average_rate, learning_rate_factor
from muzero_jax.config import OptimizerConfig

H = {
    "optimizer.learning_rate": 0.1,
    "optimizer.weight_decay": 0.01,
    "optimizer.max_gradient_norm": 2.0,
}


assert_close = functools.partial(np.testing.assert_allclose, rtol=2e-5, atol=1e-7)


def factors(num_updates, updates, **config):
    config = OptimizerConfig(**config)
    factor = jax.vmap(lambda u: learning_rate_factor(config, num_updates, u))
    return factor(jnp.asarray(updates, jnp.int32))


def test_learning_rate_factor_linear_by_hand():
    result = factors(
        14, [0, 1, 3, 4, 9, 13, 14, 50], schedule="linear", warmup_updates=4, final_fraction=0.2
    )
    # Rises by quarters over four updates, then falls over ten from 1 to 0.2.
    np.testing.assert_allclose(result, [0.25, 0.5, 1.0, 1.0, 0.6, 0.28, 0.2, 0.2], rtol=1e-6)


def test_learning_rate_factor_cosine_by_hand():
    result = factors(10, [0, 5, 10], schedule="cosine", warmup_updates=0, final_fraction=0.0)
    np.testing.assert_allclose(result, [1.0, 0.5, 0.0], atol=1e-7)


def test_learning_rate_factor_constant_and_short_runs():
    np.testing.assert_allclose(
        factors(9, [0, 5, 9], schedule="constant", warmup_updates=0), [1.0, 1.0, 1.0]
    )
    # A run shorter than its warm-up ends at the peak, and divides by no zero.
    short = factors(3, [0, 1, 2], schedule="cosine", warmup_updates=100)
    np.testing.assert_allclose(short, [1 / 3, 2 / 3, 1.0], rtol=1e-6)


def fresh(params, **changes):
    """A state before its first update; the changes replace settings of the optimiser."""
    settings = H | {f"optimizer.{name}": value for name, value in changes.items()}
    return NetworkState.fresh(params, settings, with_target=False)


def descended(state, gradient, warmup_updates=0):
    config = OptimizerConfig(schedule="constant", warmup_updates=warmup_updates)
    return state.descended(gradient, config, total_updates=100)


@pytest.mark.parametrize("max_norm", [2.0, 1e9])
def test_a_step_equals_optax_adamw_with_clipping(max_norm):
    params = {"w": jnp.array([[1.0, -2.0], [0.5, 3.0]]), "b": jnp.array([0.1, 0.2])}
    reference = optax.chain(
        optax.clip_by_global_norm(max_norm), optax.adamw(0.1, weight_decay=0.01)
    )
    expected, expected_state = params, reference.init(params)
    state = fresh(params, max_gradient_norm=max_norm)
    rng = np.random.default_rng(0)
    step = jax.jit(descended)
    for exponent in range(-2, 3):
        gradient = jax.tree.map(
            lambda x, s=10.0**exponent: jnp.asarray(s * rng.normal(size=x.shape), jnp.float32),
            params,
        )
        state, norm = step(state, gradient)
        np.testing.assert_allclose(norm, optax.tree.norm(gradient), rtol=1e-6)
        updates, expected_state = reference.update(gradient, expected_state, expected)
        expected = optax.apply_updates(expected, updates)
        jax.tree.map(assert_close, state.params, expected)


def test_the_first_step_by_hand():
    # Adam's first direction is the gradient's sign: 1 - 0.5 * 0.1 * (1 + 0.01 * 1), since the
    # first of two updates of warm-up is made at half the rate.
    state, _ = descended(fresh(jnp.array([1.0])), jnp.array([0.3]), warmup_updates=2)
    np.testing.assert_allclose(state.params, [0.9495], rtol=1e-6)
    assert state.num_updates == 1


def test_a_zero_gradient_is_finite():
    state, norm = descended(fresh(jnp.ones(3)), jnp.zeros(3))
    assert norm == 0.0
    np.testing.assert_allclose(state.params, 1.0 - 0.1 * 0.01, rtol=1e-6)


def test_members_of_a_vmap_differ_by_their_settings():
    rates = jnp.array([0.0, 0.1, 0.2])

    def step(rate):
        params = jnp.ones(1)
        return descended(fresh(params, learning_rate=rate, weight_decay=0.0), params)[0].params

    np.testing.assert_allclose(jax.vmap(step)(rates)[:, 0], 1.0 - rates, rtol=1e-5)


def test_the_average_forgets_the_first_parameters_and_then_lags_by_its_updates():
    config = OptimizerConfig(schedule="constant", warmup_updates=0, average_updates=50)
    rates = [float(average_rate(config, jnp.int32(n))) for n in (0, 2, 98, 10_000)]
    np.testing.assert_allclose(rates, [1.0, 0.5, 0.02, 0.02], rtol=1e-6)


def test_a_step_moves_the_average_towards_the_new_parameters():
    config = OptimizerConfig(schedule="constant", warmup_updates=0, average_updates=2)
    settings = H | {"optimizer.weight_decay": 0.0}
    state = NetworkState.fresh(jnp.array([1.0]), settings, with_target=False, with_average=True)
    np.testing.assert_array_equal(state.evaluated_params, [1.0])
    state = state.replace(num_updates=jnp.int32(12))
    new, _ = state.descended(jnp.array([0.3]), config, total_updates=100)
    # Half of the new ones: 1 / 2, which is more than 2 / 14.
    np.testing.assert_allclose(new.average_params, 0.5 * (1.0 + new.params), rtol=1e-6)
    np.testing.assert_array_equal(new.evaluated_params, new.average_params)
    assert fresh(jnp.array([1.0])).average_params is None


def test_without_an_average_the_last_parameters_are_evaluated():
    state, _ = descended(fresh(jnp.array([1.0])), jnp.array([0.3]))
    np.testing.assert_array_equal(state.evaluated_params, state.params)
