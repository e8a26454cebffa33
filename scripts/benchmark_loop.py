"""Measures one experiment's training chunk on whatever device JAX finds.

python scripts/benchmark_loop.py cartpole --json
python scripts/benchmark_loop.py cartpole --replay.ratio 4 --search.num_simulations 8
"""

import dataclasses
import json
import sys

from muzero_jax.cli.guard import run_guarded
from muzero_jax.cli.options import Count, ExperimentOptions, parse_experiment_options
from muzero_jax.profiling.loop_cost import measure_loop


@dataclasses.dataclass(frozen=True)
class LoopOptions(ExperimentOptions):
    """Measures one experiment's training chunk on whatever device JAX finds."""

    repeats: Count = 5
    """Timed chunks."""
    json: bool = False
    """Print one JSON object."""


def main(args: list[str]) -> None:
    """Prints a line a number, or one JSON object."""
    options = parse_experiment_options(LoopOptions, args, "python scripts/benchmark_loop.py")
    results = dataclasses.asdict(measure_loop(options.settings, options.repeats))
    if options.json:
        return print(json.dumps(results))
    shown = {k: f"{v:,.4g}" if isinstance(v, float) else str(v) for k, v in results.items()}
    return print(*(f"{name:26}  {value}" for name, value in shown.items()), sep="\n")


if __name__ == "__main__":
    sys.exit(run_guarded(main, sys.argv[1:]))
