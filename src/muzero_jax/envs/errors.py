"""What can go wrong when an environment is asked for by name, each as one clear sentence."""

from muzero_jax.errors import ConfigError


class EnvironmentCreationError(ConfigError):
    """The environment exists, but cannot be made: a suite, an option or a member is missing."""


class UnknownEnvironmentError(EnvironmentCreationError):
    """No built-in environment, suite or module answers to the name."""


class ConformanceError(EnvironmentCreationError):
    """The environment can be made, but it breaks a rule of the protocol."""
