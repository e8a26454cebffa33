"""The devices of this machine that work on something."""

import contextlib
import os

import jax

from muzero_jax.core.errors import ConfigError
from muzero_jax.process.jax_process import find_devices

# More devices than cores are for trying out what a larger machine would do.
_MOST_PER_CORE = 4


def prepare_devices(num_devices: int = 0) -> list[jax.Device]:
    """Devices to work with; on a CPU every core that the process may use is made one of its own.

    Two programs of one run's size keep two cores busier than one program does. Once JAX has been
    used the number of its devices is fixed.

    Args:
      num_devices: how many; all where 0.

    Raises:
      ConfigError: there are not so many, or none of the kind that `JAX_PLATFORMS` names.
    """
    num_cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
    most = _MOST_PER_CORE * num_cores
    with contextlib.suppress(RuntimeError):  # Too late to change that.
        jax.config.update("jax_num_cpu_devices", min(num_devices or num_cores, most))
    devices = find_devices()
    if num_devices > len(devices):
        told = f" (of {num_cores} cores at most {most} are made)" if num_devices > most else ""
        raise ConfigError(
            f"{num_devices} devices are asked for, but JAX finds {len(devices)} here{told}."
        )
    return devices[: num_devices or len(devices)]
