"""Imports environment suites: only when asked for, with a clear error, and not too slowly."""

import contextlib
import importlib
import sys
import types
from collections.abc import Iterator
from typing import Any

from muzero_jax.envs.errors import EnvironmentCreationError


def import_suite(name: str, *, deferred: tuple[str, ...] = ()) -> types.ModuleType:
    """Imports the suite's package.

    Args:
      name: the package, which is also the name of the extra that installs it.
      deferred: modules that the suite imports but needs only for drawing, see `defer_imports`.

    Raises:
      EnvironmentCreationError: the suite is not installed.
    """
    try:
        with defer_imports(*deferred):
            return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise EnvironmentCreationError(
            f"The {name} environments need the module {error.name!r}, which is not installed: "
            f"pip install 'muzero-jax[{name}]'."
        ) from error


@contextlib.contextmanager
def defer_imports(*names: str) -> Iterator[None]:
    """Inside the block, `import name` binds a stand-in that imports the module when it is used.

    gymnax imports seaborn and pyplot (and with them pandas and scipy.stats) for its `render`
    methods, which takes 5 of the 6 seconds of its import. The stand-ins leave `sys.modules` at the
    end of the block, so all other code imports the real modules. `importlib.util.LazyLoader` is no
    way out: on Python 3.11 the import statement itself makes it load.

    Args:
      *names: full names of modules; modules that are already imported are left alone.
    """
    stand_ins = {name: _StandIn(name) for name in names if name not in sys.modules}
    sys.modules.update(stand_ins)
    try:
        yield
    finally:
        for name, stand_in in stand_ins.items():
            if sys.modules.get(name) is stand_in:
                del sys.modules[name]


class _StandIn(types.ModuleType):
    """A module that forwards every attribute to the real module of the same name."""

    def __getattr__(self, attribute: str) -> Any:
        # The import machinery reads dunder names; only a real use should pay for the import.
        if attribute.startswith("__"):
            raise AttributeError(attribute)
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]
        return getattr(importlib.import_module(self.__name__), attribute)
