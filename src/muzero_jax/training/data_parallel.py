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
from muzero_jax.core.types import PRNGKey, PyTree
from muzero_jax.envs.base import Environment
from muzero_jax.replay.buffer import ReplayState
from muzero_jax.settings import apply_settings
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

    @property
    def mesh(self) -> Mesh:
        """The devices along one axis."""
        return Mesh(np.asarray(self.devices), (_DEVICE,))

    def place(self, shapes: TrainState) -> TrainState:
        """The shapes of a training state with the places where its arrays lie."""

        def place(spec: PartitionSpec, x: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
            return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=NamedSharding(self.mesh, spec))

        axes = _state_axes(has_replay=isinstance(shapes.replay, ReplayState))
        return _map_arrays(place, _specs(axes), shapes)


def make_layout(num_shards: int, devices: Sequence[jax.Device]) -> Layout:
    """Spreads shards over as many of the devices as divide them evenly."""
    most = max(n for n in range(1, len(devices) + 1) if num_shards % n == 0)
    return Layout(num_shards, tuple(devices[:most]))


def make_parallel_train(env: Environment, config: ExperimentConfig, layout: Layout) -> Train:
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
    one = make_train(env, agent, part, shards)
    axes = _state_axes(has_replay=isinstance(agent.data, Windows))
    spread_init = _spread(one.init, layout, (None, None), axes)

    def init(rng_key: PRNGKey, hyperparameters: Hyperparameters | None = None) -> TrainState:
        state: TrainState = spread_init(rng_key, hyperparameters)
        return state

    chunk = _spread(one.train_chunk, layout, (axes,), (axes, None))
    return Train(init, chunk, one.learn_metric_names)


def shard_config(config: ExperimentConfig) -> ExperimentConfig:
    """The sizes of one shard: its share of the environments, replay, batch and steps of a run."""
    num_shards, replay, training = config.training.num_shards, config.replay, config.training
    changes = {
        "training.num_shards": 1,
        "training.num_envs": training.num_envs // num_shards,
        "training.num_env_steps": -(-training.num_env_steps // num_shards),
    }
    if replay is not None:
        changes |= {
            "replay.capacity": replay.capacity // num_shards,
            "replay.min_size": -(-replay.min_size // num_shards),
            "replay.batch_size": replay.batch_size // num_shards,
        }
    return apply_settings(config, changes)


def _state_axes(*, has_replay: bool) -> TrainState:
    """A prefix of a training state: 0 where each shard has its own, None for what all share."""
    own: Any = 0
    shared: Any = None
    ring = ReplayState(transitions=own, priorities=own, head=shared, size=shared)
    return TrainState(
        agent=shared,
        replay=ring if has_replay else (),
        first_failure=shared,
        collector=own,
        num_env_steps=shared,
    )


def _spread(
    function: Callable[..., Any], layout: Layout, in_axes: PyTree, out_axes: PyTree
) -> Callable[..., Any]:
    """What all shards do, from what one does; the axes are prefixes of arguments and results."""

    def on_device(*args: PyTree) -> PyTree:
        if layout.per_device > 1:
            size = layout.per_device
            return jax.vmap(function, in_axes, out_axes, axis_name=_SHARD, axis_size=size)(*args)
        args = _map_arrays(lambda axis, x: x if axis is None else x.squeeze(axis), in_axes, args)
        return _map_arrays(
            lambda axis, x: x if axis is None else jnp.expand_dims(x, axis),
            out_axes,
            function(*args),
        )

    if len(layout.devices) == 1:
        return on_device
    # What the shards average is equal everywhere, which JAX cannot see through the search's loops.
    return jax.shard_map(
        on_device,
        mesh=layout.mesh,
        in_specs=_specs(in_axes),
        out_specs=_specs(out_axes),
        check_vma=False,
    )


def _specs(axes: PyTree) -> PyTree:
    """Where arrays lie on the devices: divided where the axis is 0, and whole where it is None."""
    return jax.tree.map(
        lambda axis: PartitionSpec() if axis is None else PartitionSpec(_DEVICE),
        axes,
        is_leaf=lambda x: x is None,
    )


def _map_arrays(function: Callable[[Any, Any], Any], prefix: PyTree, tree: PyTree) -> PyTree:
    """Calls `function` with each array of a tree and the leaf of the prefix that it lies under."""
    return jax.tree.map(
        lambda leaf, part: jax.tree.map(lambda x: function(leaf, x), part),
        prefix,
        tree,
        is_leaf=lambda x: x is None,
    )
