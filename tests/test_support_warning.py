"""Targets beyond the support are counted, and told of once, with settings that would suffice."""

import re

import jax.numpy as jnp
import numpy as np
import pytest
from tiny_run import tiny

from muzero_jax.agents.muzero.targets import Targets, clipped_share, largest_size
from muzero_jax.config import ExperimentConfig, NetworkConfig
from muzero_jax.maths.value_support import (
    is_beyond_support,
    scalar_to_support,
    signed_parabolic,
    support_to_scalar,
)
from muzero_jax.runs.run_writer import RunWriter, Start
from muzero_jax.tracking.support_warning import SupportWarning

QUIET = {
    "target/value_clipped": 0.0,
    "target/reward_clipped": 0.0,
    "target/value_largest": 3.0,
    "target/reward_largest": 1.0,
}


def targets(value, reward, value_mask, reward_mask) -> Targets:
    value, reward = jnp.asarray(value), jnp.asarray(reward)
    return Targets(
        action=jnp.zeros(reward.shape, jnp.int32),
        policy=jnp.ones((*value.shape, 1)),
        legal_action_mask=jnp.ones((*value.shape, 1), bool),
        value=value,
        reward=reward,
        policy_mask=jnp.asarray(value_mask),
        value_mask=jnp.asarray(value_mask),
        reward_mask=jnp.asarray(reward_mask),
    )


def test_shares_count_both_signs_and_leave_out_what_is_masked():
    # Five atoms a distance of 0.5 apart reach to a transformed value of 1, which is just below 3.
    batch = targets(
        [[2.0, -9.0, 50.0], [4.0, 0.0, -80.0]],
        [[-70.0, 1.0], [90.0, 1.0]],
        [[True, True, False], [True, True, False]],
        [[True, True], [False, True]],
    )
    assert clipped_share(batch, 2, 0.5) == {
        "target/value_clipped": 0.5,
        "target/reward_clipped": pytest.approx(1 / 3),
    }
    assert largest_size(batch) == {"target/value_largest": 9.0, "target/reward_largest": 70.0}


def test_windows_without_unrolled_steps_have_no_rewards_to_count():
    batch = targets(np.ones((2, 1)), np.ones((2, 0)), np.ones((2, 1), bool), np.ones((2, 0), bool))
    assert clipped_share(batch, 1, 1.0)["target/reward_clipped"] == 0.0
    assert largest_size(batch)["target/reward_largest"] == 0.0


def test_what_is_beyond_the_support_does_not_come_back():
    edge = float(signed_parabolic(jnp.float32(20 * 0.25)))
    x = jnp.array([0.0, 0.9 * edge, edge, -edge, 1.1 * edge, -1.1 * edge])
    there_and_back = support_to_scalar(jnp.log(scalar_to_support(x, 20, 0.25) + 1e-9), 0.25)
    changes = jnp.abs(there_and_back - x) > 0.01 * edge
    np.testing.assert_array_equal(is_beyond_support(x, 20, 0.25), changes)


def test_the_settings_suffice_for_rewards_in_the_unit_of_the_networks():
    network = NetworkConfig(support_size=30, support_spacing=0.5)
    loud = QUIET | {"target/reward_clipped": 0.4, "target/reward_largest": 5e5}
    told = SupportWarning(ExperimentConfig(network=network)).watch(
        loud | {"target/reward_unit": 100.0}
    )
    assert told is not None and "5e+05" in told
    (size,) = re.findall(r"network\.support_size to (\d+)", told)
    assert not is_beyond_support(jnp.float32(5000.0), int(size), 0.5)
    assert is_beyond_support(jnp.float32(5000.0), int(size) // 2, 0.5)


def test_the_warning_comes_once_and_names_settings_that_suffice():
    network = NetworkConfig(support_size=30, support_spacing=0.5)
    warning = SupportWarning(ExperimentConfig(network=network))
    assert warning.watch({"loss/total": 1.0}) is None  # A learner of tables.
    assert warning.watch(QUIET) is None
    loud = QUIET | {"target/reward_clipped": 0.4, "target/reward_largest": 5000.0}
    told = warning.watch(loud)
    assert told is not None and "40 % of the reward targets" in told and "5000" in told
    assert "value targets" not in told
    size, spacing = re.findall(r"network\.support_(?:size|spacing) to ([\d.]+)", told)
    assert not is_beyond_support(jnp.float32(5000.0), int(size), 0.5)
    assert not is_beyond_support(jnp.float32(5000.0), 30, float(spacing))
    assert is_beyond_support(jnp.float32(5000.0), int(size) // 2, 0.5)
    assert warning.watch(loud) is None


def test_few_values_that_overshoot_early_are_no_reason_to_warn():
    few = QUIET | {"target/value_clipped": 0.005, "target/value_largest": 300.0}
    warning = SupportWarning(ExperimentConfig())
    assert warning.watch(few) is None
    assert warning.watch({name: float("nan") for name in QUIET}) is None  # Nothing was learned.
    assert warning.watch(few | {"target/value_clipped": 0.02}) is not None


def test_a_reward_that_is_not_finite_names_no_settings():
    told = SupportWarning(ExperimentConfig()).watch(
        QUIET | {"target/reward_clipped": 0.1, "target/reward_largest": float("inf")}
    )
    assert told is not None and "look at the rewards" in told


class Notes:
    """A listener that keeps all notes."""

    def __init__(self):
        self.texts = []

    def note(self, text):
        self.texts.append(text)

    def metrics(self, row):
        pass


def test_a_run_tells_its_display_and_only_once(tmp_path):
    notes = Notes()
    config = tiny(logging__tensorboard=False)
    run = RunWriter(config, tmp_path, Start(), notes, 0.0)
    loud = QUIET | {"target/value_clipped": 0.5, "target/value_largest": 100.0}
    for metrics in (QUIET, loud, loud):
        run.write_chunk(metrics, 1, 1.0)
    run.close()
    assert len(notes.texts) == 1 and "network.support_size" in notes.texts[0]


def test_a_share_is_told_in_whole_percent():
    metrics = {"target/value_clipped": 1.0, "target/reward_clipped": 0.00123}
    metrics |= {"target/value_largest": 5000.0, "target/reward_largest": 5000.0}
    told = SupportWarning(ExperimentConfig()).watch(metrics)
    assert told is not None
    assert "100 % of the value targets and 0.12 % of the reward targets" in told
