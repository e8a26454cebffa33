"""`scripts/compare_simulations.py`: paired evaluations with several numbers of simulations."""

import csv
import runpy
from pathlib import Path

import pytest
from tiny_run import tiny

from muzero_jax.runs.runner import train

SCRIPT = runpy.run_path(str(Path(__file__).parents[1] / "scripts" / "compare_simulations.py"))


def rows_of(**scores):
    """Rows of an experiment `a`, whose scores with 4 and 16 simulations are given by seed."""
    return [
        {
            "experiment": "a",
            "seed": seed,
            "evaluation_seed": "0",
            "num_simulations": number,
            "evaluation_score": str(score),
        }
        for seed, pair in scores.items()
        for number, score in zip(("4", "16"), pair, strict=True)
    ]


def test_changes_are_shares_of_the_score_with_fewer_simulations_averaged_over_runs():
    (line,) = SCRIPT["comparisons"](rows_of(x=(10, 11), y=(-10, -12), z=(100, 100)), [4, 16])
    # +10 %, -20 % and 0 %.
    assert line.startswith("a, 4 to 16 simulations: -3.3% over 3 runs [-20.0%, +10.0%]")


def test_runs_without_both_evaluations_are_left_out():
    rows = rows_of(x=(10, 11), y=(10, 20))[:-1]
    assert SCRIPT["comparisons"](rows, [4, 16]) == ["a, 4 to 16 simulations: +10.0% over 1 runs"]
    assert SCRIPT["comparisons"](rows, [4, 64]) == []


def test_each_number_of_simulations_is_evaluated_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train(tiny(training__num_env_steps=128), tmp_path / "run")
    results, arguments = tmp_path / "new" / "results.csv", ["--simulations", "1", "3"]
    capsys.readouterr()
    command = [str(tmp_path / "run"), "--episodes", "6", "--results", str(results), *arguments]
    assert SCRIPT["main"](command) == 0
    with results.open(newline="") as file:
        found = list(csv.DictReader(file))
    assert [row["num_simulations"] for row in found] == ["1", "3"]
    assert {(row["experiment"], row["env_steps"], row["episodes"]) for row in found} == {
        ("tiny", "128", "6")
    }
    first = capsys.readouterr().out.splitlines()
    assert SCRIPT["main"](command) == 0
    again = capsys.readouterr().out.splitlines()
    assert first[-1:] == again, "only the comparison is printed again"
    assert SCRIPT["main"]([str(tmp_path), "--results", str(results)]) == 2
    assert "error: " in capsys.readouterr().err
