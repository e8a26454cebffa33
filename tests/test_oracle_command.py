"""`muzero oracle` as a user meets it."""

import json

import pytest

from muzero_jax.cli import main


def test_the_maze_in_the_terminal(capsys):
    assert main(["oracle", "maze"]) == 0
    out = capsys.readouterr().out
    assert "optimal_return  0.937316820628" in out
    assert "0.923→↓" in out and "-1.000P" in out


def test_one_json_object(capsys):
    assert main(["oracle", "maze:reward_on=entering", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["optimal_return"] == pytest.approx(0.937316820628 / 0.99, abs=1e-12)
    assert len(found["value"]) == found["num_states"] == 36
    assert found["optimal_actions"][0] == [0, 3]


def test_another_discount_and_a_figure(tmp_path, capsys):
    figure = tmp_path / "line.png"
    arguments = ["oracle", "line:length=3", "--discount", "0.5", "--figure", str(figure)]
    assert main(arguments) == 0
    assert "optimal_return  1.000000000000" in capsys.readouterr().out
    assert figure.stat().st_size > 1_000


def test_numbers_in_a_name_may_have_an_exponent(capsys):
    assert main(["oracle", "maze:slip=1e-3", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert 0.9365 < found["optimal_return"] < 0.9373


def test_large_processes_are_announced_and_stay_one_object(capsys):
    assert main(["oracle", "deep_sea:size=20", "--json"]) == 0
    told = capsys.readouterr()
    size = json.loads(told.out)["num_states"]
    assert told.err == f"solving deep_sea:size=20 exactly: {size} states, 2 actions\n"


def test_large_processes_are_listed(capsys):
    assert main(["oracle", "random_mdp:fan_in=1"]) == 0
    told = capsys.readouterr()
    lines = told.out.splitlines()
    assert not told.err
    assert lines[-1] == "... and 40 states more; --json gives them all."


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["catch"], "catch is not tabular"),
        (["maze:discount=2"], "the discount must be above 0 and at most 1, found 2"),
        (["maze", "--discount", "1.5"], "--discount must be between 0 and 1, found 1.5"),
        (["maze:exit=3"], "it takes: drawing, reward_on, discount, slip, observation, time_limit"),
        (["chain:distraction=1:discount=1"], "grows without end"),
        (["random_mdp", "--figure", "x.png"], "does not lie on a grid"),
        (["maez"], "did you mean maze"),
        (["maze:slip=a"], "maze cannot be made"),
        (["maze:time_limit=-5"], "at least 1, found -5"),
        (["random_mdp:seed=-1"], "random_mdp cannot be made"),
    ],
)
def test_mistakes_are_one_sentence(arguments, told, capsys):
    assert main(["oracle", *arguments]) == 2
    printed = capsys.readouterr()
    assert told in printed.err and printed.err.count("\n") == 1 and not printed.out
