"""Measures one experiment's training chunk on whatever device JAX finds.

python scripts/benchmark_loop.py cartpole --json
python scripts/benchmark_loop.py cartpole --replay.ratio 4 --search.num_simulations 8
"""

import sys

from muzero_jax.cli.benchmark import benchmark_parser, positive, run_benchmark
from muzero_jax.profiling.loop_cost import measure_loop

if __name__ == "__main__":
    parser = benchmark_parser(__doc__)
    parser.add_argument("--repeats", type=positive, default=5, help="timed chunks")
    sys.exit(run_benchmark(parser, lambda config, own: measure_loop(config, own.repeats)))
