"""Evaluates finished runs with several numbers of simulations, and compares the numbers in pairs.

    python scripts/compare_simulations.py runs/cartpole/seed-* --simulations 4 16 64 \
        --results experiments/results/simulations.csv

Each run plays the same number of episodes with each number of simulations, from the same evaluation
seed, so that the differences are those of the search alone. Every score becomes a row of the CSV as
it is found, and the same command, run again, goes on where it was interrupted. At the end the mean
change of the score over the runs of each experiment is printed for each pair of neighbouring
numbers, as a share of the score with fewer simulations, with a 95 % bootstrap interval over runs.
"""

import argparse
import csv
import dataclasses
import sys
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
from scipy.stats import bootstrap

from muzero_jax.config import ConfigError
from muzero_jax.core.errors import RunError
from muzero_jax.core.files import write_text
from muzero_jax.core.keys import fresh_evaluation_key
from muzero_jax.core.terminal import run_program
from muzero_jax.process.jax_process import prepare_jax
from muzero_jax.runs.build import load_run
from muzero_jax.training.evaluation import Evaluate

COLUMNS = ("experiment", "seed", "env_steps", "evaluation_seed", "num_simulations", "episodes")
SCORES = ("evaluation_score", "evaluation_std")


def main(arguments: Sequence[str] | None = None) -> int:
    """Evaluates what is not in the CSV yet, and prints the comparison; returns the exit code."""
    options = _parse(arguments)
    rows = _read(options.results)
    try:
        prepare_jax()
        for run_dir in options.runs:
            for num_simulations in options.simulations:
                _evaluate(options, run_dir, num_simulations, rows)
    except (ConfigError, RunError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for line in comparisons(rows, options.simulations):
        print(line)
    return 0


def comparisons(rows: Sequence[dict[str, str]], simulations: Sequence[int]) -> list[str]:
    """A line for each experiment and pair of neighbouring numbers of simulations.

    Args:
      rows: rows of the CSV.
      simulations: the numbers of simulations, in the order in which they are compared.
    """
    lines = []
    for experiment in dict.fromkeys(row["experiment"] for row in rows):
        scores = {
            (row["seed"], row["evaluation_seed"], int(row["num_simulations"])): row[
                "evaluation_score"
            ]
            for row in rows
            if row["experiment"] == experiment
        }
        for few, many in pairwise(simulations):
            pairs = [
                (float(score), float(scores[*run, many]))
                for (*run, number), score in scores.items()
                if number == few and (*run, many) in scores
            ]
            if pairs:
                lines.append(f"{experiment}, {few} to {many} simulations: {_change(pairs)}")
    return lines


def _change(pairs: Sequence[tuple[float, float]]) -> str:
    """The mean relative change of pairs of scores in words, with its interval over the pairs."""
    before, after = np.array(pairs).T
    change = (after - before) / np.abs(before)
    told = f"{change.mean():+.1%} over {len(change)} runs"
    if len(change) < 2 or np.ptp(change) == 0:
        return told
    interval = bootstrap((change,), np.mean, method="percentile", rng=0).confidence_interval
    return f"{told} [{interval.low:+.1%}, {interval.high:+.1%}]"


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("runs", type=Path, nargs="+", help="run folders")
    add("--simulations", type=int, nargs="+", default=[4, 16, 64], help="numbers to compare")
    add("--episodes", type=int, default=100, help="episodes of each evaluation (default 100)")
    add("--seed", type=int, default=0, help="seed of the evaluations (default 0)")
    add("--results", type=Path, required=True, help="the CSV that gets a row for each evaluation")
    return parser.parse_args(arguments)


def _evaluate(
    options: argparse.Namespace, run_dir: Path, num_simulations: int, rows: list[dict[str, str]]
) -> None:
    """Adds the row of one evaluation to the CSV, unless it is there."""
    run = load_run(run_dir, "", {"search.num_simulations": num_simulations})
    row = {
        "experiment": run.config.name,
        "seed": run.config.seed,
        "env_steps": run.num_env_steps,
        "evaluation_seed": options.seed,
        "num_simulations": num_simulations,
        "episodes": options.episodes,
    }
    found = {name: str(value) for name, value in row.items()}
    if any({name: old[name] for name in COLUMNS} == found for old in rows):
        return
    config = dataclasses.replace(
        run.config.evaluation, num_episodes=1, final_num_episodes=options.episodes
    )
    rng_key = fresh_evaluation_key(options.seed, run.num_env_steps)
    scores = Evaluate(run.env, run.agent, config)(run.agent_state, rng_key, options.episodes).scores
    found |= {"evaluation_score": f"{scores.mean():.6g}", "evaluation_std": f"{scores.std():.6g}"}
    rows.append(found)
    _write(options.results, rows)
    print(f"{run_dir}, {num_simulations} simulations: {found['evaluation_score']}", flush=True)


def _read(path: Path) -> list[dict[str, str]]:
    if not path.exists():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _write(path: Path, rows: Sequence[dict[str, str]]) -> None:
    lines = [",".join((*COLUMNS, *SCORES))]
    lines += [",".join(row[name] for name in (*COLUMNS, *SCORES)) for row in rows]
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, "\n".join(lines) + "\n")


if __name__ == "__main__":
    sys.exit(run_program(main))
