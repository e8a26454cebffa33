"""Finding experiments: flat scripts that define `CONFIG`. Nothing here imports JAX."""

import ast
import difflib
import importlib.util
import sys
from pathlib import Path

import muzero_jax
from muzero_jax.config import ConfigError, ExperimentConfig


def load_experiment(name: str) -> ExperimentConfig:
    """Loads the `CONFIG` of an experiment.

    Args:
      name: of a script in one of `experiment_folders`, or the path of a script.

    Raises:
      ConfigError: there is no such experiment (with the close matches), its script has no
        `CONFIG`, or that has a setting which cannot work.
    """
    path = Path(name) if name.endswith(".py") else find_experiments().get(name)
    if path is None:
        raise ConfigError(f"unknown experiment {name!r}; {_hint(name)}")
    if not path.is_file():
        raise ConfigError(f"there is no experiment script {path}.")
    spec = importlib.util.spec_from_file_location(f"_muzero_experiment_{path.stem}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
    except (SyntaxError, ImportError) as error:
        raise ConfigError(f"the experiment {path} cannot be loaded: {error}.") from error
    config = getattr(module, "CONFIG", None)
    if not isinstance(config, ExperimentConfig):
        raise ConfigError(f"the experiment {path} defines no CONFIG, an ExperimentConfig.")
    return config


def find_experiments() -> dict[str, Path]:
    """Scripts by name; of two with one name the one in the first folder."""
    found: dict[str, Path] = {}
    for folder in experiment_folders():
        for path in sorted(folder.glob("*.py")):
            if not path.stem.startswith("_"):
                found.setdefault(path.stem, path)
    return dict(sorted(found.items()))


def experiment_folders() -> list[Path]:
    """Here, in the repository that this package is run from, and as installed with it."""
    package = Path(muzero_jax.__file__).parent
    folders = [Path("experiments"), package.parents[1] / "experiments", package / "_experiments"]
    # An installed package's grandparent is some library folder; only a repository has a project.
    is_repository = (package.parents[1] / "pyproject.toml").is_file()
    return folders if is_repository else [folders[0], folders[2]]


def describe_experiment(path: Path) -> str:
    """The first line of a script's docstring, without running it."""
    try:
        docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    except (SyntaxError, UnicodeDecodeError):
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
