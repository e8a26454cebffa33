"""The folder of one run: its name, lock, settings, result, and the record of its versions."""

import contextlib
import datetime
import importlib.metadata
import os
import platform
import shutil
import sys
from collections.abc import Iterator, Mapping, Set
from pathlib import Path
from typing import Any

from muzero_jax.checkpoints.checkpoint_folder import checkpoint_steps
from muzero_jax.config import ExperimentConfig
from muzero_jax.core.errors import ConfigError, InvalidRunError, RunLockedError
from muzero_jax.core.file_names import CHECKPOINTS_FOLDER, CONFIG_FILE, RESULT_FILE, VERSIONS_FILE
from muzero_jax.core.files import open_own, read_json, refuse_links, write_json, write_text, writing
from muzero_jax.core.output_paths import check_folder
from muzero_jax.core.plain_yaml import dump_yaml, read_yaml
from muzero_jax.core.trust import UntrustedCodeError, admit, code_references, seal_folder
from muzero_jax.settings import config_from_dict, config_to_dict

_LOCK_FILE = ".lock"
# The entry of `versions.json` about the run whose agent this run began with.
ORIGIN = "init_from"
# The numbers that every result holds, and that are shown for a finished run.
_NUMBERS_OF_RESULT = (
    *("env_steps", "score_mean", "score_std", "episodes"),
    *("train_seconds", "compile_seconds"),
)
_PACKAGES = (
    *("muzero-jax", "jax", "jaxlib", "flax", "optax", "mctx", "chex"),
    *("orbax-checkpoint", "numpy", "gymnax", "pgx"),
)


@contextlib.contextmanager
def new_run_folder(
    config: ExperimentConfig, out: Path | None, origin: Mapping[str, Any] | None = None
) -> Iterator[Path]:
    """Makes a run folder with its `config.yaml`, and holds its lock.

    A `ConfigError` inside the block, for example of a program that does not fit into the device,
    removes what was written, unless there is a checkpoint.

    Args:
      config: settings of the run.
      out: folder, which must be empty or not exist; `runs/<experiment>/seed<seed>-<time>` if None.
      origin: record of the run whose agent this run begins with; None for a new agent.

    Raises:
      ConfigError: the folder exists and is not empty, or cannot be made.
      RunLockedError: another process is about to use the folder.
    """
    before = set(out.iterdir()) if out is not None and out.is_dir() else None
    folder = _make_default_folder(config) if out is None else out
    check_new_folder(folder)
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with locked(folder):
        check_new_folder(folder)  # Another process may have made a run there since.
        if origin is not None:  # This must not be missing once the folder is a run folder.
            write_json(folder / VERSIONS_FILE, {ORIGIN: origin})
        write_config(folder, config)
        try:
            yield folder
        except ConfigError:
            if not checkpoint_steps(folder / CHECKPOINTS_FOLDER):
                _take_away(folder, before)
            raise


def _take_away(folder: Path, before: Set[Path] | None) -> None:
    """Removes what was made in a folder, and the folder itself if nothing was there `before`.

    The folder may also hold hidden files of the user's.
    """
    for path in set(folder.iterdir()) - (before or set()):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
    if before is None:
        folder.rmdir()


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Holds the folder's lock, which the system releases however the process ends.

    Raises:
      RunLockedError: another process holds the lock.
      DiskError: the disk is full or read-only.
      ConfigError: there is a link in the folder, see `files.refuse_links`.
    """
    refuse_links(folder)
    with contextlib.ExitStack() as stack:
        with writing(folder):
            try:
                stack.enter_context(locked_file(folder / _LOCK_FILE))
            except BlockingIOError as error:
                told = f"another process is writing the run folder {folder}."
                raise RunLockedError(told) from error
        yield


@contextlib.contextmanager
def locked_file(path: Path, wait: bool = False) -> Iterator[None]:
    """Holds the lock of a file, which is made where it is missing; the system releases the lock.

    `wait` says whether to wait for a process that holds the lock.

    Raises:
      BlockingIOError: another process holds the lock, and this one does not wait.
      ConfigError: the file is a link.
    """
    import fcntl  # Windows has no such module; commands that lock nothing work without it.

    descriptor = open_own(path, 0)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        yield
    finally:
        os.close(descriptor)


def write_config(folder: Path, config: ExperimentConfig) -> None:
    """Writes the settings of a run for `load_config`, and seals the code that they name."""
    tree = config_to_dict(config)
    seal_folder(folder, code_references(tree))
    write_text(folder / CONFIG_FILE, dump_yaml(tree))


def load_config(folder: Path) -> ExperimentConfig:
    """Reads the settings of a run.

    Raises:
      InvalidRunError: the folder is not a run folder, or its `config.yaml` cannot be used.
      UntrustedCodeError: the settings name code that this user has not sealed.
    """
    path = folder / CONFIG_FILE
    if not path.is_file():
        reason = f"it holds no {CONFIG_FILE}" if folder.is_dir() else "there is no such folder"
        raise InvalidRunError(f"{folder} is not a run folder: {reason}.")
    try:
        tree = read_yaml(path)
        admit(folder, code_references(tree))
        return config_from_dict(tree)
    except UntrustedCodeError:
        raise
    except ConfigError as error:
        raise InvalidRunError(f"{path} cannot be used: {error}") from error


def read_result(folder: Path) -> dict[str, Any] | None:
    """Reads `result.json`, which only the folder of a finished run has; None for other folders.

    Raises:
      InvalidRunError: the file is damaged.
    """
    path = folder / RESULT_FILE
    if not path.exists():
        return None
    try:
        result = read_json(path)
    except ConfigError as error:
        raise InvalidRunError(str(error)) from error
    for name in _NUMBERS_OF_RESULT:
        if not isinstance(result.get(name), int | float):
            raise InvalidRunError(f"{path} is damaged: it holds no number {name}.")
    return result


def write_versions(folder: Path, device: str) -> None:
    """Records the packages, machine and command of the run; later records are listed as resumed."""
    path = folder / VERSIONS_FILE
    now: dict[str, Any] = {
        "packages": dict(sorted(_installed_packages())),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "device": device,
        "command": sys.argv,
        "started": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
    }
    before = read_json(path)
    if "started" in before:
        now = {"resumed": [*before.get("resumed", []), now]}
    write_json(path, {**before, **now})


def _installed_packages() -> Iterator[tuple[str, str]]:
    for name in _PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            yield name, importlib.metadata.version(name)


def _make_default_folder(config: ExperimentConfig) -> Path:
    """Makes a new folder; runs that start in the same second get numbers."""
    time = datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
    base = Path("runs") / config.name / f"seed{config.seed}-{time}"
    for number in range(1, 10_000):
        folder = base if number == 1 else base.with_name(f"{base.name}-{number}")
        with contextlib.suppress(FileExistsError):
            folder.mkdir(parents=True)
            return folder
    raise ConfigError(f"{base} exists, and so do thousands of folders like it; give another --out.")


def check_new_folder(folder: Path) -> None:
    """Refuses a folder in which no new run can be made.

    Raises:
      ConfigError: the folder cannot be made, or it is not empty.
    """
    check_folder(folder, "--out")
    if (folder / CONFIG_FILE).exists():
        raise ConfigError(
            f"{folder} holds a run already; continue it with --resume, or give another --out."
        )
    if folder.is_dir() and occupied(folder):
        raise ConfigError(f"{folder} is not empty; give another --out.")


def occupied(folder: Path) -> bool:
    """Whether a folder holds anything but hidden files, which are locks and unfinished files."""
    return any(not path.name.startswith(".") for path in folder.iterdir())
