"""Checkpoints: atomic, rotated, verified, and free of pickle.

A checkpoint holds groups of arrays and a small JSON record, in which stand SHA-256 digests of
everything else. orbax writes it under a temporary name and renames it when it is complete.
"""

import contextlib
import dataclasses
import gc
import hashlib
import json
import logging
import re
import shutil
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from muzero_jax.training.errors import NoCheckpointError
from muzero_jax.training.plain_arrays import from_plain, plain_zeros, to_plain
from muzero_jax.types import PyTree

_RECORD = "record"
# Loggers and hooks belong to the whole process, in which several threads may restore.
_QUIET_LOCK = threading.Lock()


@dataclasses.dataclass(frozen=True)
class Restored:
    """A checkpoint that was read and verified.

    Attributes:
      step: its number.
      groups: the pytrees that were asked for, by name.
      record: the JSON record that was saved with them.
      unusable: numbers of the newer checkpoints that could not be used.
    """

    step: int
    groups: dict[str, PyTree]
    record: dict[str, Any]
    unusable: tuple[int, ...]


class CheckpointWriter:
    """Writes the checkpoints of one folder, keeping the newest.

    Args:
      folder: is made.
      num_kept: older ones are removed.
    """

    def __init__(self, folder: Path, num_kept: int):
        import orbax.checkpoint as ocp  # Half a second that `restore` and --help can do without.

        # Asynchronous saving would read buffers that the next chunk is given to write over.
        options = ocp.CheckpointManagerOptions(
            max_to_keep=num_kept,
            enable_async_checkpointing=False,
            cleanup_tmp_directories=True,
            create=False,
            multiprocessing_options=_alone(),
        )
        folder.mkdir(parents=True, exist_ok=True)
        self._ocp = ocp
        self._manager = ocp.CheckpointManager(folder.absolute(), options=options)

    def save(self, step: int, groups: Mapping[str, PyTree], record: Mapping[str, Any]) -> None:
        """Saves pytrees of arrays, and a record of JSON values, as checkpoint number `step`."""
        args = {
            name: self._ocp.args.StandardSave(_named_arrays(tree)) for name, tree in groups.items()
        }
        digests = {name: _digest(tree) for name, tree in groups.items()}
        sealed: dict[str, Any] = {"values": dict(record), "digests": digests}
        sealed["digest"] = _json_digest(sealed)
        args[_RECORD] = self._ocp.args.JsonSave(sealed)
        self._manager.save(step, args=self._ocp.args.Composite(**args))

    def close(self) -> None:
        """Ends orbax's threads; without it they complain when the interpreter exits."""
        self._manager.close()


def checkpoint_steps(folder: Path) -> list[int]:
    """Numbers of the complete checkpoints, ascending."""
    names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    return sorted(int(name) for name in names if name.isdigit())


def restore_newest(
    folder: Path, shapes: Mapping[str, PyTree], at_most: int | None = None
) -> Restored:
    """Restores the newest checkpoint that is whole; newer ones are named on stderr.

    Args:
      folder: of the checkpoints; only read.
      shapes: the groups to restore, as `jax.eval_shape` gives them; others are not read.
      at_most: leave out checkpoints of higher numbers.

    Raises:
      NoCheckpointError: there is none that is whole.
    """
    steps = checkpoint_steps(folder)
    problems = _half_written(folder, newer_than=max(steps, default=-1))
    steps = [step for step in steps if at_most is None or step <= at_most]
    unusable: list[int] = []
    for step in reversed(steps):
        attempt = _try_restore(folder / str(step), shapes)
        if isinstance(attempt, str):
            unusable.append(step)
            problems.append(f"{step} is damaged ({attempt})")
            continue
        if problems:
            listed = " and ".join(problems)
            print(f"warning: checkpoint {listed}; using checkpoint {step}.", file=sys.stderr)
        return Restored(step, *attempt, tuple(unusable))
    found = f"checkpoint {' and '.join(problems)}" if problems else "there is none"
    raise NoCheckpointError(f"no checkpoint in {folder} can be used: {found}.")


def discard_after(folder: Path, step: int) -> None:
    """Removes checkpoints of higher numbers than `step`, which are about to be made again."""
    for later in [s for s in checkpoint_steps(folder) if s > step]:
        shutil.rmtree(folder / str(later))


def set_aside(folder: Path, steps: Iterable[int]) -> None:
    """Moves damaged checkpoints to `damaged/` beside the folder, out of the way of new ones."""
    for step in steps:
        target = folder.with_name("damaged") / str(step)
        target.parent.mkdir(exist_ok=True)
        shutil.rmtree(target, ignore_errors=True)
        (folder / str(step)).rename(target)


def _try_restore(
    path: Path, shapes: Mapping[str, PyTree]
) -> tuple[dict[str, PyTree], dict[str, Any]] | str:
    """The groups and the record, or what is wrong."""
    with _quiet():
        try:
            return _restore(path, shapes)
        except Exception as error:  # Damage shows as any error, from JSON to decompression.
            reason = _one_line(error)
        gc.collect()  # orbax's abandoned coroutines complain when they are collected.
    return reason


def _restore(path: Path, shapes: Mapping[str, PyTree]) -> tuple[dict[str, PyTree], dict[str, Any]]:
    import orbax.checkpoint as ocp

    sealed = json.loads((path / _RECORD / "metadata").read_text(encoding="utf-8"))
    if sealed.pop("digest") != _json_digest(sealed):
        raise ValueError("its record is not what was saved")
    args = {name: ocp.args.StandardRestore(_named_shapes(tree)) for name, tree in shapes.items()}
    options = _alone()
    handler = ocp.CompositeCheckpointHandler(
        composite_options=ocp.CompositeOptions(multiprocessing_options=options)
    )
    with ocp.Checkpointer(handler, multiprocessing_options=options) as checkpointer:
        restored = checkpointer.restore(path.absolute(), args=ocp.args.Composite(**args))
    groups = {name: _from_named(restored[name], tree) for name, tree in shapes.items()}
    for name, tree in groups.items():
        if _digest(tree) != sealed["digests"][name]:
            raise ValueError(f"its {name} is not what was saved")
    return groups, sealed["values"]


def _alone() -> Any:
    """Options of orbax for a process that saves and restores by itself, whoever else is there."""
    import orbax.checkpoint as ocp

    if jax.process_count() == 1:
        return ocp.options.MultiprocessingOptions()
    own = jax.process_index()
    return ocp.options.MultiprocessingOptions(primary_host=own, active_processes={own})


def _half_written(folder: Path, newer_than: int) -> list[str]:
    """Says which checkpoints a killed process left under their temporary names."""
    names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    steps = {int(m[1]) for m in (re.match(r"(\d+)\..*tmp", name) for name in names) if m}
    return [f"{step} is half-written" for step in sorted(steps) if step > newer_than]


def _named_leaves(tree: PyTree) -> Iterator[tuple[str, Any]]:
    """The leaves by a name that is unique; a flat mapping spares us orbax's rules for containers.

    Arrays without elements hold nothing to save, and orbax refuses them.
    """
    for index, (path, leaf) in enumerate(jax.tree_util.tree_leaves_with_path(tree)):
        if leaf.size:
            yield f"{index:04d}.{jax.tree_util.keystr(path, simple=True, separator='.')}", leaf


def _named_arrays(tree: PyTree) -> dict[str, np.ndarray]:
    return {name: to_plain(leaf) for name, leaf in _named_leaves(tree)}


def _named_shapes(tree: PyTree) -> dict[str, np.ndarray]:
    """What to restore, and as what: plain arrays, wherever their like were computed."""
    return {name: plain_zeros(leaf) for name, leaf in _named_leaves(tree)}


def _from_named(named: Mapping[str, np.ndarray], tree: PyTree) -> PyTree:
    """Puts restored arrays back into the structure of `tree`, on the default device."""
    restored = iter([named[name] for name, _ in _named_leaves(tree)])
    leaves, structure = jax.tree.flatten(tree)
    filled = [
        from_plain(next(restored), leaf) if leaf.size else jnp.zeros(leaf.shape, leaf.dtype)
        for leaf in leaves
    ]
    return jax.tree.unflatten(structure, filled)


def _digest(tree: PyTree) -> str:
    """SHA-256 over the names, dtypes, shapes and bytes of all leaves."""
    digest = hashlib.sha256()
    for name, leaf in _named_leaves(tree):
        digest.update(f"{name} {leaf.dtype} {leaf.shape};".encode())
        array = to_plain(leaf)
        digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def _json_digest(value: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _one_line(error: Exception) -> str:
    """The start of an error's message; orbax's can be pages long."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:120]}" if lines else type(error).__name__


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keeps orbax from telling in pages what is said in one sentence here."""
    with _QUIET_LOCK:
        yield from _silence()


def _silence() -> Iterator[None]:
    loggers = [logging.getLogger(name) for name in ("absl", "asyncio")]
    levels, hook = [logger.level for logger in loggers], sys.unraisablehook
    for logger in loggers:
        logger.setLevel(logging.CRITICAL + 1)
    sys.unraisablehook = lambda _: None
    try:
        yield
    finally:
        sys.unraisablehook = hook
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
