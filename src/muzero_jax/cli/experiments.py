"""Finds and loads experiments, which are scripts that define `CONFIG`. JAX is not imported."""

import ast
import difflib
import importlib.util
import sys
import types
from pathlib import Path

import muzero_jax
from muzero_jax.config import ExperimentConfig
from muzero_jax.core import user_code
from muzero_jax.core.errors import ConfigError


def load_experiment(name: str) -> ExperimentConfig:
    """Loads the `CONFIG` of an experiment by its name in a folder of experiments, or by its path.

    Raises:
      ConfigError: there is no such experiment, its script has no `CONFIG`, or a setting cannot
        work.
    """
    path = Path(name) if name.endswith(".py") else find_experiments().get(name)
    if path is None:
        raise ConfigError(f"unknown experiment {name!r}; {_hint(name)}")
    if not path.is_file():
        raise ConfigError(f"there is no experiment script {path}.")
    if path.parent.absolute() not in map(Path.absolute, _built_in_folders()):
        user_code.use_folder(path.absolute().parent)
    module = _run_script(path.absolute())
    with user_code.running(f"the CONFIG of the experiment {path.name} cannot be read"):
        config = getattr(module, "CONFIG", None)
    if not isinstance(config, ExperimentConfig):
        found = "none" if config is None else f"found {type(config).__name__}"
        raise ConfigError(
            f"the experiment {path} must define CONFIG, an ExperimentConfig; {found}."
        )
    return config


def is_built_in(name: str) -> bool:
    """Whether an experiment of this name comes with the program."""
    known = {path.stem for folder in _built_in_folders() for path in folder.glob("*.py")}
    return name in known


def _run_script(path: Path) -> types.ModuleType:
    spec = importlib.util.spec_from_file_location(f"_muzero_experiment_{path.stem}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    with user_code.running(f"the experiment {path.name} cannot be loaded"):
        spec.loader.exec_module(module)
    return module


def find_experiments() -> dict[str, Path]:
    """The scripts by name; of two scripts with one name, the first folder's script counts."""
    found: dict[str, Path] = {}
    for folder in experiment_folders():
        for path in sorted(folder.glob("*.py")):
            if not path.stem.startswith("_"):
                found.setdefault(path.stem, path)
    return dict(sorted(found.items()))


def experiment_folders() -> list[Path]:
    """The folders of the built-in experiments, and last `experiments` in the working folder.

    The working folder may be a stranger's, so a script there cannot replace a built-in one.
    """
    return [*_built_in_folders(), Path("experiments")]


def _built_in_folders() -> list[Path]:
    """The folders of the repository, if the package is run from it, and of the installation."""
    package = Path(muzero_jax.__file__).parent
    # Only a repository has a project file; an installed package lies in a library folder.
    is_repository = (package.parents[1] / "pyproject.toml").is_file()
    own = [package.parents[1] / "experiments"] if is_repository else []
    return [*own, package / "_experiments"]


def describe_experiment(path: Path) -> str:
    """The first line of a script's docstring, without running it."""
    try:
        docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    except (SyntaxError, ValueError, RecursionError, MemoryError, OSError):
        return "(cannot be read)"
    return (docstring or "").partition("\n")[0]


def _hint(name: str) -> str:
    known = find_experiments()
    close = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    if close:
        return f"did you mean {' or '.join(close)}?"
    return (
        f"there are {', '.join(known)}, or give the path of a script." if known else "none found."
    )
