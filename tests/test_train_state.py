"""The counter of steps goes on where an integer of 32 bits would begin anew."""

import jax
import numpy as np

from muzero_jax.core.keys import evaluation_key
from muzero_jax.training.train_state import StepCount


def test_steps_are_counted_past_2_to_the_32():
    plus = jax.jit(lambda count: count.plus(2**31 - 1))
    count = StepCount.zero()
    for _ in range(5):
        count = plus(count)
    assert int(count) == 5 * (2**31 - 1) > 2**33


def test_members_of_a_vmapped_program_count_for_themselves():
    counts = StepCount(np.array([0, 2**32 - 1], np.uint32), np.array([0, 1], np.uint32))
    added = jax.jit(jax.vmap(lambda count: count.plus(2)))(counts)
    assert [int(jax.tree.map(lambda x, i=i: x[i], added)) for i in (0, 1)] == [2, 2**33 + 1]


def test_evaluations_late_in_a_long_run_have_keys_of_their_own():
    keys = [evaluation_key(0, steps) for steps in (5, 2**32 + 5, 2**33 + 5, 2**40)]
    assert len({tuple(jax.random.key_data(key).tolist()) for key in keys}) == 4
