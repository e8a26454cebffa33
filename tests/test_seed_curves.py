"""Curves in memory: their shape, their early end, and several settings at a time."""

import numpy as np
import pytest

from muzero_jax.config import ConfigError
from muzero_jax.envs.registry import make_environment
from muzero_jax.settings import apply_settings
from muzero_jax.tabular.exact_evaluation import ExactEvaluation
from muzero_jax.tabular.presets import tabular
from muzero_jax.tabular.seed_curves import learn_curves, learn_curves_of


def config(**changes):
    """Settings that differ in traced ones alone, so that all curves share a compiled program."""
    named = {name.replace("__", "."): value for name, value in changes.items()}
    same = {"training.num_env_steps": 200, "table.optimistic_value": 10.0}
    return apply_settings(tabular("test", "line", "rmax"), same | named)


def test_a_point_for_every_chunk_and_what_was_learned_at_the_end():
    curves = learn_curves(config(target__discount=1.0), num_seeds=2)
    np.testing.assert_array_equal(curves.env_steps, [50, 100, 150, 200])
    assert curves.greedy_return.shape == (2, 4) and curves.value.shape == (2, 4, 5)
    np.testing.assert_array_equal(curves.greedy_return[:, -1], curves.optimal_return)
    np.testing.assert_allclose(curves.value[:, -1], [[6.0, 7.0, 8.0, 9.0, 10.0]] * 2)
    np.testing.assert_array_equal(curves.steps_to(1.0), [50, 50])
    assert np.isinf(curves.steps_to(1.1)).all()


def test_it_ends_when_all_seeds_are_done(capsys):
    configs = {"short": config(), "none": config(target__discount=0.5)}
    found = learn_curves_of(configs, 2, solved=lambda greedy_return: greedy_return > -1e9)
    assert [len(curves.env_steps) for curves in found.values()] == [1, 1]
    told = capsys.readouterr()
    assert "short: 2 seeds of 50 steps" in told.out
    # On a slow machine a line in between says how far the arms are.
    lines = [line for line in told.err.splitlines() if "the furthest at" not in line]
    assert lines[0].startswith("2 arms of 2 seeds each, ")
    assert lines[1].startswith("1/2 arms done, about 0:") and lines[1].endswith(" left")
    assert lines[2:] == ["2/2 arms done"]


def test_every_chunk_is_told_of():
    shares: list[float] = []
    learn_curves(config(), num_seeds=2, on_chunk=shares.append)
    assert shares == [0.25, 0.5, 0.75, 1.0]


def test_only_where_answers_are_exact():
    with pytest.raises(ConfigError, match="catch is not tabular"):
        ExactEvaluation(make_environment("catch"), agent=None)
