"""One training chunk taken apart: acting, replay and learning, and what would make it faster.

By ablation, because XLA fuses across parts and counts loops once: the chunk as it is, the same
chunk before the replay can be sampled from (which acts and stores only), and loops of nothing but
one part, timed in turns. What is left over is what no part could be timed for by itself.
"""

import dataclasses
import statistics
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from muzero_jax.agents.optimizer import apply_gradient
from muzero_jax.agents.planning import make_muzero_model
from muzero_jax.config import ExperimentConfig
from muzero_jax.core.stages import stage
from muzero_jax.core.types import Array, PRNGKey, PyTree
from muzero_jax.envs.base import random_legal_action
from muzero_jax.envs.wrappers import AutoReset, Vectorised
from muzero_jax.profiling.loop_cost import NetworkWork, require_networks
from muzero_jax.profiling.timing import Compiled, timed_call, timed_compile, timed_in_turns
from muzero_jax.runs.build import Experiment, build
from muzero_jax.training.loop import make_loop_replay
from muzero_jax.training.train_state import TrainState


@dataclasses.dataclass(frozen=True)
class LoopParts:
    """Milliseconds of one chunk, medians of interleaved runs.

    Attributes:
      chunk: the whole.
      environment: its environment steps, with random actions.
      search_network: the network calls of acting.
      search_tree: the rest of acting: the search's trees, noise and bookkeeping, storing.
      sample: drawing the batches.
      forward_backward: the networks of learning, forward and backward.
      optimiser: the updates.
      rest_of_learning: targets, losses, checks.
      loop_efficiency: network work over the whole.
      simulations: of each search.
      flops: of the compiled chunk by its own analysis, which counts a loop's body once.
      bytes_accessed: likewise.
    """

    chunk: float
    environment: float
    search_network: float
    search_tree: float
    sample: float
    forward_backward: float
    optimiser: float
    rest_of_learning: float
    loop_efficiency: float
    simulations: int
    flops: float
    bytes_accessed: float

    @property
    def parts(self) -> dict[str, float]:
        """Milliseconds of each part, which add up to the chunk but for noise."""
        names = ("environment", "search_network", "search_tree", "sample")
        more = ("forward_backward", "optimiser", "rest_of_learning")
        return {name: getattr(self, name) for name in (*names, *more)}

    def advice(self) -> list[str]:
        """One line for each thing that would make the chunk at least a tenth faster."""
        search = self.search_network + self.search_tree
        halves = max(1, self.simulations // 2)
        saved = {
            f"search takes {search / self.chunk:.0%} of the chunk; {halves} simulations instead of "
            f"{self.simulations}": search * (1 - halves / self.simulations),
            f"learning's networks take {self.forward_backward / self.chunk:.0%}; half the "
            "replay.ratio": (self.chunk - self.environment - search) / 2,
            f"the environment takes {self.environment / self.chunk:.0%}; one that costs "
            "nothing": self.environment,
            f"the search's trees take {self.search_tree / self.chunk:.0%}; trees that cost "
            "nothing": self.search_tree,
        }
        gains = {what: self.chunk / (self.chunk - less) for what, less in saved.items()}
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
    """
    require_networks(config)
    experiment = build(config)
    stage("compiling the chunk, and filling the replay")
    state = jax.jit(experiment.train.init)(jax.random.key(config.seed))
    chunk, _ = timed_compile(experiment.train.train_chunk, state)
    for _ in range(config.num_warm_up_chunks):
        (state, _), _ = timed_call(chunk, state)
    stage("compiling its parts")
    programs: dict[str, tuple[Compiled, tuple[Any, ...]]] = {
        name: (part, (state,)) for name, part in _programs(experiment, state).items()
    }
    programs["chunk"] = chunk, (state,)
    programs["acting"] = chunk, (_before_learning(state),)
    network = NetworkWork(
        config, experiment.env.spec, make_muzero_model(config, experiment.env.spec)
    )
    for name, part in (("act_network", network.acting), ("learn_network", network.learning)):
        args = state.agent.params, jax.random.key(0)
        programs[name] = timed_compile(part, *args)[0], args
    stage("timing them in turns")
    times = timed_in_turns(programs, num_repeats)
    return _parts(config, {name: 1e3 * statistics.median(t) for name, t in times.items()}, chunk)


def _before_learning(state: TrainState) -> TrainState:
    """The same state with a replay so far from full that a whole chunk does not let it learn."""
    size = jnp.full_like(state.replay.size, jnp.iinfo(jnp.int32).min // 2)
    return state.replace(replay=state.replay.replace(size=size))


def _programs(experiment: Experiment, state: TrainState) -> dict[str, Compiled]:
    parts: dict[str, Callable[[TrainState], Any]] = {
        "environment": lambda s: _environment(experiment, s),
        "sample": lambda s: _sample(experiment, s),
        "optimiser": lambda s: _optimise(experiment, s),
    }
    return {name: timed_compile(part, state)[0] for name, part in parts.items()}


def _environment(experiment: Experiment, state: TrainState) -> PyTree:
    """The chunk's environment steps."""
    config = experiment.config.training
    env = Vectorised(AutoReset(experiment.env), config.num_envs)

    def step(carry: PyTree, rng_key: PRNGKey) -> tuple[PyTree, Array]:
        env_state, timestep = carry
        act_key, env_key = jax.random.split(rng_key)
        action = random_legal_action(act_key, timestep.legal_action_mask).astype(jnp.int32)
        env_state, timestep = env.step(env_key, env_state, action)
        return (env_state, timestep), env_state.outcome.reward.sum()

    length = config.iterations_per_chunk * config.rollout_length
    keys = jax.random.split(state.rng_key, length)
    return jax.lax.scan(step, (state.env_state, state.timestep), keys)


def _sample(experiment: Experiment, state: TrainState) -> PyTree:
    """The chunk's batches, reduced to a number that needs all of each."""
    replay = make_loop_replay(experiment.agent, experiment.config)
    settings = state.agent.hyperparameters
    alpha = settings["replay.priority_exponent"]
    beta = settings["replay.importance_exponent"]

    def draw(total: Array, rng_key: PRNGKey) -> tuple[Array, None]:
        batch = replay.sample(state.replay, rng_key, alpha, beta)
        return total + sum(x.sum().astype(jnp.float32) for x in jax.tree.leaves(batch)), None

    keys = jax.random.split(state.rng_key, _num_updates(experiment.config))
    return jax.lax.scan(draw, jnp.zeros(()), keys)


def _optimise(experiment: Experiment, state: TrainState) -> PyTree:
    """The chunk's optimiser steps, each along the parameters themselves."""
    agent = state.agent

    def step(carry: PyTree, _: None) -> tuple[PyTree, Array]:
        params, optimizer = carry
        params, optimizer, norm = apply_gradient(
            params, params, optimizer, agent.hyperparameters, jnp.float32(1.0)
        )
        return (params, optimizer), norm

    length = _num_updates(experiment.config)
    return jax.lax.scan(step, (agent.params, agent.optimizer), None, length=length)


def _num_updates(config: ExperimentConfig) -> int:
    return config.training.iterations_per_chunk * config.num_updates_per_iteration


def _parts(config: ExperimentConfig, ms: dict[str, float], chunk: Any) -> LoopParts:
    learning = ms["chunk"] - ms["acting"]
    known = ms["sample"] + ms["learn_network"] + ms["optimiser"]
    cost = chunk.cost_analysis() or {}
    return LoopParts(
        chunk=ms["chunk"],
        environment=ms["environment"],
        search_network=ms["act_network"],
        search_tree=max(0.0, ms["acting"] - ms["environment"] - ms["act_network"]),
        sample=ms["sample"],
        forward_backward=ms["learn_network"],
        optimiser=ms["optimiser"],
        rest_of_learning=max(0.0, learning - known),
        loop_efficiency=(ms["act_network"] + ms["learn_network"]) / ms["chunk"],
        simulations=config.search.num_simulations,
        flops=float(cost.get("flops", 0.0)),
        bytes_accessed=float(cost.get("bytes accessed", 0.0)),
    )
