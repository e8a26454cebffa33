"""Errors in making an environment by name; the message of each is one sentence."""

import contextlib
from collections.abc import Iterator

from muzero_jax.core.errors import ConfigError


class EnvironmentCreationError(ConfigError):
    """The environment exists but cannot be made: a suite, an option or a member is missing."""


class UnknownEnvironmentError(EnvironmentCreationError):
    """No built-in environment, suite or module has the name."""


class ConformanceError(EnvironmentCreationError):
    """The environment can be made but breaks a rule of the protocol."""


@contextlib.contextmanager
def creating(name: str) -> Iterator[None]:
    """Turns any error inside the block into a sentence that begins with the environment's name.

    The factories of suites check few of their options; a wrong one fails where it is first used.

    Raises:
      EnvironmentCreationError: something was raised inside the block.
    """
    try:
        yield
    except Exception as error:
        if isinstance(error, EnvironmentCreationError) and str(error).startswith(name):
            raise
        reason = next(iter(str(error).splitlines()), "") or type(error).__name__
        raise EnvironmentCreationError(f"{name} cannot be made: {reason.rstrip('.')}.") from error
