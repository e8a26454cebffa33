import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference

from muzero_jax.maths.value_support import (
    gaussian_labels,
    scalar_to_support,
    signed_hyperbolic,
    signed_parabolic,
    support_to_scalar,
    two_hot,
)


def test_signed_hyperbolic_hand_numbers():
    # h(3) = sqrt(4) - 1 + 0.003, h(-8) = -(sqrt(9) - 1) - 0.008.
    x = jnp.array([0.0, 3.0, -8.0, 99.0])
    np.testing.assert_allclose(signed_hyperbolic(x), [0.0, 1.003, -2.008, 9.099], rtol=1e-6)


def test_signed_parabolic_inverts_over_eight_decades():
    x = np.concatenate([-np.logspace(-5, 3.5, 500)[::-1], [0.0], np.logspace(-5, 3.5, 500)])
    x = x.astype(np.float32)
    back = jax.jit(lambda x: signed_parabolic(signed_hyperbolic(x)))(x)
    # The textbook inverse is wrong by 1.5e-4 near 0; this one is right to a few units of rounding.
    np.testing.assert_allclose(back, x, rtol=2e-6)


def test_signed_parabolic_agrees_with_textbook_form_in_float64():
    x = np.linspace(-40, 40, 801)
    eps = 1e-3
    root = np.sqrt(1 + 4 * eps * (np.abs(x) + 1 + eps))
    textbook = np.sign(x) * (((root - 1) / (2 * eps)) ** 2 - 1)
    np.testing.assert_allclose(signed_parabolic(jnp.float32(x)), textbook, rtol=2e-6, atol=1e-6)


def test_two_hot_hand_numbers():
    expected = [[0, 0, 0.75, 0.25, 0], [1, 0, 0, 0, 0], [0, 0, 0, 0.5, 0.5], [0, 0, 1, 0, 0]]
    np.testing.assert_allclose(two_hot(jnp.array([0.25, -2.0, 1.5, 0.0]), 2), expected)


@pytest.mark.parametrize("outside", [7.0, 1e6, jnp.inf])
def test_two_hot_beyond_edges_is_all_on_the_edge(outside):
    labels = two_hot(jnp.array([-outside, outside]), 2)
    np.testing.assert_array_equal(labels, [[1, 0, 0, 0, 0], [0, 0, 0, 0, 1]])


def test_two_hot_is_a_distribution_with_the_mean():
    x = jnp.linspace(-5, 5, 403)
    labels = two_hot(x, 5)
    np.testing.assert_allclose(labels.sum(-1), 1.0, rtol=1e-6)
    np.testing.assert_allclose(labels @ jnp.arange(-5.0, 6.0), x, atol=1e-5)
    assert ((labels > 0).sum(-1) <= 2).all()


@jax.jit
def labels_of(x, spacing):
    return scalar_to_support(x, 10, spacing)


@pytest.mark.parametrize("spacing", [0.1, 1.0, 2.5])
def test_scalar_to_support_matches_reference_at_and_beyond_edges(spacing):
    values = [-5000.0, -120.0, -3.7, -1.0, 0.0, 0.2, 35.0, 120.999, 121.0, 122.0, 9999.0]
    labels = labels_of(jnp.array(values), spacing)
    expected = [reference.two_hot(x, 10, spacing) for x in values]
    np.testing.assert_allclose(labels, expected, atol=3e-6)


@jax.jit
def there_and_back(x, spacing):
    return support_to_scalar(jnp.log(scalar_to_support(x, 10, spacing)), spacing)


@pytest.mark.parametrize("spacing", [0.1, 1.0, 2.5])
def test_support_to_scalar_round_trip_inside_the_support(spacing):
    edge = float(signed_parabolic(jnp.float32(10.0 * spacing)))
    x = np.linspace(-edge, edge, 301, dtype=np.float32)
    given = np.concatenate([x, np.float32([2 * edge, -1e9])])
    back = there_and_back(given, spacing)
    np.testing.assert_allclose(back[:-2], x, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(back[-2:], [edge, -edge], rtol=1e-5)


gradient_of = jax.grad(support_to_scalar)


@pytest.mark.parametrize("support_size", [1, 30, 300])
def test_support_to_scalar_of_flat_logits_is_exactly_zero(support_size):
    """Min-max scaling in the search would make a decision of any rounding that is left."""
    logits = jnp.full((7, 2 * support_size + 1), 0.3)
    compiled = jax.jit(
        lambda x: (support_to_scalar(x), jax.vmap(support_to_scalar)(x), gradient_of(x[0]))
    )
    together, one_by_one, gradient = compiled(logits)
    for decoded in (support_to_scalar(logits), together, one_by_one):
        np.testing.assert_array_equal(decoded, 0.0)
    # A bin is worth its atom: the gradient is odd and rises with the atom.
    np.testing.assert_allclose(gradient, -gradient[::-1], rtol=1e-4, atol=1e-6)
    assert (jnp.diff(gradient) > 0).all()


def test_transform_and_inverse_have_the_right_gradient_at_zero():
    np.testing.assert_allclose(jax.grad(signed_hyperbolic)(0.0), 0.501, rtol=1e-6)
    np.testing.assert_allclose(jax.grad(signed_parabolic)(0.0), 1 / 0.501, rtol=1e-6)


def test_support_to_scalar_takes_bfloat16_logits_in_float32():
    logits = jnp.linspace(-3, 3, 21).astype(jnp.bfloat16)
    value = support_to_scalar(logits)
    assert value.dtype == jnp.float32
    np.testing.assert_allclose(value, support_to_scalar(logits.astype(jnp.float32)), rtol=1e-6)


@pytest.mark.parametrize("width", [0.5, 0.75, 2.0])
def test_gaussian_labels_sum_to_one_and_have_their_number_for_a_mean(width):
    x = jnp.array([-3.3, -0.4, 0.0, 0.25, 2.0])
    labels = gaussian_labels(x, 20, width)
    np.testing.assert_allclose(labels.sum(-1), 1.0, rtol=1e-5)
    error = 4 * np.pi * width**2 * np.exp(-2 * (np.pi * width) ** 2)
    np.testing.assert_allclose(labels @ jnp.arange(-20.0, 21.0), x, atol=error + 1e-5)
    distance = jnp.arange(-20.0, 21.0)[None] - x[:, None]
    deviation = jnp.sqrt((labels * distance**2).sum(-1))
    np.testing.assert_allclose(deviation, width, rtol=0.1)


def test_gaussian_labels_beyond_the_support_are_those_of_its_edge():
    np.testing.assert_array_equal(
        gaussian_labels(jnp.array([7.0]), 4, 0.75), gaussian_labels(jnp.array([4.0]), 4, 0.75)
    )
    there_and_back = support_to_scalar(
        jnp.log(scalar_to_support(jnp.array([2.5]), 30, 0.5, 0.75)), 0.5
    )
    np.testing.assert_allclose(there_and_back, 2.5, rtol=1e-2)
