"""What one training chunk costs, beside the bare network work that it cannot avoid.

XLA's cost analysis counts the body of a loop once, so nothing here is read off a program: the
chunk and a loop of nothing but the same network passes are compiled and timed in turns.
"""

import dataclasses
import math
import resource
import statistics

import jax
import jax.numpy as jnp

from muzero_jax.agents.planning import make_muzero_model
from muzero_jax.agents.targets import bootstrap_rows, make_window_spec
from muzero_jax.config import ConfigError, ExperimentConfig
from muzero_jax.core.types import Array, Params, PRNGKey
from muzero_jax.envs.base import EnvironmentSpec
from muzero_jax.networks.model import MuZeroModel, NetworkOutput
from muzero_jax.profiling.timing import timed_call, timed_compile
from muzero_jax.runs.build import build


@dataclasses.dataclass(frozen=True)
class LoopCost:
    """Rates of one experiment's chunk on one device, median over repetitions.

    Attributes:
      env_steps_per_second: environment steps, learning included.
      updates_per_second: optimiser steps, acting included.
      simulations_per_second: simulations of the acting search and of Reanalyse.
      loop_efficiency: seconds of the bare network work over seconds of the chunk.
      chunk_seconds: of one chunk.
      network_seconds: of the chunk's network passes alone.
      compile_seconds: to trace and compile the chunk.
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
      ConfigError: the experiment has no networks, or a setting does not suit the environment.
    """
    require_networks(config)
    experiment = build(config)
    train, spec = experiment.train, experiment.env.spec
    state = jax.jit(train.init)(jax.random.key(config.seed))
    chunk, compile_seconds = timed_compile(train.train_chunk, state, donate=True)
    params = jax.tree.map(jnp.copy, state.agent.params)
    network_work = NetworkWork(config, spec, make_muzero_model(config, spec))
    work, _ = timed_compile(network_work.chunk, params, jax.random.key(0))
    for _ in range(config.num_warm_up_chunks):
        (state, _), _ = timed_call(chunk, state)
    chunk_times, work_times = [], []
    for repeat in range(num_repeats):
        (state, _), seconds = timed_call(chunk, state)
        chunk_times.append(seconds)
        _, seconds = timed_call(work, params, jax.random.key(repeat))
        work_times.append(seconds)
    chunk_seconds, network_seconds = map(statistics.median, (chunk_times, work_times))
    counts = _counts_per_chunk(config, spec)
    return LoopCost(
        env_steps_per_second=config.env_steps_per_chunk / chunk_seconds,
        updates_per_second=counts["updates"] / chunk_seconds,
        simulations_per_second=counts["simulations"] / chunk_seconds,
        loop_efficiency=network_seconds / chunk_seconds,
        chunk_seconds=chunk_seconds,
        network_seconds=network_seconds,
        compile_seconds=compile_seconds,
        peak_memory_bytes=_peak_memory_bytes(),
        device=jax.devices()[0].device_kind,
    )


def _counts_per_chunk(config: ExperimentConfig, spec: EnvironmentSpec) -> dict[str, int]:
    updates = config.training.iterations_per_chunk * config.num_updates_per_iteration
    searches = config.env_steps_per_chunk + updates * _reanalysed_states(config, spec.can_truncate)
    return {"updates": updates, "simulations": searches * config.search.num_simulations}


def _reanalysed_states(config: ExperimentConfig, can_truncate: bool) -> int:
    """States searched afresh in one update."""
    windows = math.ceil(config.target.reanalyse_fraction * config.replay.batch_size)
    window = make_window_spec(config.target, all_unrolled=config.loss.consistency_weight > 0)
    return windows * (len(window.observation_offsets) + can_truncate)


def require_networks(config: ExperimentConfig) -> None:
    """Refuses learners of tables, whose time is not that of networks.

    Raises:
      ConfigError: the experiment learns tables.
    """
    if config.learns_tables:
        raise ConfigError(
            f"{config.name} learns tables; only the time of a loop with networks is taken apart."
        )


class NetworkWork:
    """The network passes of one chunk, of the same number and sizes, and nothing else.

    Acting: for each step a root inference and one recurrent inference a simulation. Learning: for
    each update the value of the bootstrapped observations (those of final observations, which are
    computed only where a batch holds one, are not counted), and the unrolled model forward and
    backward; with Reanalyse the inferences of its searches, with the consistency loss its heads.
    """

    def __init__(self, config: ExperimentConfig, spec: EnvironmentSpec, model: MuZeroModel):
        self.config, self.spec, self.model = config, spec, model
        self.num_reanalysed = _reanalysed_states(config, spec.can_truncate)
        self.num_bootstraps = 0
        if config.target.bootstrap != "search":
            self.num_bootstraps = config.replay.batch_size * len(bootstrap_rows(config.target))

    def chunk(self, params: Params, rng_key: PRNGKey) -> Array:
        """All of it, reduced to a number that depends on every pass."""
        keys = jax.random.split(rng_key, self.config.training.iterations_per_chunk)
        params, acted = jax.lax.scan(self._iteration, params, keys)
        return acted.sum() + sum(x.sum() for x in jax.tree.leaves(params))

    def acting(self, params: Params, rng_key: PRNGKey) -> Array:
        """The part of a chunk's acting."""
        keys = jax.random.split(rng_key, self.config.training.iterations_per_chunk)
        return jax.lax.map(lambda key: self._act(params, key), keys).sum()

    def learning(self, params: Params, rng_key: PRNGKey) -> Params:
        """The part of a chunk's learning."""
        num_iterations = self.config.training.iterations_per_chunk
        keys = jax.random.split(rng_key, num_iterations * self.config.num_updates_per_iteration)
        return jax.lax.scan(self._learn, params, keys)[0]

    def _iteration(self, params: Params, rng_key: PRNGKey) -> tuple[Params, Array]:
        acted = self._act(params, rng_key)
        keys = jax.random.split(rng_key, self.config.num_updates_per_iteration)
        params, _ = jax.lax.scan(self._learn, params, keys)
        return params, acted

    def _act(self, params: Params, rng_key: PRNGKey) -> Array:
        training = self.config.training

        def act(_: None, rng_key: PRNGKey) -> tuple[None, Array]:
            return None, self._search(params, rng_key, training.num_envs)

        _, acted = jax.lax.scan(act, None, jax.random.split(rng_key, training.rollout_length))
        return acted.sum()

    def _search(self, params: Params, rng_key: PRNGKey, size: int) -> Array:
        root = self.model.initial_inference(params, self._observe(rng_key, size))

        def simulate(output: NetworkOutput, _: None) -> tuple[NetworkOutput, None]:
            action = jnp.argmax(output.prior_logits, axis=-1)
            output = self.model.recurrent_inference(params, output.embedding, action)
            # The scalars are read by every simulation; adding them keeps them from being removed.
            scalars = output.value + output.reward
            return output.replace(prior_logits=output.prior_logits + scalars[:, None]), None

        length = self.config.search.num_simulations
        output, _ = jax.lax.scan(simulate, root, None, length=length)
        return output.prior_logits.sum()

    def _learn(self, params: Params, rng_key: PRNGKey) -> tuple[Params, None]:
        fresh = jnp.zeros(())
        if self.num_bootstraps:
            observation = self._observe(rng_key, self.num_bootstraps)
            fresh += self.model.initial_inference(params, observation).value.sum()
        if self.num_reanalysed:
            fresh += self._search(params, rng_key, self.num_reanalysed)
        batch_size = self.config.replay.batch_size
        actions = jnp.zeros((self.config.target.num_unroll_steps, batch_size), jnp.int32)

        def loss(params: Params) -> Array:
            output = self.model.unroll(params, self._observe(rng_key, batch_size), actions)
            logits = (output.prior_logits, output.value_logits, output.reward_logits)
            total = sum((jax.nn.log_softmax(x)[..., 0].sum() for x in logits), fresh)
            return total + self._consistency(params, output.embedding[1:], rng_key)

        value, gradient = jax.value_and_grad(loss)(params)
        return jax.tree.map(lambda p, g: p - 1e-12 * (g + value * 0.0), params, gradient), None

    def _consistency(self, params: Params, embedding: Array, rng_key: PRNGKey) -> Array:
        if not self.config.loss.consistency_weight:
            return jnp.zeros(())
        assert self.model.project is not None and self.model.predict_projection is not None
        flat = embedding.reshape((-1, *embedding.shape[2:]))
        encoded = self.model.represent(params, self._observe(rng_key, len(flat)))
        target = jax.lax.stop_gradient(self.model.project(params, encoded))
        prediction = self.model.predict_projection(params, self.model.project(params, flat))
        return (prediction * target).sum()

    def _observe(self, rng_key: PRNGKey, size: int) -> Array:
        # One random number, so that no pass is moved out of its loop, and hardly any other work.
        return jnp.full((size, *self.spec.observation_shape), jax.random.uniform(rng_key))


def _peak_memory_bytes() -> int:
    stats = jax.devices()[0].memory_stats() or {}
    on_device = stats.get("peak_bytes_in_use")
    return on_device or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
