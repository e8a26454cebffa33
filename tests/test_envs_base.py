"""What every environment shares."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny import tiny_spec

from muzero_jax.config import ConfigError
from muzero_jax.envs.base import Box, Discrete, random_action, random_legal_action


def test_random_legal_action_is_legal_and_uniform_in_every_row():
    masks = jnp.array([[True, False, True, True], [False, False, True, False]])
    batch = jnp.broadcast_to(masks, (3000, 2, 4))
    actions = np.asarray(random_legal_action(jax.random.key(0), batch))
    assert actions.dtype == np.int32 and (actions[:, 1] == 2).all()
    counts = np.bincount(actions[:, 0], minlength=4)
    assert counts[1] == 0
    # Expected 1000 each, standard deviation 26: five of them.
    assert np.abs(counts[[0, 2, 3]] - 1000).max() < 130


def test_a_description_says_once_how_many_actions_there_are():
    assert tiny_spec(num_actions=7).action_space == Discrete(7)
    assert tiny_spec(num_actions=0, action_space=Discrete(7)).num_actions == 7
    with pytest.raises(ConfigError, match=r"num_actions \(7\) and action_space \(3 actions\)"):
        dataclasses.replace(tiny_spec(), num_actions=7)


def test_random_actions_of_a_box_lie_between_its_bounds():
    spec = tiny_spec(num_actions=0, action_space=Box((2,), low=-3.0, high=-1.0))
    actions = random_action(jax.random.key(0), spec, jnp.ones((500, 0), bool))
    assert actions.shape == (500, 2) and actions.dtype == jnp.float32
    assert -3.0 <= actions.min() < -2.9 and -1.1 < actions.max() <= -1.0
