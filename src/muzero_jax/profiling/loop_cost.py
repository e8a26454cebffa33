"""What one training chunk costs, beside the bare network work that it cannot avoid.

XLA's cost analysis counts the body of a loop once, so nothing here is read off a program: the
chunk and a loop of nothing but the same network passes are compiled and timed in turns.
"""

import dataclasses
import resource
import statistics

import jax
import jax.numpy as jnp

from muzero_jax.agents.definition import NetworkWork
from muzero_jax.config import ConfigError, ExperimentConfig
from muzero_jax.profiling.timing import timed_call, timed_compile
from muzero_jax.runs.build import Experiment, build


@dataclasses.dataclass(frozen=True)
class LoopCost:
    """Rates of one experiment's chunk on one device, median over repetitions.

    Attributes:
      env_steps_per_second: environment steps, learning included.
      updates_per_second: optimiser steps, acting included.
      simulations_per_second: simulations of the acting search and of Reanalyse.
      loop_efficiency: seconds of the bare network work over seconds of the chunk.
      chunk_seconds: seconds of one chunk.
      network_seconds: seconds of the chunk's network passes alone.
      compile_seconds: seconds to trace and compile the chunk.
      peak_memory_bytes: the device's peak, or the process's where the device does not tell.
      device: what it ran on.
    """

    env_steps_per_second: float
    updates_per_second: float
    simulations_per_second: float
    loop_efficiency: float
    chunk_seconds: float
    network_seconds: float
    compile_seconds: float
    peak_memory_bytes: int
    device: str


def measure_loop(config: ExperimentConfig, num_repeats: int = 5) -> LoopCost:
    """Times training chunks of `config`, after the replay has filled enough to learn.

    Args:
      config: the experiment.
      num_repeats: timed chunks, each followed by the bare network work so that a drifting machine
        does not favour either.

    Raises:
      ConfigError: the agent does not describe its network work, or a setting does not suit the
        environment.
    """
    experiment = build(config)
    network = network_work_of(experiment)
    if network is None:
        raise ConfigError(
            f"the agent {config.agent} does not describe its network work, which the efficiency of "
            "a loop is measured against; `muzero profile loop` splits its chunk."
        )
    train = experiment.train
    state = jax.jit(train.init)(jax.random.key(config.seed))
    chunk, compile_seconds = timed_compile(train.train_chunk, state, donate=True)
    agent_state = jax.tree.map(jnp.copy, state.agent)
    work, _ = timed_compile(network.chunk, agent_state, jax.random.key(0))
    for _ in range(config.num_warm_up_chunks):
        (state, _), _ = timed_call(chunk, state)
    chunk_times, work_times = [], []
    for repeat in range(num_repeats):
        (state, _), seconds = timed_call(chunk, state)
        chunk_times.append(seconds)
        _, seconds = timed_call(work, agent_state, jax.random.key(repeat))
        work_times.append(seconds)
    chunk_seconds, network_seconds = map(statistics.median, (chunk_times, work_times))
    return LoopCost(
        env_steps_per_second=config.env_steps_per_chunk / chunk_seconds,
        updates_per_second=config.chunk_sizes().num_updates / chunk_seconds,
        simulations_per_second=network.num_searches * network.num_simulations / chunk_seconds,
        loop_efficiency=network_seconds / chunk_seconds,
        chunk_seconds=chunk_seconds,
        network_seconds=network_seconds,
        compile_seconds=compile_seconds,
        peak_memory_bytes=_peak_memory_bytes(),
        device=jax.devices()[0].device_kind,
    )


def network_work_of(experiment: Experiment) -> NetworkWork | None:
    """The bare network work of an experiment's chunk; None for an agent that does not describe it.

    Args:
      experiment: the parts of the run.
    """
    config = experiment.config
    return config.definition.describe_work(config.learner, experiment.env, config.chunk_sizes())


def _peak_memory_bytes() -> int:
    stats = jax.devices()[0].memory_stats() or {}
    on_device = stats.get("peak_bytes_in_use")
    return on_device or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
