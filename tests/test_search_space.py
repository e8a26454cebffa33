"""What a sweep varies: how it is written, and what it becomes."""

import math
import random

import pytest
from tiny_run import TINY

from muzero_jax.config import ConfigError, traced_settings
from muzero_jax.sweeps.definition import Study, Sweep, group_members
from muzero_jax.sweeps.search_space import (
    Range,
    Values,
    full_name,
    make_axis,
    make_settings,
    parse_axis,
)


def test_lists_and_ranges_are_read():
    assert parse_axis(TINY, "num_simulations=4,16") == Values("search.num_simulations", (4, 16))
    assert parse_axis(TINY, "learning_rate=1e-4..1e-2:log") == Range(
        "optimizer.learning_rate", 1e-4, 1e-2, is_log=True, is_integer=False
    )
    assert parse_axis(TINY, "search.num_simulations=4..16") == Range(
        "search.num_simulations", 4, 16, is_log=False, is_integer=True
    )
    assert parse_axis(TINY, "schedule=linear,cosine").values == ("linear", "cosine")
    assert parse_axis(TINY, "prioritised=true,false").values == (True, False)
    assert parse_axis(TINY, "hidden_sizes=[64,64],[128]").values == ((64, 64), (128,))
    assert parse_axis(TINY, "learning_rate=1e-3").values == (0.001,)


@pytest.mark.parametrize(
    "axis", ["learning_rate=0.0001..0.01:log", "num_simulations=4,16", "hidden_sizes=[8],[4,4]"]
)
def test_an_axis_survives_the_sweep_file(axis):
    parsed = parse_axis(TINY, axis)
    assert make_axis(TINY, parsed.name, parsed.plain()) == parsed


def test_a_section_may_be_left_out_where_that_is_clear():
    assert full_name(TINY, "td_steps") == "target.td_steps"
    with pytest.raises(ConfigError, match=r"num_envs is ambiguous: say .* or evaluation\.num_envs"):
        full_name(TINY, "num_envs")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("learning_rate", "give NAME=1,2,3 or NAME=low..high"),
        ("learning_rat=1,2", "unknown setting learning_rat; did you mean optimizer.learning_rate"),
        ("seed=1,2", "seed cannot be swept: use --seeds"),
        ("logging.tensorboard=true,false", "cannot be swept: it does not change what is learned"),
        ("learning_rate=1e-2..1e-4", "is empty: 0.01 is not below 0.0001"),
        ("learning_rate=0..1:log", "cannot be logarithmic: 0 is not above 0"),
        ("learning_rate=1..2:ln", "must be log or linear, found 'ln'"),
        ("learning_rate=a..b", "needs two numbers"),
        ("num_simulations=1.5..4", "is an integer, found the range 1.5..4"),
        ("schedule=a..b", "has no range, for it is no number"),
        ("learning_rate=1,1", "is given a value twice"),
        ("learning_rate=[1", "cannot read the values"),
    ],
)
def test_what_cannot_be_varied_is_one_sentence(text, told):
    with pytest.raises(ConfigError, match=told) as error:
        parse_axis(TINY, text)
    assert "\n" not in str(error.value)


def test_grid_points_go_from_end_to_end():
    rate = Range("optimizer.learning_rate", 1e-4, 1e-2, is_log=True, is_integer=False)
    assert rate.grid(3) == (1e-4, 1e-3, 1e-2)
    steps = Range("target.td_steps", 1, 4, is_log=False, is_integer=True)
    assert steps.grid(9) == (1, 2, 3, 4)  # No integer twice.
    assert steps.grid(1) == (1,)


def test_log_samples_are_even_in_the_logarithm():
    rate = Range("optimizer.learning_rate", 1e-4, 1e-2, is_log=True, is_integer=False)
    generator = random.Random(0)
    samples = [rate.sample(generator) for _ in range(2_000)]
    assert min(samples) >= 1e-4 and max(samples) <= 1e-2
    below = sum(sample < 1e-3 for sample in samples) / len(samples)
    assert math.isclose(below, 0.5, abs_tol=0.04)


def test_settings_are_all_combinations_or_drawn():
    axes = [parse_axis(TINY, "td_steps=1,3"), parse_axis(TINY, "learning_rate=1e-4..1e-2:log")]
    grid = make_settings(TINY, axes, num_points=2)
    assert [tuple(setting.values()) for setting in grid] == [
        (1, 1e-4),
        (1, 1e-2),
        (3, 1e-4),
        (3, 1e-2),
    ]
    drawn, again, other = (
        make_settings(TINY, axes, num_samples=6, sample_seed=seed) for seed in (1, 1, 2)
    )
    assert drawn == again != other
    assert len({setting["optimizer.learning_rate"] for setting in drawn}) == 6


def test_a_setting_that_cannot_work_is_named():
    axes = [parse_axis(TINY, "num_unroll_steps=1,2"), parse_axis(TINY, "replay.capacity=8,320")]
    with pytest.raises(ConfigError, match=r"the setting .*capacity=8 cannot work: replay"):
        make_settings(TINY, axes)
    with pytest.raises(ConfigError, match=r"td_steps is varied twice"):
        make_settings(TINY, [parse_axis(TINY, "td_steps=1"), parse_axis(TINY, "target.td_steps=2")])


def test_members_are_grouped_by_what_is_static():
    settings = make_settings(
        TINY, [parse_axis(TINY, "learning_rate=1e-3,1e-2"), parse_axis(TINY, "num_simulations=2,3")]
    )
    members = Sweep("tiny", TINY, (5, 6), tuple(settings)).members()
    groups = group_members(members)
    assert [len(group) for group in groups] == [4, 4]
    for group in groups:
        assert len({member.config.learner.search.num_simulations for member in group}) == 1
        assert {member.config.seed for member in group} == {5, 6}
    assert len({member.folder for member in members}) == 8


def test_every_traced_setting_stays_in_one_group():
    settings = tuple({name: 0.5} for name in traced_settings(TINY))
    assert len(group_members(Sweep("tiny", TINY, (0,), settings).members())) == 1


def test_what_somebody_wrote_into_the_file_of_a_sweep_is_written_again():
    changed = {"x": None, "y": {"z": 1}, "hidden_sizes": [8]}
    assert Sweep("tiny", TINY, (0,), ({},), changed=changed).to_dict()["changed"] == changed


def test_what_a_sweep_or_study_lacks_is_told():
    with pytest.raises(ConfigError, match="seeds that differ"):
        Sweep("tiny", TINY, (1, 1), ({},))
    with pytest.raises(ConfigError, match="at least one setting to choose"):
        Study("tiny", TINY, (0,), "s", (), 3)
    axis = (parse_axis(TINY, "learning_rate=1,2"),)
    with pytest.raises(ConfigError, match="trials must be between 1 and"):
        Study("tiny", TINY, (0,), "s", axis, 0)
