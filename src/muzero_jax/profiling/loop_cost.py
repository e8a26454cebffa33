"""What one training chunk costs, taken apart: acting, replay and learning; and what would help.

By ablation, because XLA fuses across parts and counts loops once: the chunk as it is, the same
chunk before the replay can be sampled from (which acts and stores only), and loops of nothing but
one part, timed in turns. What is left over is what no part could be timed for by itself.
"""

import dataclasses
import functools
import resource
import statistics
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from muzero_jax.agents.base import NetworkWork, Windows
from muzero_jax.config import ConfigError, ExperimentConfig
from muzero_jax.core.checks import require
from muzero_jax.core.stages import stage
from muzero_jax.core.types import Array, PRNGKey, PyTree, TimeStep
from muzero_jax.envs.base import EnvState, random_action
from muzero_jax.envs.wrappers import AutoReset, Vectorised
from muzero_jax.profiling.timing import program_facts, timed_call, timed_compile, timed_in_turns
from muzero_jax.runs.build import Experiment, build
from muzero_jax.training.learn import make_loop_replay
from muzero_jax.training.train_state import TrainState

_Played = tuple[EnvState, TimeStep]


@dataclasses.dataclass(frozen=True)
class LoopCost:
    """What one chunk costs on one device, medians of interleaved runs.

    Attributes:
      env_steps_per_second: environment steps, learning included.
      updates_per_second: optimiser steps, acting included.
      simulations_per_second: simulations of the acting search and of Reanalyse.
      loop_efficiency: network work over the whole; None where the agent does not describe it.
      chunk_seconds: seconds of the chunk.
      network_seconds: seconds of its network passes alone; None where they are not described.
      compile_seconds: seconds to trace and compile the chunk.
      peak_memory_bytes: the device's peak, or the process's where the device does not tell.
      device: what it ran on.
      parts: milliseconds by name, which add up to the chunk but for noise. Always `environment`,
        the environment's steps with random actions. Of an agent that describes its network work:
        `search_network`, the network calls of acting; `search_tree`, the rest of acting, which is
        the search's trees, noise and bookkeeping, and storing; `sample`, drawing the batches;
        `forward_backward`, the networks of learning; `optimiser`, the updates; `rest_of_learning`,
        targets, losses and checks. Of any other agent: `acting` and `learning`.
      simulations: simulations of each search; 0 where there is none.
      flops: floating-point operations of the compiled chunk by its own analysis, which counts a
        loop's body once.
      bytes_accessed: bytes that the compiled chunk reads and writes, by the same analysis.
    """

    env_steps_per_second: float
    updates_per_second: float
    simulations_per_second: float
    loop_efficiency: float | None
    chunk_seconds: float
    network_seconds: float | None
    compile_seconds: float
    peak_memory_bytes: int
    device: str
    parts: dict[str, float]
    simulations: int
    flops: float
    bytes_accessed: float

    @property
    def chunk(self) -> float:
        """Milliseconds of the chunk."""
        return 1e3 * self.chunk_seconds

    def advice(self) -> list[str]:
        """One line for each thing that would make the chunk at least a tenth faster."""
        parts, chunk = self.parts, self.chunk
        saved = {
            f"the environment takes {parts['environment'] / chunk:.0%}; one that costs "
            "nothing": parts["environment"],
        }
        if self.loop_efficiency is not None:
            search = parts["search_network"] + parts["search_tree"]
            halves = max(1, self.simulations // 2)
            saved |= {
                f"search takes {search / chunk:.0%} of the chunk; {halves} simulations instead of "
                f"{self.simulations}": search * (1 - halves / max(halves, self.simulations)),
                f"learning's networks take {parts['forward_backward'] / chunk:.0%}; half the "
                "replay.ratio": (chunk - parts["environment"] - search) / 2,
                f"the search's trees take {parts['search_tree'] / chunk:.0%}; trees that cost "
                "nothing": parts["search_tree"],
            }
        gains = {what: chunk / (chunk - less) for what, less in saved.items()}
        return [
            f"{what} would make it {gain:.2f} x faster"
            for what, gain in sorted(gains.items(), key=lambda item: -item[1])
            if gain >= 1.1
        ]


def measure_loop(config: ExperimentConfig, num_repeats: int = 5) -> LoopCost:
    """Times a chunk of `config`, after the replay has filled enough to learn, and its parts.

    Args:
      config: the experiment.
      num_repeats: timed runs of each program.

    Raises:
      ConfigError: a setting does not suit the environment, the run has several shards, or the agent
        learns without a replay, so that its acting cannot be timed by itself.
    """
    num_shards = config.training.num_shards
    told = f"only the chunk of one shard is taken apart, found training.num_shards {num_shards}."
    require(num_shards == 1, told)
    experiment = build(config)
    if not isinstance(experiment.agent.data, Windows):
        raise ConfigError(
            f"the agent {config.agent} learns from each rollout at once; only the chunk of an "
            "agent with a replay is taken apart."
        )
    stage("compiling the chunk, and filling the replay")
    state = jax.jit(experiment.train.init)(jax.random.key(config.seed))
    chunk: Any
    chunk, compile_seconds = timed_compile(experiment.train.train_chunk, state, donate=True)
    for _ in range(config.num_warm_up_chunks):
        (state, _), _ = timed_call(chunk, state)
    peak_memory_bytes = _peak_memory_bytes()
    stage("compiling its parts")
    network = experiment.agent.network_work
    programs: dict[str, tuple[Any, tuple[Any, ...]]] = {
        "chunk": (chunk, (state,)),
        "acting": (chunk, (_before_learning(state),)),
    }
    for name, (part, *args) in _programs(experiment, network, state).items():
        programs[name] = timed_compile(part, *args)[0], tuple(args)
    stage("timing them in turns")
    times = timed_in_turns(programs, num_repeats)
    seconds = {name: statistics.median(values) for name, values in times.items()}
    facts = program_facts(chunk)
    del facts["peak_bytes"]
    return LoopCost(
        **_rates(config, network, seconds),
        compile_seconds=compile_seconds,
        peak_memory_bytes=peak_memory_bytes,
        device=jax.devices()[0].device_kind,
        parts={name: 1e3 * max(0.0, x) for name, x in _parts(network, seconds).items()},
        **facts,
    )


def _rates(
    config: ExperimentConfig, network: NetworkWork | None, seconds: dict[str, float]
) -> dict[str, Any]:
    """How fast the whole chunk is, and how near to its bare network work."""
    chunk, work, simulations, num_searches = seconds["chunk"], None, 0, 0
    if network is not None:
        work = seconds["act_network"] + seconds["learn_network"]
        simulations = network.num_simulations
        num_searches = config.num_updates_per_chunk * network.num_searches
        num_searches += config.env_steps_per_chunk
    return {
        "env_steps_per_second": config.env_steps_per_chunk / chunk,
        "updates_per_second": config.num_updates_per_chunk / chunk,
        "simulations_per_second": num_searches * simulations / chunk,
        "loop_efficiency": None if work is None else work / chunk,
        "chunk_seconds": chunk,
        "network_seconds": work,
        "simulations": simulations,
    }


def _parts(network: NetworkWork | None, s: dict[str, float]) -> dict[str, float]:
    """The seconds of each part, from those of the programs."""
    acting, learning = s["acting"] - s["environment"], s["chunk"] - s["acting"]
    if network is None:
        return {"environment": s["environment"], "acting": acting, "learning": learning}
    return {
        "environment": s["environment"],
        "search_network": s["act_network"],
        "search_tree": acting - s["act_network"],
        "sample": s["sample"],
        "forward_backward": s["learn_network"],
        "optimiser": s["optimiser"],
        "rest_of_learning": learning - s["sample"] - s["learn_network"] - s["optimiser"],
    }


def _peak_memory_bytes() -> int:
    stats = jax.devices()[0].memory_stats() or {}
    on_device = stats.get("peak_bytes_in_use")
    return on_device or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _before_learning(state: TrainState) -> TrainState:
    """The same state with a replay so far from full that a whole chunk does not let it learn."""
    size = jnp.full_like(state.replay.size, jnp.iinfo(jnp.int32).min // 2)
    return state.replace(replay=state.replay.replace(size=size))


def _programs(
    experiment: Experiment, network: NetworkWork | None, state: TrainState
) -> dict[str, tuple[Any, ...]]:
    """The functions to time beside the chunk, by name, each with its arguments."""
    sizes, collector = experiment.config.training, state.collector
    step = random_step(Vectorised(AutoReset(experiment.env), sizes.num_envs))
    keys = jax.random.split(collector.rng_key, sizes.iterations_per_chunk * sizes.rollout_length)
    start = collector.env_state, collector.timestep
    played = (functools.partial(jax.lax.scan, step), start, keys)
    if network is None:
        return {"environment": played}
    rng_key, loops = jax.random.key(0), network_loops(experiment.config, network)
    return {
        "environment": played,
        "sample": (functools.partial(_sample, experiment), state),
        "optimiser": (loops["optimiser"], state.agent),
        "act_network": (loops["act_network"], state.agent, rng_key),
        "learn_network": (loops["learn_network"], state.agent, rng_key),
    }


def network_loops(
    config: ExperimentConfig, network: NetworkWork
) -> dict[str, Callable[..., PyTree]]:
    """The network passes of a chunk as loops of nothing else: of acting, learning, optimising."""
    sizes, num_updates = config.training, config.num_updates_per_chunk
    num_steps = sizes.iterations_per_chunk * sizes.rollout_length

    def act(state: PyTree, rng_key: PRNGKey) -> Array:
        keys = jax.random.split(rng_key, num_steps)
        return jax.lax.map(lambda key: network.act(state, key, sizes.num_envs), keys)

    def learn(state: PyTree, rng_key: PRNGKey) -> PyTree:
        keys = jax.random.split(rng_key, num_updates)
        return jax.lax.scan(lambda s, key: (network.learn(s, key), None), state, keys)[0]

    def optimise(state: PyTree) -> PyTree:
        return jax.lax.fori_loop(0, num_updates, lambda _, s: network.optimise(s), state)

    return {"act_network": act, "learn_network": learn, "optimiser": optimise}


def random_step(env: Vectorised) -> Callable[[_Played, PRNGKey], tuple[_Played, Array]]:
    """The body of a scan over uniformly random actions; gives what each step pays."""

    def step(played: _Played, rng_key: PRNGKey) -> tuple[_Played, Array]:
        env_state, timestep = played
        act_key, env_key = jax.random.split(rng_key)
        action = random_action(act_key, env.spec, timestep.legal_action_mask)
        env_state, timestep = env.step(env_key, env_state, action)
        return (env_state, timestep), env_state.outcome.reward.sum()

    return step


def _sample(experiment: Experiment, state: TrainState) -> PyTree:
    """The chunk's batches, reduced to a number that needs all of each."""
    data, settings = experiment.agent.data, state.agent.hyperparameters
    assert isinstance(data, Windows)
    replay = make_loop_replay(data, experiment.config.training.num_envs)
    alpha = settings.get("replay.priority_exponent", data.replay.priority_exponent)
    beta = settings.get("replay.importance_exponent", data.replay.importance_exponent)

    def draw(total: Array, rng_key: PRNGKey) -> tuple[Array, None]:
        batch = replay.sample(state.replay, rng_key, alpha, beta)
        return total + sum(x.sum().astype(jnp.float32) for x in jax.tree.leaves(batch)), None

    keys = jax.random.split(state.collector.rng_key, experiment.config.num_updates_per_chunk)
    return jax.lax.scan(draw, jnp.zeros(()), keys)
