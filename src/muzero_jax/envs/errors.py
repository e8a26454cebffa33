"""Errors in making an environment by name; the message of each is one sentence."""

from muzero_jax.core.errors import ConfigError


class EnvironmentCreationError(ConfigError):
    """The environment exists but cannot be made: a suite, an option or a member is missing."""


class UnknownEnvironmentError(EnvironmentCreationError):
    """No built-in environment and no environment of a suite has the name."""


class ConformanceError(EnvironmentCreationError):
    """The environment can be made but breaks a rule of the protocol."""
