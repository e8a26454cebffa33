"""Ray, connected to a cluster; Ray is imported when it is asked for only."""

import socket
from typing import Any

from muzero_jax.config import ConfigError
from muzero_jax.reports.extras import import_extra


def connect(address: str) -> Any:
    """Ray, connected to a cluster.

    Raises:
      ConfigError: Ray is not installed, or nobody answers.
    """
    try:
        ray = import_extra("ray", purpose="Sweeps over a cluster", package="Ray", extra="ray")
    except ImportError as error:
        raise ConfigError(str(error)) from error
    try:
        _knock(address)
        ray.init(address=address, log_to_driver=False, configure_logging=False)
    except Exception as error:  # ConnectionError, ValueError, RuntimeError, by the kind of address.
        reason = " ".join(str(error).split())[:200]
        raise ConfigError(f"no Ray cluster answers at {address!r}: {reason}") from error
    return ray


def _knock(address: str) -> None:
    """Raises `OSError` at once where nobody listens; Ray itself waits for minutes."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if colon and port.isdecimal():
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()
