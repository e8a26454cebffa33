"""Checks JAX's environment variables, makes JAX ready for a command, and chooses its devices.

This module imports JAX only inside its functions, because JAX reads some variables while it is
imported, and raises an exception for bad ones.
"""

import contextlib
import logging
import os
import subprocess
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from muzero_jax.core.errors import ConfigError, reason_of

if TYPE_CHECKING:
    import jax

# More devices than cores let a user try out what a larger machine would do.
_MOST_DEVICES_PER_CORE = 4
# JAX's options under which this program cannot work: the values that it refuses, and the reason.
_REFUSED: Mapping[str, tuple[tuple[Any, ...], str]] = {
    "jax_disable_jit": ((True,), "the training loop and the search are compiled as a whole"),
    "jax_check_tracer_leaks": ((True,), "its libraries do not pass that check"),
    "jax_debug_nans": ((True,), "a metric of which nothing was counted is NaN"),
    "jax_debug_infs": ((True,), "-inf marks actions that may not be taken"),
    "jax_numpy_dtype_promotion": (("strict",), "its code and its libraries mix dtypes"),
    **{
        f"jax_transfer_guard{direction}": (
            ("disallow", "disallow_explicit"),
            "settings, keys and metrics pass between host and device",
        )
        for direction in ("", "_host_to_device", "_device_to_device", "_device_to_host")
    },
}


def prepare_jax(*, chooses_devices: bool = False) -> None:
    """Makes JAX ready for a command that computes; call it before any other module imports JAX.

    From here on compiled programs are kept between processes. Numbers have 32 bits whatever
    `JAX_ENABLE_X64` says. JAX does not look for its devices yet if the caller `chooses_devices`.

    Raises:
      ConfigError: an environment variable of JAX or XLA has a value under which nothing works, or
        there is no device of the kind that `JAX_PLATFORMS` names.
    """
    check_xla_flags()
    require_jax()
    import jax

    check_options(jax.config.values)
    if jax.config.values["jax_enable_x64"]:
        print("notice: JAX_ENABLE_X64 has no effect: numbers have 32 bits here.", file=sys.stderr)
        jax.config.update("jax_enable_x64", False)
    # JAX logs a whole traceback for an error of a callback; the command says it in one sentence.
    logging.getLogger("jax._src.callback").setLevel(logging.CRITICAL + 1)
    from muzero_jax.process.compilation_cache import enable_compilation_cache

    enable_compilation_cache()
    if not chooses_devices:
        find_devices()


def require_jax() -> None:
    """Imports JAX, which reads its environment variables then.

    Raises:
      ConfigError: a variable has a value that JAX does not know.
    """
    try:
        import jax  # noqa: F401
    except ValueError as error:
        raise ConfigError(
            f"JAX cannot start with its environment variables as they are: {reason_of(error)} "
            f"({_variables('JAX_')})."
        ) from error


def check_options(values: Mapping[str, Any]) -> None:
    """Refuses values of JAX's options, by JAX's names, under which this program cannot work.

    Raises:
      ConfigError: an option has such a value; the message names its variable and the reason.
    """
    for option, (refused, reason) in _REFUSED.items():
        if (value := values.get(option)) in refused:
            raise ConfigError(
                f"this program cannot work with {option.upper()}={value}, since {reason}; unset it."
            )


def find_devices() -> "list[jax.Device]":
    """JAX's devices of this process; this call fixes their number.

    Raises:
      ConfigError: there is no device of the kind that `JAX_PLATFORMS` names.
    """
    import jax

    try:
        return jax.local_devices()
    except (RuntimeError, AssertionError) as error:
        asked = _variables("JAX_PLATFORM") or "no JAX_PLATFORMS set"
        told = f": {reason_of(error)}" if str(error) else ""
        raise ConfigError(
            f"JAX finds no device with {asked}{told}; unset JAX_PLATFORMS to use what there is, or "
            "set it to cpu."
        ) from error


def prepare_devices(num_devices: int = 0) -> "list[jax.Device]":
    """The first `num_devices` devices, or all where 0; on a CPU each usable core becomes a device.

    Two programs of one run's size keep two cores busier than one program does. The number of
    devices is fixed once JAX has been used.

    Raises:
      ConfigError: there are fewer devices, or none of the kind that `JAX_PLATFORMS` names.
    """
    import jax

    num_cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
    most = _MOST_DEVICES_PER_CORE * num_cores
    with contextlib.suppress(RuntimeError):  # JAX has been used already.
        jax.config.update("jax_num_cpu_devices", min(num_devices or num_cores, most))
    devices = find_devices()
    if num_devices > len(devices):
        told = f" (of {num_cores} cores at most {most} are made)" if num_devices > most else ""
        raise ConfigError(
            f"{num_devices} devices are asked for, but JAX finds {len(devices)} here{told}."
        )
    return devices[: num_devices or len(devices)]


def check_xla_flags() -> None:
    """Lets another process read `XLA_FLAGS`, because XLA aborts a process that reads a bad flag.

    Raises:
      ConfigError: the other process was aborted; the message holds XLA's reason.
    """
    if not os.environ.get("XLA_FLAGS"):
        return
    # The other process needs no accelerator, and gets none of JAX's own variables.
    others = {name: x for name, x in os.environ.items() if not name.startswith("JAX_")}
    # -P keeps the working folder off Python's path, where a stranger's jax.py could lie.
    command = [sys.executable, "-P", "-c", "import jax; jax.devices()"]
    environment = {**others, "JAX_PLATFORMS": "cpu"}
    child = subprocess.run(
        command, env=environment, capture_output=True, encoding="utf-8", errors="replace"
    )
    if child.returncode:
        lines = [line for line in child.stderr.splitlines() if line.strip()] or ["it was aborted"]
        reason = next((line for line in lines if "XLA_FLAGS" in line or "flag" in line), lines[-1])
        raise ConfigError(
            f"XLA cannot start with XLA_FLAGS={os.environ['XLA_FLAGS']}: "
            f"{(reason.partition('] ')[2] or reason).strip(' .')[:200]}."
        )


def _variables(prefix: str) -> str:
    """The environment variables that begin with `prefix`, with their values."""
    found = {name: value for name, value in os.environ.items() if name.startswith(prefix)}
    return ", ".join(f"{name}={value}" for name, value in sorted(found.items()))
