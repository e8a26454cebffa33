"""Times seeds trained side by side in one vmapped program against the same seeds in turn.

python scripts/benchmark_seeds.py cartpole --seeds 8 --json
python scripts/benchmark_seeds.py catch --seeds 16 --replay.ratio 4
"""

import sys

from muzero_jax.commands.benchmark import benchmark_parser, positive, run_benchmark
from muzero_jax.profiling.seeds_cost import measure_seeds

if __name__ == "__main__":
    parser = benchmark_parser(__doc__)
    parser.add_argument("--seeds", type=positive, default=8, help="members of the vmapped program")
    parser.add_argument("--repeats", type=positive, default=5, help="timed chunks each way")
    sys.exit(
        run_benchmark(parser, lambda config, own: measure_seeds(config, own.seeds, own.repeats))
    )
