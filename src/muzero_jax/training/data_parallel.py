"""A run that is spread over devices: its shards act and learn by themselves, but for the gradient.

One `shard_map` lies around the whole actor-learner loop. Left to partition it by itself, XLA would
put collectives into the search.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from muzero_jax.agents.base import Hyperparameters, Windows
from muzero_jax.config import ExperimentConfig
from muzero_jax.core.types import Metrics, PRNGKey, PyTree
from muzero_jax.envs.base import Environment
from muzero_jax.replay.buffer import ReplayState
from muzero_jax.training.loop import Train, make_agent, make_train
from muzero_jax.training.shards import Shards
from muzero_jax.training.train_state import TrainState

_DEVICE, _SHARD = "device", "shard"


@dataclasses.dataclass(frozen=True)
class Layout:
    """Which devices hold which shards: all as many, in order.

    Attributes:
      num_shards: a multiple of the number of devices.
      devices: the devices that the run is spread over.
    """

    num_shards: int
    devices: tuple[jax.Device, ...]

    @property
    def shards(self) -> Shards:
        """What one shard sees; shards of one device lie along an axis of their own."""
        axes = (_DEVICE,) * (len(self.devices) > 1) + (_SHARD,) * (self.per_device > 1)
        return Shards(self.num_shards, axes)

    @property
    def per_device(self) -> int:
        """Shards of each device."""
        return self.num_shards // len(self.devices)

    def place(self, shapes: TrainState) -> TrainState:
        """The shapes of a training state with the places where its arrays lie."""
        mesh = self.mesh()

        def place(spec: PartitionSpec, part: PyTree) -> PyTree:
            sharding = NamedSharding(mesh, spec)
            return jax.tree.map(
                lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), part
            )

        specs = _specs(has_replay=isinstance(shapes.replay, ReplayState))
        return _map_fields(place, specs, shapes)

    def mesh(self) -> Mesh:
        """The devices along one axis."""
        return Mesh(np.asarray(self.devices), (_DEVICE,))


def make_layout(num_shards: int, devices: Sequence[jax.Device]) -> Layout:
    """Spreads shards over as many of the devices as divide them evenly."""
    most = max(n for n in range(1, len(devices) + 1) if num_shards % n == 0)
    return Layout(num_shards, tuple(devices[:most]))


def make_parallel_train(
    env: Environment,
    config: ExperimentConfig,
    layout: Layout,
) -> Train:
    """The functions of a run of several shards, to be compiled like those of one.

    With the same number of shards they give the same results to rounding, however many devices
    there are: that number decides what each shard draws.

    Args:
      env: one environment, neither batched nor auto-resetting.
      config: sizes of the whole run.
      layout: where the shards lie.
    """
    shards, part = layout.shards, shard_config(config)
    agent = make_agent(part, env, shards.average)
    one, has_replay = make_train(env, agent, part, shards), isinstance(agent.data, Windows)
    return Train(
        init=_spread_init(one, layout, has_replay=has_replay),
        train_chunk=_spread_chunk(one, layout, has_replay=has_replay),
        learn_metric_names=one.learn_metric_names,
    )


def shard_config(config: ExperimentConfig) -> ExperimentConfig:
    """The sizes of one shard: its share of environments, replay, batch and steps.

    Args:
      config: sizes of the whole run.
    """
    num_shards, replay, training = config.training.num_shards, config.replay, config.training
    learner = config.learner
    if replay is not None:
        part = dataclasses.replace(
            replay,
            capacity=replay.capacity // num_shards,
            min_size=-(-replay.min_size // num_shards),
            batch_size=replay.batch_size // num_shards,
        )
        learner = dataclasses.replace(learner, replay=part)
    return dataclasses.replace(
        config,
        learner=learner,
        training=dataclasses.replace(
            training,
            num_shards=1,
            num_envs=training.num_envs // num_shards,
            num_env_steps=-(-training.num_env_steps // num_shards),
        ),
    )


def _spread_init(one: Train, layout: Layout, *, has_replay: bool) -> Callable[..., TrainState]:
    out_axes = _by_field(0, None, has_replay=has_replay)
    specs = _specs(has_replay=has_replay)

    def of_device(rng_key: PRNGKey, hyperparameters: Hyperparameters | None) -> TrainState:
        if layout.per_device == 1:
            return _map_fields(_add_axis, out_axes, one.init(rng_key, hyperparameters))
        spread = jax.vmap(one.init, None, out_axes, axis_name=_SHARD, axis_size=layout.per_device)
        state: TrainState = spread(rng_key, hyperparameters)
        return state

    spread_init = _over_devices(of_device, layout, (PartitionSpec(), PartitionSpec()), specs)

    def init(rng_key: PRNGKey, hyperparameters: Hyperparameters | None = None) -> TrainState:
        state: TrainState = spread_init(rng_key, hyperparameters)
        return state

    return init


def _spread_chunk(
    one: Train, layout: Layout, *, has_replay: bool
) -> Callable[[TrainState], tuple[TrainState, Metrics]]:
    axes = _by_field(0, None, has_replay=has_replay)
    specs = _specs(has_replay=has_replay)

    def of_device(state: TrainState) -> tuple[TrainState, Metrics]:
        if layout.per_device == 1:
            state, metrics = one.train_chunk(_map_fields(_drop_axis, axes, state))
            return _map_fields(_add_axis, axes, state), metrics
        spread = jax.vmap(
            one.train_chunk, (axes,), (axes, None), axis_name=_SHARD, axis_size=layout.per_device
        )
        output: tuple[TrainState, Metrics] = spread(state)
        return output

    return _over_devices(of_device, layout, (specs,), (specs, PartitionSpec()))


def _over_devices(
    function: Callable[..., Any], layout: Layout, in_specs: Any, out_specs: Any
) -> Callable[..., Any]:
    if len(layout.devices) == 1:
        return function
    # What the shards average is equal everywhere, which JAX cannot see through the search's loops.
    return jax.shard_map(
        function, mesh=layout.mesh(), in_specs=in_specs, out_specs=out_specs, check_vma=False
    )


def _specs(*, has_replay: bool) -> TrainState:
    return _by_field(PartitionSpec(_DEVICE), PartitionSpec(), has_replay=has_replay)


def _by_field(own: Any, shared: Any, *, has_replay: bool) -> TrainState:
    """A prefix of a training state: what each shard has for itself, and what all have in common."""
    ring = ReplayState(transitions=own, priorities=own, head=shared, size=shared)
    return TrainState(
        agent=shared,
        replay=ring if has_replay else (),
        first_failure=shared,
        collector=own,
        num_env_steps=shared,
    )


def _map_fields(
    function: Callable[[Any, PyTree], PyTree], prefix: TrainState, state: TrainState
) -> TrainState:
    """Calls `function` with each leaf of a prefix and the part of the state that it stands for."""

    def is_leaf(x: Any) -> bool:
        return x is None or isinstance(x, PartitionSpec)

    mapped: TrainState = jax.tree.map(function, prefix, state, is_leaf=is_leaf)
    return mapped


def _add_axis(axis: int | None, part: PyTree) -> PyTree:
    return part if axis is None else jax.tree.map(lambda x: jnp.expand_dims(x, axis), part)


def _drop_axis(axis: int | None, part: PyTree) -> PyTree:
    return part if axis is None else jax.tree.map(lambda x: jnp.squeeze(x, axis), part)
