"""Times searches against mctx and against the bare network calls, on the toy network.

  python scripts/benchmark_search.py --required --json
  python scripts/benchmark_search.py --repeats 3

--required measures the cells of the table in docs/search.md, otherwise the whole grid beside them.
"""

import argparse
import dataclasses
import json
import sys

from muzero_jax.core.terminal import run_program
from muzero_jax.profiling.search_cost import grid, measure_search
from muzero_jax.profiling.search_workloads import SearchCell, toy_workload

REQUIRED = [
    SearchCell(64, 200, 4, 64, "flat", "gumbel"),
    SearchCell(256, 64, 4, 64, "flat", "gumbel"),
    SearchCell(256, 200, 4, 64, "flat", "gumbel"),
    SearchCell(64, 200, 18, 64, "flat", "gumbel"),
    SearchCell(64, 64, 4, 64, "flat", "gumbel"),
    SearchCell(64, 32, 82, 64, "flat", "gumbel"),
    SearchCell(64, 64, 4, 64, "flat", "muzero"),
    SearchCell(64, 64, 4, 64, "sharp", "muzero"),
    SearchCell(64, 200, 4, 64, "sharp", "muzero"),
    SearchCell(128, 32, 6, 256, "flat", "gumbel"),
    # How the time grows with the simulations.
    *[SearchCell(64, n, 4, 64, prior, "gumbel") for n in (16, 256) for prior in ("flat", "sharp")],
]
WHOLE = grid(
    batch=[16, 64, 256],
    num_simulations=[8, 16, 32, 64, 128],
    num_actions=[2, 6, 18],
    embedding=[64],
    prior=["flat"],
    policy=["gumbel"],
)


def main() -> int:
    """Prints a line a cell, or one JSON object."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--required", action="store_true", help="only the cells of the table")
    parser.add_argument("--repeats", type=int, default=5, help="timed runs of each program")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    results = []
    for cell in REQUIRED if options.required else [*REQUIRED, *WHOLE]:
        cost = measure_search(toy_workload(cell), num_repeats=options.repeats)[0]
        results.append(dataclasses.asdict(cost))
        line = (
            f"{cell!s:42} {cost.milliseconds:8.2f} ms  {cost.speedup_vs_mctx:6.2f} x mctx  "
            f"{cost.ratio_to_network_only:6.2f} x network  "
            f"{cost.nanoseconds_per_path_node:5.0f} ns a path node  "
            f"depth {cost.depth_mean:.1f}/{cost.depth_max:.1f}  "
            f"value sd {cost.value_spread:.2f}  entropy {cost.prior_entropy:.0%}"
        )
        print(line, file=sys.stderr if options.json else sys.stdout, flush=True)
    if options.json:
        print(json.dumps({"cells": results}))
    return 0


if __name__ == "__main__":
    sys.exit(run_program(main))
