"""Importing what only an extra installs: late, and with one clear sentence if it is missing."""

import importlib
import types

from muzero_jax.core.errors import ConfigError


class MissingExtraError(ConfigError):
    """A package of an extra is not installed; the message says how to get it."""


def import_extra(
    module: str, *, purpose: str, package: str, extra: str = "viz"
) -> types.ModuleType:
    """Imports `module`.

    Args:
      module: its full name.
      purpose: what it is needed for, to begin the error with, for example `Plots`.
      package: its name for a package installer.
      extra: the extra of this project that installs it.

    Raises:
      MissingExtraError: it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            f"{purpose} need {package}, which is not installed: pip install 'muzero-jax[{extra}]'."
        ) from error
