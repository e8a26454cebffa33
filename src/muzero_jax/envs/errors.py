"""What can go wrong when an environment is asked for by name, each as one clear sentence."""

import contextlib
from collections.abc import Iterator

from muzero_jax.core.errors import ConfigError


class EnvironmentCreationError(ConfigError):
    """The environment exists, but cannot be made: a suite, an option or a member is missing."""


class UnknownEnvironmentError(EnvironmentCreationError):
    """No built-in environment, suite or module answers to the name."""


class ConformanceError(EnvironmentCreationError):
    """The environment can be made, but it breaks a rule of the protocol."""


@contextlib.contextmanager
def creating(name: str) -> Iterator[None]:
    """Puts an environment's name before whatever prevents it from being made.

    The factories of suites check few of their options, so a wrong one fails wherever it first does
    not work.

    Args:
      name: the environment's name, for the message.

    Raises:
      EnvironmentCreationError: anything was raised inside the block.
    """
    try:
        yield
    except Exception as error:
        if isinstance(error, EnvironmentCreationError) and str(error).startswith(name):
            raise
        reason = next(iter(str(error).splitlines()), "") or type(error).__name__
        raise EnvironmentCreationError(f"{name} cannot be made: {reason.rstrip('.')}.") from error
