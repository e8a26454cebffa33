"""One run on several hosts, each of which runs the same command; `jax.distributed` joins them.

Process 0, the main process, writes the run folder and evaluates; all processes compute.
"""

import os
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from muzero_jax.core.errors import ConfigError, reason_of
from muzero_jax.core.keys import from_numbers, is_key, number_zeros, to_numbers
from muzero_jax.core.types import PyTree
from muzero_jax.process.jax_process import find_devices

# The death of a host is noticed after this time; the other processes then end.
_HEARTBEAT_SECONDS = 20


def join_hosts() -> None:
    """Joins the processes that JAX detects (Slurm, TPU pods, Kubernetes) or that variables name.

    The variables are `JAX_COORDINATOR_ADDRESS`, `JAX_NUM_PROCESSES` and `JAX_PROCESS_ID`. Call this
    function before JAX is used.

    Raises:
      ConfigError: there is no such cluster, or it cannot be reached.
    """
    # Only CPUs need this; other platforms have collectives of their own.
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    try:
        jax.distributed.initialize(
            num_processes=_number("JAX_NUM_PROCESSES"),
            process_id=_number("JAX_PROCESS_ID"),
            heartbeat_timeout_seconds=_HEARTBEAT_SECONDS,
            shutdown_timeout_seconds=_HEARTBEAT_SECONDS,
        )
    except (ValueError, RuntimeError) as error:
        raise ConfigError(
            f"--distributed cannot join the other processes: {reason_of(error)}."
        ) from error


def has_several() -> bool:
    """Whether the run is spread over several processes."""
    return jax.distributed.is_initialized() and jax.process_count() > 1


def count_devices() -> int:
    """The number of devices of all processes together.

    Raises:
      ConfigError: there is no device of the kind that `JAX_PLATFORMS` names.
    """
    find_devices()
    return jax.device_count()


def is_main() -> bool:
    """Whether this process writes and evaluates."""
    return not has_several() or jax.process_index() == 0


def agree(number: int | None) -> int | None:
    """The largest number that a process gives, in all processes; None if none gives a number."""
    if not has_several():
        return number
    # JAX sends 32 bits at a time, and a run may have more steps than 32 bits can count.
    high, low = divmod(number or 0, 2**32)
    words = np.array([number is not None, high, low], np.uint32)
    rows = np.reshape(multihost_utils.process_allgather(words), (-1, 3)).tolist()
    given = [(high << 32) + low for is_given, high, low in rows if is_given]
    return max(given, default=None)


def collect(tree: PyTree) -> PyTree:
    """The whole arrays of a tree that is spread over processes; in one process the tree itself."""
    return jax.tree.map(_collect, tree) if has_several() else tree


def share(tree: PyTree | None, shapes: PyTree) -> PyTree:
    """Sends the main process's arrays to all processes; `tree` is None in the other processes."""
    if not has_several():
        return tree
    source = jax.tree.map(number_zeros, shapes) if tree is None else jax.tree.map(to_numbers, tree)
    shared = multihost_utils.broadcast_one_to_all(source)
    return jax.tree.map(from_numbers, shared, shapes)


def distribute(tree: PyTree, shapes: PyTree) -> PyTree:
    """Spreads whole arrays, which every process has, by the shardings of `shapes`."""
    return jax.tree.map(_distribute, tree, shapes)


def _number(name: str) -> int | None:
    text = os.environ.get(name, "")
    if text and not text.isdecimal():
        raise ConfigError(f"{name} must be an integer, found {text!r}.")
    return int(text) if text else None


def _collect(x: jax.Array) -> Any:
    if is_key(x):
        return jax.random.wrap_key_data(_collect(jax.jit(jax.random.key_data)(x)))
    return multihost_utils.process_allgather(x, tiled=True)


def _distribute(x: jax.Array, shape: jax.ShapeDtypeStruct) -> jax.Array:
    whole, places = to_numbers(x), shape.sharding
    spread = jax.make_array_from_callback(whole.shape, places, lambda index: whole[index])
    return jax.jit(jax.random.wrap_key_data, out_shardings=places)(spread) if is_key(x) else spread
