"""Imports environment suites: only when asked for, with a clear error, and not too slowly."""

import importlib
import sys
import types
from typing import Any

from muzero_jax.envs.errors import EnvironmentCreationError


def import_suite(name: str, *, deferred: tuple[str, ...] = ()) -> types.ModuleType:
    """Imports the suite's package.

    gymnax imports seaborn and pyplot (and with them pandas and scipy.stats) for its `render`
    methods, which takes 5 of the 6 seconds of its import. It gets stand-ins, which leave
    `sys.modules` afterwards, so that all other code imports the real modules.

    Args:
      name: the package, which is also the name of the extra that installs it.
      deferred: modules that the suite imports but needs only for drawing; each is imported when it
        is used for the first time.

    Raises:
      EnvironmentCreationError: the suite is not installed.
    """
    stand_ins = {module: _StandIn(module) for module in deferred if module not in sys.modules}
    sys.modules.update(stand_ins)
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise EnvironmentCreationError(
            f"it needs the module {error.name!r}, which is not installed: "
            f"pip install 'muzero-jax[{name}]'."
        ) from error
    finally:
        for module, stand_in in stand_ins.items():
            if sys.modules.get(module) is stand_in:
                del sys.modules[module]


class _StandIn(types.ModuleType):
    """A module that forwards every attribute to the real module of the same name."""

    def __getattr__(self, attribute: str) -> Any:
        # The import machinery reads dunder names; only a real use should pay for the import.
        if attribute.startswith("__"):
            raise AttributeError(attribute)
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]
        return getattr(importlib.import_module(self.__name__), attribute)
