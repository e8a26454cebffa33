"""Importing a package that only an extra of this project installs."""

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
      module: full name of the module.
      purpose: what needs the module, in the plural; the error begins with it, as in `Plots need`.
      package: the name by which a package installer knows the package.
      extra: the extra of this project that installs the package.

    Raises:
      MissingExtraError: the package is not installed.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            f"{purpose} need {package}, which is not installed: pip install 'muzero-jax[{extra}]'."
        ) from error
