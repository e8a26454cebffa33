"""The user's own code: where it is found, how it is imported, and how its errors are told.

Whether such code may be run at all is decided by `trust`.
"""

import contextlib
import importlib
import site
import sys
import sysconfig
import traceback
import types
from collections.abc import Iterator, Sequence
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from typing import Any

from muzero_jax.core.errors import ConfigError

_PACKAGE = Path(__file__).parents[1]
_MAX_REASON = 300
# Names of environments that begin so are a suite's, and no module of the user's.
SUITES = ("gymnax", "pgx")


class UserCodeError(ConfigError):
    """The user's own code has failed; the message names the file and the line."""


class _Search:
    """Folders in which this process looks for modules, and those on Python's path among them."""

    folders: tuple[Path, ...] = ()
    added: tuple[str, ...] = ()


def search_in(folders: Sequence[Path]) -> None:
    """Lets this process look for modules in these absolute paths before all folders so far."""
    _Search.folders = tuple(dict.fromkeys((*folders, *_Search.folders)))


def search_folders() -> tuple[Path, ...]:
    """The folders that `import_module` looks in, after Python's own; the working folder is last."""
    return tuple(dict.fromkeys((*_Search.folders, Path.cwd())))


def use_folder(folder: Path) -> None:
    """Lets Python import from a folder, an absolute path, after all installed modules.

    Only folders that are needed are added: libraries look for plug-ins on Python's path.
    """
    search_in([folder])
    if str(folder) not in sys.path:
        sys.path.append(str(folder))
        _Search.added = (*_Search.added, str(folder))


def _own_path() -> list[str]:
    """Python's path without the folders that `use_folder` added."""
    return [folder for folder in sys.path if folder not in _Search.added]


def is_module_name(name: str) -> bool:
    """Whether a text can be the dotted name of a module, which no other text is imported as."""
    return all(part.isidentifier() for part in name.split("."))


def import_module(name: str) -> types.ModuleType | None:
    """Imports a module of the user's by its dotted name; returns None if there is no such module.

    Raises:
      UserCodeError: the module exists and fails while it is imported.
    """
    if not is_module_name(name):
        return None
    importlib.invalidate_caches()
    is_known = _find_outermost(name.partition(".")[0], _own_path()) is not None
    if not is_known and (folder := folder_of(name)) is not None:
        use_folder(folder)
    try:
        return importlib.import_module(name)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        missing = error.name if isinstance(error, ModuleNotFoundError) else None
        if missing is not None and f"{name}.".startswith(f"{missing}."):
            return None
        raise UserCodeError(f"{name} cannot be imported: {describe_error(error)}") from error


def load_reference(reference: str) -> Any:
    """What stands in this package under `module:name`; names of the user's own go to `find`."""
    module, _, name = reference.partition(":")
    return getattr(importlib.import_module(module), name)


def find(reference: str, kind: str) -> Any:
    """Imports a module of the user's, and returns the object that it defines under a name.

    Args:
      reference: `MODULE:NAME` and nothing else, so that `trust.module_of` sees the same module.
      kind: word for the object in messages, such as `agent`.

    Raises:
      UserCodeError: the module fails while it is imported.
      ConfigError: the reference has another form, or there is no such module or object.
    """
    module_name, _, attribute = reference.partition(":")
    if not (is_module_name(module_name) and attribute.isidentifier()) or module_name in SUITES:
        raise ConfigError(f"the {kind} {reference!r} must be named MODULE:NAME.")
    module = import_module(module_name)
    if module is None:
        where = f"neither installed nor in {', '.join(map(str, search_folders()))}"
        told = f"there is no module {module_name!r} for the {kind} {reference}"
        raise ConfigError(f"{told}, {where}.")
    with running(f"{reference} cannot be read"):
        if not hasattr(module, attribute):
            raise ConfigError(f"the module {module_name!r} has no {kind} {attribute!r}.")
        return getattr(module, attribute)


def locate(name: str, in_folders: Sequence[Path] | None = None) -> Path | None:
    """Finds the file that `import_module` would run for a dotted name; nothing is run.

    The module is looked for in Python's own folders, and then in `in_folders`, by default
    `search_folders()`. A package without a file gives its folder. The result is None if there is no
    such module, or if it is part of Python itself.
    """
    folders = search_folders() if in_folders is None else in_folders
    first, *inner = name.split(".")
    found = _find_outermost(first, [*_own_path(), *map(str, folders)])
    for part in inner:
        # Unlike `importlib.util.find_spec`, this does not import the package.
        places = [] if found is None else found.submodule_search_locations or []
        found = PathFinder.find_spec(part, list(places))
    if found is None:
        return None
    if found.has_location and found.origin is not None:
        return Path(found.origin)
    return next(map(Path, found.submodule_search_locations or ()), None)


def _find_outermost(name: str, path: Sequence[str]) -> ModuleSpec | None:
    """The specification of the module that Python would import for a name without dots."""
    if not name:
        return None
    for finder in sys.meta_path:
        with contextlib.suppress(ImportError, ValueError):
            found = finder.find_spec(name, path if finder is PathFinder else None)
            if found is not None:
                return found
    return None


def folder_of(name: str) -> Path | None:
    """The folder of a module of the user's, or of its outermost package, by its dotted name.

    The result is None for a module that is installed with Python, or that does not exist.
    """
    first = name.partition(".")[0]
    loaded = getattr(sys.modules.get(first), "__file__", None)
    file = Path(loaded) if loaded else locate(first)
    if file is None:
        return None
    folder = file.absolute().parents[file.name == "__init__.py"]
    installed = {*site.getsitepackages(), site.getusersitepackages()}
    installed |= {sysconfig.get_path(kind) for kind in ("stdlib", "platstdlib", "purelib")}
    return None if str(folder) in installed else folder


@contextlib.contextmanager
def running(what: str) -> Iterator[None]:
    """Turns an error of the user's code in the block into one sentence, which begins with `what`.

    Raises:
      UserCodeError: the code raised, or tried to end the program.
    """
    try:
        yield
    except (ConfigError, KeyboardInterrupt):
        raise
    except BaseException as error:
        raise UserCodeError(f"{what}: {describe_error(error)}") from error


def describe_error(error: BaseException) -> str:
    """An error in one line: the user's file and line if there is one, the type, the message."""
    first, *others = [line.strip() for line in str(error).splitlines() if line.strip()] or [""]
    # The error of a callback holds the host's whole traceback; its last line is the message.
    is_nested = others and first.endswith("Traceback (most recent call last):")
    message = others[-1] if is_nested else first
    reason = ": ".join(filter(None, (type(error).__name__, message)))
    reason = reason if len(reason) <= _MAX_REASON else f"{reason[: _MAX_REASON - 3]}..."
    reason = reason if reason.endswith(".") else f"{reason}."
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}, line {error.lineno}: {type(error).__name__}: {error.msg}."
    place = place_of(error)
    return f"{place}: {reason}" if place else reason


def place_of(error: BaseException) -> str:
    """The deepest line of the user's code in an error's traceback; empty if there is none."""
    frames = reversed(traceback.extract_tb(error.__traceback__))
    users = (frame for frame in frames if _is_users(Path(frame.filename)))
    return next((f"{frame.filename}, line {frame.lineno}" for frame in users), "")


def _is_users(file: Path) -> bool:
    is_installed = {"site-packages", "dist-packages"} & {*file.parts}
    others = {_PACKAGE, Path(sysconfig.get_path("stdlib"))}
    return file.is_absolute() and not is_installed and not others & {*file.parents}
