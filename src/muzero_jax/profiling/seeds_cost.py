"""What training several seeds side by side in one vmapped program costs, beside one by one."""

import dataclasses
import math
import statistics
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from muzero_jax.config import ExperimentConfig
from muzero_jax.profiling.timing import timed_call, timed_compile
from muzero_jax.training.build import build


@dataclasses.dataclass(frozen=True)
class SeedsCost:
    """Seconds of both ways, median over chunks; the vmapped seeds are spread over the devices.

    Attributes:
      num_seeds: members of the vmapped program.
      vmapped_chunk_seconds: one chunk of all members.
      single_chunk_seconds: one chunk of one run.
      chunk_ratio: one vmapped chunk over `num_seeds` single ones.
      vmapped_compile_seconds: to trace and compile the vmapped program.
      single_compile_seconds: to trace and compile the single program.
      run_ratio: a whole vmapped run over `num_seeds` whole single runs, each of which compiles.
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


def measure_seeds(config: ExperimentConfig, num_seeds: int, num_repeats: int = 5) -> SeedsCost:
    """Times chunks of `config` both ways, after the replay has filled enough to learn.

    Args:
      config: the experiment.
      num_seeds: members of the vmapped program.
      num_repeats: timed vmapped chunks, each followed by a single one so that a drifting machine
        does not favour either.
    """
    train = build(config).train
    keys = jax.vmap(jax.random.key)(jnp.arange(num_seeds))
    one_state = jax.jit(train.init)(keys[0])
    many_state = jax.jit(_side_by_side(train.init, num_seeds))(keys)
    many, many_compile = timed_compile(
        _side_by_side(train.train_chunk, num_seeds), many_state, donate=True
    )
    one, one_compile = timed_compile(train.train_chunk, one_state, donate=True)
    many_times, one_times = [], []
    for _ in range(config.num_warm_up_chunks + num_repeats):
        (many_state, _), seconds = timed_call(many, many_state)
        many_times.append(seconds)
        (one_state, _), seconds = timed_call(one, one_state)
        one_times.append(seconds)
    many_chunk = statistics.median(many_times[-num_repeats:])
    one_chunk = statistics.median(one_times[-num_repeats:])
    one_run = one_compile + config.num_chunks * one_chunk
    return SeedsCost(
        num_seeds=num_seeds,
        vmapped_chunk_seconds=many_chunk,
        single_chunk_seconds=one_chunk,
        chunk_ratio=many_chunk / (num_seeds * one_chunk),
        vmapped_compile_seconds=many_compile,
        single_compile_seconds=one_compile,
        run_ratio=(many_compile + config.num_chunks * many_chunk) / (num_seeds * one_run),
        device=jax.devices()[0].device_kind,
    )


def _side_by_side(function: Callable[..., Any], num_seeds: int) -> Callable[..., Any]:
    """`function` vmapped over seeds, spread over as many of the devices as divide their number."""
    devices = jax.devices()[: math.gcd(num_seeds, jax.device_count())]
    mesh = jax.sharding.Mesh(np.asarray(devices), ("seed",))
    spec = jax.sharding.PartitionSpec("seed")
    # The members know nothing of each other: there is nothing to check between devices.
    return jax.shard_map(
        jax.vmap(function), mesh=mesh, in_specs=spec, out_specs=spec, check_vma=False
    )
