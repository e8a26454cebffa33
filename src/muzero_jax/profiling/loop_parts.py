"""One training chunk taken apart: acting, replay and learning, and what would make it faster.

By ablation, because XLA fuses across parts and counts loops once: the chunk as it is, the same
chunk before the replay can be sampled from (which acts and stores only), and loops of nothing but
one part, timed in turns. What is left over is what no part could be timed for by itself.
"""

import dataclasses
import functools
import statistics
from typing import Any

import jax
import jax.numpy as jnp

from muzero_jax.agents.base import Windows
from muzero_jax.agents.definition import NetworkWork
from muzero_jax.config import ConfigError, ExperimentConfig
from muzero_jax.core.stages import stage
from muzero_jax.core.types import Array, PRNGKey, PyTree
from muzero_jax.envs.base import random_action
from muzero_jax.envs.wrappers import AutoReset, Vectorised
from muzero_jax.profiling.loop_cost import network_work_of
from muzero_jax.profiling.timing import Compiled, timed_call, timed_compile, timed_in_turns
from muzero_jax.runs.build import Experiment, build
from muzero_jax.training.learn import make_loop_replay
from muzero_jax.training.train_state import TrainState


@dataclasses.dataclass(frozen=True)
class LoopParts:
    """Milliseconds of one chunk, medians of interleaved runs.

    Attributes:
      chunk: the whole.
      parts: the parts by name, which add up to the chunk but for noise. Always `environment`, the
        environment's steps with random actions. Of an agent that describes its network work:
        `search_network`, the network calls of acting; `search_tree`, the rest of acting, which is
        the search's trees, noise and bookkeeping, and storing; `sample`, drawing the batches;
        `forward_backward`, the networks of learning; `optimiser`, the updates; `rest_of_learning`,
        targets, losses and checks. Of any other agent: `acting` and `learning`.
      loop_efficiency: network work over the whole; None where it is not described.
      simulations: simulations of each search; 0 where there is none.
      flops: floating-point operations of the compiled chunk by its own analysis, which counts a
        loop's body once.
      bytes_accessed: bytes that the compiled chunk reads and writes, by the same analysis.
    """

    chunk: float
    parts: dict[str, float]
    loop_efficiency: float | None
    simulations: int
    flops: float
    bytes_accessed: float

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
                f"{self.simulations}": search * (1 - halves / self.simulations),
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


def measure_loop_parts(config: ExperimentConfig, num_repeats: int = 5) -> LoopParts:
    """Times a chunk of `config` and its parts.

    Args:
      config: the experiment.
      num_repeats: timed runs of each program.

    Raises:
      ConfigError: a setting does not suit the environment, or the agent learns without a replay, so
        that its acting cannot be timed by itself.
    """
    experiment = build(config)
    if not isinstance(experiment.agent.data, Windows):
        raise ConfigError(
            f"the agent {config.agent} learns from each rollout at once; only the chunk of an "
            "agent with a replay is taken apart."
        )
    stage("compiling the chunk, and filling the replay")
    state = jax.jit(experiment.train.init)(jax.random.key(config.seed))
    chunk: Any = timed_compile(experiment.train.train_chunk, state)[0]
    for _ in range(config.num_warm_up_chunks):
        (state, _), _ = timed_call(chunk, state)
    stage("compiling its parts")
    programs: dict[str, tuple[Compiled, tuple[Any, ...]]] = {
        "chunk": (chunk, (state,)),
        "acting": (chunk, (_before_learning(state),)),
    }
    network = network_work_of(experiment)
    for name, (part, *args) in _programs(experiment, network, state).items():
        programs[name] = timed_compile(part, *args)[0], tuple(args)
    stage("timing them in turns")
    times = timed_in_turns(programs, num_repeats)
    ms = {name: 1e3 * statistics.median(seconds) for name, seconds in times.items()}
    cost = chunk.cost_analysis() or {}
    efficiency = None if network is None else _network_share(ms)
    return LoopParts(
        chunk=ms["chunk"],
        parts=_without_networks(ms) if network is None else _with_networks(ms),
        loop_efficiency=efficiency,
        simulations=0 if network is None else network.num_simulations,
        flops=float(cost.get("flops", 0.0)),
        bytes_accessed=float(cost.get("bytes accessed", 0.0)),
    )


def _before_learning(state: TrainState) -> TrainState:
    """The same state with a replay so far from full that a whole chunk does not let it learn."""
    size = jnp.full_like(state.replay.size, jnp.iinfo(jnp.int32).min // 2)
    return state.replace(replay=state.replay.replace(size=size))


def _programs(
    experiment: Experiment, network: NetworkWork | None, state: TrainState
) -> dict[str, tuple[Any, ...]]:
    """The functions to time beside the chunk, by name, each with its arguments."""
    parts: dict[str, tuple[Any, ...]] = {
        "environment": (functools.partial(_environment, experiment), state),
    }
    if network is None:
        return parts
    rng_key = jax.random.key(0)
    return {
        **parts,
        "sample": (functools.partial(_sample, experiment), state),
        "optimiser": (network.optimiser, state.agent),
        "act_network": (network.acting, state.agent, rng_key),
        "learn_network": (network.learning, state.agent, rng_key),
    }


def _environment(experiment: Experiment, state: TrainState) -> PyTree:
    """The chunk's environment steps."""
    config = experiment.config.training
    env = Vectorised(AutoReset(experiment.env), config.num_envs)

    def step(carry: PyTree, rng_key: PRNGKey) -> tuple[PyTree, Array]:
        env_state, timestep = carry
        act_key, env_key = jax.random.split(rng_key)
        action = random_action(act_key, env.spec, timestep.legal_action_mask)
        env_state, timestep = env.step(env_key, env_state, action)
        return (env_state, timestep), env_state.outcome.reward.sum()

    length = config.iterations_per_chunk * config.rollout_length
    keys = jax.random.split(state.collector.rng_key, length)
    return jax.lax.scan(step, (state.collector.env_state, state.collector.timestep), keys)


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

    keys = jax.random.split(state.collector.rng_key, experiment.config.chunk_sizes().num_updates)
    return jax.lax.scan(draw, jnp.zeros(()), keys)


def _network_share(ms: dict[str, float]) -> float:
    return (ms["act_network"] + ms["learn_network"]) / ms["chunk"]


def _without_networks(ms: dict[str, float]) -> dict[str, float]:
    return {
        "environment": ms["environment"],
        "acting": max(0.0, ms["acting"] - ms["environment"]),
        "learning": max(0.0, ms["chunk"] - ms["acting"]),
    }


def _with_networks(ms: dict[str, float]) -> dict[str, float]:
    known = ms["sample"] + ms["learn_network"] + ms["optimiser"]
    return {
        "environment": ms["environment"],
        "search_network": ms["act_network"],
        "search_tree": max(0.0, ms["acting"] - ms["environment"] - ms["act_network"]),
        "sample": ms["sample"],
        "forward_backward": ms["learn_network"],
        "optimiser": ms["optimiser"],
        "rest_of_learning": max(0.0, ms["chunk"] - ms["acting"] - known),
    }
