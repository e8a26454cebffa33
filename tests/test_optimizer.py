import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from muzero_jax.agents.optimizer import apply_gradient, init_optimizer, learning_rate_factor
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


@pytest.mark.parametrize("max_norm", [2.0, 1e9])
def test_apply_gradient_equals_optax_adamw_with_clipping(max_norm):
    h = H | {"optimizer.max_gradient_norm": max_norm}
    params = {"w": jnp.array([[1.0, -2.0], [0.5, 3.0]]), "b": jnp.array([0.1, 0.2])}
    reference = optax.chain(
        optax.clip_by_global_norm(max_norm), optax.adamw(0.1, weight_decay=0.01)
    )
    expected, expected_state = params, reference.init(params)
    state = init_optimizer(params)
    rng = np.random.default_rng(0)
    for step in range(5):
        scale = 10.0 ** (step - 2)
        gradient = jax.tree.map(
            lambda x, s=scale: jnp.asarray(s * rng.normal(size=x.shape), jnp.float32), params
        )
        params, state, norm = jax.jit(apply_gradient)(params, gradient, state, h, jnp.ones(()))
        np.testing.assert_allclose(norm, optax.tree.norm(gradient), rtol=1e-6)
        updates, expected_state = reference.update(gradient, expected_state, expected)
        expected = optax.apply_updates(expected, updates)
        jax.tree.map(assert_close, params, expected)


def test_apply_gradient_first_step_by_hand():
    # Adam's first direction is the gradient's sign: 1 - 0.5 * 0.1 * (1 + 0.01 * 1).
    params, _, _ = apply_gradient(
        jnp.array([1.0]), jnp.array([0.3]), init_optimizer(jnp.array([1.0])), H, jnp.array(0.5)
    )
    np.testing.assert_allclose(params, [0.9495], rtol=1e-6)


def test_apply_gradient_of_zero_gradient_is_finite():
    params = jnp.ones(3)
    result, _, norm = apply_gradient(
        params, jnp.zeros(3), init_optimizer(params), H, jnp.array(1.0)
    )
    assert norm == 0.0
    np.testing.assert_allclose(result, 1.0 - 0.1 * 0.01, rtol=1e-6)


def test_apply_gradient_members_of_a_vmap_differ_by_their_settings():
    rates = jnp.array([0.0, 0.1, 0.2])

    def step(rate):
        h = H | {"optimizer.learning_rate": rate, "optimizer.weight_decay": 0.0}
        params = jnp.ones(1)
        return apply_gradient(params, params, init_optimizer(params), h, jnp.ones(()))[0]

    np.testing.assert_allclose(jax.vmap(step)(rates)[:, 0], 1.0 - rates, rtol=1e-5)
