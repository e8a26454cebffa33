"""Rows one after another, as one kernel, and as more rows under vmap."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from muzero_jax.search.one_kernel import for_each_row, put_row, take_row

pytestmark = pytest.mark.optimised


def running_sum(row, state, inputs):
    """Each row adds 1 as often as its input says."""

    def add(carry):
        count, total = carry
        return count - 1, total + 1

    start = take_row(inputs, row), take_row(state, row)
    _, total = jax.lax.while_loop(lambda c: c[0] > 0, add, start)
    return put_row(state, row, total)


def summed(state, inputs):
    return for_each_row(running_sum, state, inputs, state.shape[0])


@pytest.mark.parametrize("num_rows", [1, 2, 7])
def test_each_row_is_done_once(num_rows):
    state, inputs = jnp.full(num_rows, 10.0), jnp.arange(num_rows, dtype=jnp.float32)
    expected = 10.0 + np.arange(num_rows)
    np.testing.assert_array_equal(jax.jit(summed)(state, inputs), expected)
    np.testing.assert_array_equal(summed(state, inputs), expected)


def test_members_of_a_vmap_become_rows():
    state, inputs = jnp.arange(3.0), jnp.arange(12.0).reshape(2, 2, 3)
    expected = np.arange(3) + np.asarray(inputs)
    many = jax.jit(jax.vmap(jax.vmap(summed, in_axes=(None, 0)), in_axes=(None, 0)))
    np.testing.assert_array_equal(many(state, inputs), expected)
    # One loop over all twelve rows, not one in lockstep.
    assert "xla_cpu_small_call" in many.lower(state, inputs).compile().as_text()


def test_the_rows_are_one_kernel_unless_it_has_no_code_for_something():
    def has_kernel(step):
        run = jax.jit(lambda s: for_each_row(step, s, s, 4))
        return 'inlineable="false"' in run.lower(jnp.arange(4.0)).compile().as_text()

    def sorting(row, state, inputs):
        return put_row(state, row, jnp.sort(inputs)[row])

    assert has_kernel(running_sum) and not has_kernel(sorting)


def test_what_is_closed_over_may_be_traced_and_vmapped():
    def scaled(factor):
        def step(row, state, inputs):
            return put_row(state, row, factor * take_row(inputs, row))

        return for_each_row(step, jnp.zeros(3), jnp.arange(3.0), 3)

    np.testing.assert_array_equal(jax.jit(scaled)(2.0), [0, 2, 4])
    many = jax.jit(jax.vmap(scaled))(jnp.array([1.0, 3.0]))
    np.testing.assert_array_equal(many, [[0, 1, 2], [0, 3, 6]])


def test_what_no_row_reads_or_what_every_row_overwrites_compiles_too():
    """XLA aborts on a kernel with a parameter that it does not use."""

    def step(row, state, inputs):
        written, untouched = state
        return put_row(written, row, 1.0), untouched

    for num_rows in (1, 3):
        state = jnp.zeros(num_rows), jnp.arange(num_rows)
        unread = jnp.ones((num_rows, 5)), jnp.full(num_rows, 7)
        run = jax.jit(lambda s, i, n=num_rows: for_each_row(step, s, i, n))
        written, untouched = run(state, unread)
        np.testing.assert_array_equal(written, 1)
        np.testing.assert_array_equal(untouched, np.arange(num_rows))
