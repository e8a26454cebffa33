"""Times seeds trained side by side in one vmapped program against the same seeds in turn.

    python scripts/benchmark_seeds.py cartpole --seeds 8 --json
    python scripts/benchmark_seeds.py catch --seeds 16 --replay.ratio 4

The same number of chunks is timed both ways, in turns, after one chunk of warm-up. With compile
time the comparison is that of whole runs, where each of the runs in turn compiles once.
"""

import argparse
import dataclasses
import json
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from muzero_jax.commands.experiments import load_experiment
from muzero_jax.commands.options import parse_train_options
from muzero_jax.config import ConfigError, ExperimentConfig
from muzero_jax.training.build import build


@dataclasses.dataclass(frozen=True)
class SeedsCost:
    """What vmapping over seeds costs.

    Attributes:
      num_seeds: members of the vmapped program.
      vmapped_chunk_seconds: one chunk of all members, median.
      single_chunk_seconds: one chunk of one run, median.
      chunk_ratio: vmapped chunk over `num_seeds` single chunks.
      vmapped_compile_seconds: of the vmapped program.
      single_compile_seconds: of the single program.
      run_ratio: whole vmapped run, compile included, over `num_seeds` whole single runs.
      device: what it ran on.
    """

    num_seeds: int
    vmapped_chunk_seconds: float
    single_chunk_seconds: float
    chunk_ratio: float
    vmapped_compile_seconds: float
    single_compile_seconds: float
    run_ratio: float
    device: str


def measure(config: ExperimentConfig, num_seeds: int, num_chunks: int) -> SeedsCost:
    """Times both ways; see `SeedsCost`."""
    train = build(config).train
    keys = jax.vmap(jax.random.key)(jnp.arange(num_seeds))
    many, many_state, many_compile = _prepare(
        jax.vmap(train.init), jax.vmap(train.train_chunk), keys
    )
    one, one_state, one_compile = _prepare(train.init, train.train_chunk, keys[0])
    many_times, one_times = [], []
    for _ in range(1 + num_chunks):
        many_state, seconds = _timed(many, many_state)
        many_times.append(seconds)
        one_state, seconds = _timed(one, one_state)
        one_times.append(seconds)
    many_chunk, one_chunk = statistics.median(many_times[1:]), statistics.median(one_times[1:])
    many_run = many_compile + config.num_chunks * many_chunk
    one_run = one_compile + config.num_chunks * one_chunk
    return SeedsCost(
        num_seeds=num_seeds,
        vmapped_chunk_seconds=many_chunk,
        single_chunk_seconds=one_chunk,
        chunk_ratio=many_chunk / (num_seeds * one_chunk),
        vmapped_compile_seconds=many_compile,
        single_compile_seconds=one_compile,
        run_ratio=many_run / (num_seeds * one_run),
        device=jax.devices()[0].device_kind,
    )


def _prepare(
    init: Callable[..., Any], train_chunk: Callable[..., Any], key: jax.Array
) -> tuple[Callable[..., Any], Any, float]:
    """The compiled chunk, a state that has begun to learn, and the seconds of compiling."""
    state = jax.jit(init)(key)
    start = time.perf_counter()
    compiled = jax.jit(train_chunk, donate_argnums=0).lower(state).compile()
    seconds = time.perf_counter() - start
    return compiled, state, seconds


def _timed(train_chunk: Callable[..., Any], state: Any) -> tuple[Any, float]:
    start = time.perf_counter()
    state, _ = jax.block_until_ready(train_chunk(state))
    return state, time.perf_counter() - start


def main(arguments: list[str]) -> int:
    """Prints the measurement; returns the exit code, 2 for a bad setting."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("experiment")
    parser.add_argument("--seeds", type=int, default=8, help="members of the vmapped program")
    parser.add_argument("--chunks", type=int, default=5, help="timed chunks each way")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options, overrides = parser.parse_known_args(arguments)
    try:
        config = load_experiment(options.experiment)
        config = parse_train_options(
            overrides, config, "benchmark_seeds.py", options.experiment
        ).settings
        cost = dataclasses.asdict(measure(config, options.seeds, options.chunks))
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(json.dumps(cost) if options.json else "\n".join(f"{k:25} {v}" for k, v in cost.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
