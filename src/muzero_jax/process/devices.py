"""Chooses the devices of this machine that a run or a sweep works on."""

import contextlib
import os

import jax

from muzero_jax.config import ConfigError
from muzero_jax.process.jax_process import find_devices

# More devices than cores let a user try out what a larger machine would do.
_MOST_PER_CORE = 4


def prepare_devices(num_devices: int = 0) -> list[jax.Device]:
    """The first `num_devices` devices, or all where 0; on a CPU each usable core becomes a device.

    Two programs of one run's size keep two cores busier than one program does. The number of
    devices is fixed once JAX has been used.

    Raises:
      ConfigError: there are fewer devices, or none of the kind that `JAX_PLATFORMS` names.
    """
    num_cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
    most = _MOST_PER_CORE * num_cores
    with contextlib.suppress(RuntimeError):  # JAX has been used already.
        jax.config.update("jax_num_cpu_devices", min(num_devices or num_cores, most))
    devices = find_devices()
    if num_devices > len(devices):
        told = f" (of {num_cores} cores at most {most} are made)" if num_devices > most else ""
        raise ConfigError(
            f"{num_devices} devices are asked for, but JAX finds {len(devices)} here{told}."
        )
    return devices[: num_devices or len(devices)]
