"""The operating systems that the program runs on."""

import importlib.util

from muzero_jax.config import ConfigError


def require_supported_system() -> None:
    """Makes sure that the system can lock files as the program needs it; Windows cannot.

    Raises:
      ConfigError: the system is not supported.
    """
    if importlib.util.find_spec("fcntl") is None:
        raise ConfigError(
            "muzero_jax runs on Linux and macOS, and this system is neither; on Windows, use it in "
            "the Windows Subsystem for Linux."
        )
