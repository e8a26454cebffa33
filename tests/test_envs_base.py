"""What every environment shares."""

import jax
import jax.numpy as jnp
import numpy as np

from muzero_jax.envs.base import random_legal_action


def test_random_legal_action_is_legal_and_uniform_in_every_row():
    masks = jnp.array([[True, False, True, True], [False, False, True, False]])
    batch = jnp.broadcast_to(masks, (3000, 2, 4))
    actions = np.asarray(random_legal_action(jax.random.key(0), batch))
    assert actions.dtype == np.int32 and (actions[:, 1] == 2).all()
    counts = np.bincount(actions[:, 0], minlength=4)
    assert counts[1] == 0
    # Expected 1000 each, standard deviation 26: five of them.
    assert np.abs(counts[[0, 2, 3]] - 1000).max() < 130
