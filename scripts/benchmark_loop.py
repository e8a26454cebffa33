"""Measures one experiment's training chunk on whatever device JAX finds.

    python scripts/benchmark_loop.py cartpole --json
    python scripts/benchmark_loop.py cartpole --replay.ratio 4 --search.num_simulations 8

Any setting of the experiment can be overridden; see `muzero train EXPERIMENT --help`.
"""

import dataclasses
import json
import sys

from muzero_jax.commands.experiments import load_experiment
from muzero_jax.commands.options import parse_train_options
from muzero_jax.config import ConfigError
from muzero_jax.profiling.loop_cost import LoopCost, measure_loop


def main(arguments: list[str]) -> int:
    """Prints the measurement; returns the exit code, 2 for a bad setting."""
    as_json = "--json" in arguments
    rest = [argument for argument in arguments if argument != "--json"]
    if not rest or rest[0].startswith("-"):
        print(__doc__, file=sys.stderr)
        return 2
    try:
        config = load_experiment(rest[0])
        options = parse_train_options(rest[1:], config, "benchmark_loop.py", rest[0])
        cost = measure_loop(options.settings)
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(json.dumps(dataclasses.asdict(cost)) if as_json else _table(cost))
    return 0


def _table(cost: LoopCost) -> str:
    rows = dataclasses.asdict(cost)
    return "\n".join(
        f"{name:25} {value:,.3g}" if isinstance(value, float) else f"{name:25} {value}"
        for name, value in rows.items()
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
