"""Work that is left out where no member of a `vmap` wants it."""

import jax
import jax.numpy as jnp
import numpy as np

from muzero_jax.maths.skipping import skip_unless


def counted(calls):
    """Doubles, and counts how often it is done."""

    def work(x):
        jax.debug.callback(lambda _: calls.append(1), x)
        return 2.0 * x

    return work


def doubled(is_wanted, x, calls=None):
    work = counted([] if calls is None else calls)
    return skip_unless(is_wanted, work, jnp.zeros(()), x)


def test_alone_it_is_a_conditional():
    for wanted, expected in ((True, 6.0), (False, 0.0)):
        assert jax.jit(doubled)(wanted, 3.0) == doubled(wanted, 3.0) == expected


def test_members_that_want_it_get_it():
    x, wanted = jnp.arange(6.0).reshape(2, 3), jnp.array([[True, False, True], [False] * 3])
    out = jax.jit(jax.vmap(jax.vmap(doubled)))(wanted, x)
    np.testing.assert_array_equal(np.where(wanted, out, -1.0), np.where(wanted, 2.0 * x, -1.0))
    same = jax.jit(jax.vmap(doubled, in_axes=(None, 0)))(True, x[0])
    np.testing.assert_array_equal(same, 2.0 * x[0])
    shared = jax.jit(jax.vmap(doubled, in_axes=(0, None)))(wanted[0], 3.0)
    np.testing.assert_array_equal(shared[np.array([0, 2])], 6.0)


def test_it_is_left_out_where_no_member_wants_it():
    for wanted, expected in (([False] * 3, 0), ([False, True, False], 3)):
        calls = []
        run = jax.jit(jax.vmap(lambda w, x, calls=calls: doubled(w, x, calls)))
        jax.block_until_ready(run(jnp.array(wanted), jnp.arange(3.0)))
        jax.effects_barrier()
        assert len(calls) == expected
