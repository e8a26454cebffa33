"""Finds and loads experiments, which are scripts that define `CONFIG`. JAX is not imported."""

import ast
import importlib.util
import sys
from pathlib import Path
from typing import Any

import muzero_jax
from muzero_jax.config import ExperimentConfig
from muzero_jax.core import user_code
from muzero_jax.core.errors import ConfigError, did_you_mean


def load_experiment(name: str) -> ExperimentConfig:
    """Loads the `CONFIG` of an experiment by its name in a folder of experiments, or by its path.

    Raises:
      ConfigError: there is no such experiment, or its script has no `CONFIG` that can work.
    """
    known = find_experiments()
    path = Path(name) if name.endswith(".py") else known.get(name)
    if path is None:
        raise ConfigError(f"unknown experiment {name!r}; {did_you_mean(name, known)}")
    if not path.is_file():
        raise ConfigError(f"there is no experiment script {path}.")
    if path.parent.absolute() not in map(Path.absolute, _built_in_folders()):
        user_code.use_folder(path.absolute().parent)
    config = _run_script(path.absolute())
    if isinstance(config, ExperimentConfig):
        return config
    found = "none" if config is None else f"found {type(config).__name__}"
    raise ConfigError(f"the experiment {path} must define CONFIG, an ExperimentConfig; {found}.")


def is_built_in(name: str) -> bool:
    """Whether an experiment of this name comes with the program."""
    return name in {path.stem for folder in _built_in_folders() for path in folder.glob("*.py")}


def _run_script(path: Path) -> Any:
    """What a script defines as CONFIG; None where it defines nothing."""
    spec = importlib.util.spec_from_file_location(f"_muzero_experiment_{path.stem}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    with user_code.running(f"the experiment {path.name} cannot be loaded"):
        spec.loader.exec_module(module)
        return getattr(module, "CONFIG", None)


def find_experiments() -> dict[str, Path]:
    """The scripts by name: the built-in ones, and those of `experiments` in the working folder.

    The working folder may be a stranger's, so a script there cannot replace a built-in one.
    """
    folders = [Path("experiments"), *reversed(_built_in_folders())]
    paths = [path for folder in folders for path in folder.glob("*.py")]
    found = {path.stem: path for path in paths if not path.stem.startswith("_")}
    return dict(sorted(found.items()))


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
