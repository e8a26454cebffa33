"""Checkpoints: atomic, rotated, verified, and free of pickle.

A checkpoint holds groups of arrays and a small JSON record with SHA-256 digests of everything else.
orbax writes a checkpoint under a temporary name, and renames it when it is complete.
"""

import dataclasses
import functools
import hashlib
import json
import logging
import os
import re
import sys
from collections.abc import Collection, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import jax

from muzero_jax.checkpoints.checkpoint_folder import checkpoint_steps, describe_steps, half_written
from muzero_jax.checkpoints.named_arrays import (
    describe_arrays,
    digest_arrays,
    first_difference,
    from_named,
    named_arrays,
    named_shapes,
)
from muzero_jax.core.errors import CheckpointMismatchError, NoCheckpointError, RunError, reason_of
from muzero_jax.core.types import PyTree

_RECORD = "record"


@dataclasses.dataclass(frozen=True)
class Restored:
    """A checkpoint that was read and verified: the groups that were asked for, and its record."""

    step: int
    groups: dict[str, PyTree]
    record: dict[str, Any]


class _DamageError(Exception):
    """The content of a checkpoint is not what was saved."""


class CheckpointWriter:
    """Writes the checkpoints of one folder, which is made, and keeps the newest `num_kept`."""

    def __init__(self, folder: Path, num_kept: int):
        import orbax.checkpoint as ocp  # This takes half a second, which --help can do without.

        # Asynchronous saving would read buffers that the next chunk may overwrite.
        options = ocp.CheckpointManagerOptions(
            max_to_keep=num_kept,
            enable_async_checkpointing=False,
            cleanup_tmp_directories=True,
            create=False,
            multiprocessing_options=_alone(),
        )
        folder.mkdir(parents=True, exist_ok=True)
        _keep_orbax_quiet()
        self._ocp, self._folder = ocp, folder
        self._manager = ocp.CheckpointManager(folder.absolute(), options=options)

    def save(self, step: int, groups: Mapping[str, PyTree], record: Mapping[str, Any]) -> None:
        """Saves pytrees of arrays, and a record of JSON values.

        Args:
          step: number of the checkpoint, higher than all numbers in the folder.
          groups: pytrees by name.
          record: JSON values by name.

        Raises:
          OSError: the file system refuses to write, for example because the disk is full.
          RunError: the folder holds a checkpoint of a higher number.
        """
        sealed: dict[str, Any] = {
            "step": step,
            "values": dict(record),
            "digests": {name: digest_arrays(tree) for name, tree in groups.items()},
            "shapes": {name: describe_arrays(tree) for name, tree in groups.items()},
        }
        sealed["digest"] = _json_digest(sealed)
        kinds = self._ocp.args
        # orbax refuses a group without arrays, such as the replay of an agent that has none.
        named = {name: named_arrays(tree) for name, tree in groups.items()}
        args = {name: kinds.StandardSave(arrays) for name, arrays in named.items() if arrays}
        args[_RECORD] = kinds.JsonSave(sealed)
        try:
            is_saved = self._manager.save(step, args=kinds.Composite(**args))
        except ValueError as error:  # This is tensorstore's form of an error of the system.
            code = re.search(r"os_error_code='(\d+)'", str(error))
            if code is None:
                raise
            raise OSError(int(code[1]), os.strerror(int(code[1]))) from error
        if not is_saved:
            raise RunError(
                f"checkpoint {step} was not saved in {self._folder}, which holds "
                f"{describe_steps(self._folder)}; move the later ones away."
            )

    def close(self) -> None:
        """Ends orbax's threads, which would otherwise complain when the interpreter exits."""
        self._manager.close()


def restore(
    folder: Path,
    shapes: Mapping[str, PyTree],
    optional: Mapping[str, PyTree] = MappingProxyType({}),
    steps: Collection[int] | None = None,
) -> Restored:
    """Restores the newest checkpoint that is whole; newer ones are named on stderr.

    Args:
      folder: folder of the checkpoints, which is only read.
      shapes: groups to restore, as `jax.eval_shape` gives them; other groups are not read.
      optional: groups to restore if the checkpoint has them, as `jax.eval_shape` gives them.
      steps: numbers of the checkpoints that may be restored; None for all.

    Raises:
      NoCheckpointError: no checkpoint is whole.
      CheckpointMismatchError: the newest whole checkpoint holds arrays of other shapes.
    """
    existing = checkpoint_steps(folder)
    unfinished = half_written(folder, newer_than=max(existing, default=-1))
    problems = [f"{step} is half-written" for step in unfinished]
    for step in reversed(existing):
        if steps is not None and step not in steps:
            continue
        try:
            groups, record = _restore(folder / str(step), shapes, optional)
        except _DamageError as error:
            problems.append(f"{step} is damaged ({error})")
            continue
        if problems:
            listed = " and ".join(problems)
            print(f"warning: checkpoint {listed}; using checkpoint {step}.", file=sys.stderr)
        return Restored(step, groups, record)
    found = f"checkpoint {' and '.join(problems)}" if problems else "there is none"
    raise NoCheckpointError(f"no checkpoint in {folder} can be used: {found}.")


def _restore(
    path: Path, shapes: Mapping[str, PyTree], optional: Mapping[str, PyTree]
) -> tuple[dict[str, PyTree], dict[str, Any]]:
    """The groups and the record of a checkpoint; an error of reading them is a `_DamageError`."""
    _keep_orbax_quiet()
    try:
        sealed = _read_sealed(path)
        kept = {name: tree for name, tree in optional.items() if name in sealed["digests"]}
        return _read_groups(path, sealed, {**shapes, **kept}), sealed["values"]
    except (CheckpointMismatchError, _DamageError):
        raise
    except Exception as error:  # Damage shows as any error, from JSON to decompression.
        raise _DamageError(f"{type(error).__name__}: {reason_of(error, 120)}") from error


def _read_sealed(path: Path) -> dict[str, Any]:
    """The sealed record of a checkpoint, which must not be the record of another number."""
    sealed: dict[str, Any] = json.loads((path / _RECORD / "metadata").read_text(encoding="utf-8"))
    if sealed.pop("digest") != _json_digest(sealed):
        raise _DamageError("its record is not what was saved")
    if str(sealed["step"]) != path.name:
        raise _DamageError(f"it was saved as checkpoint {sealed['step']}")
    return sealed


def _read_groups(
    path: Path, sealed: Mapping[str, Any], shapes: Mapping[str, PyTree]
) -> dict[str, PyTree]:
    import orbax.checkpoint as ocp

    for name, tree in shapes.items():
        if difference := first_difference(sealed["shapes"][name], tree):
            raise CheckpointMismatchError(
                f"checkpoint {path.name} in {path.parent} does not fit the settings and the "
                f"environment: {difference}."
            )
    named = {name: named_shapes(tree) for name, tree in shapes.items()}
    args = {name: ocp.args.StandardRestore(tree) for name, tree in named.items() if tree}
    options = _alone()
    handler = ocp.CompositeCheckpointHandler(
        composite_options=ocp.CompositeOptions(multiprocessing_options=options)
    )
    with ocp.Checkpointer(handler, multiprocessing_options=options) as checkpointer:
        restored = checkpointer.restore(path.absolute(), args=ocp.args.Composite(**args))
    arrays = {name: restored[name] if named[name] else {} for name in shapes}
    groups = {name: from_named(arrays[name], tree) for name, tree in shapes.items()}
    for name, tree in groups.items():
        if digest_arrays(tree) != sealed["digests"][name]:
            raise _DamageError(f"its {name} is not what was saved")
    return groups


def _alone() -> Any:
    """Options of orbax for a process that saves and restores alone, beside other processes."""
    import orbax.checkpoint as ocp

    if jax.process_count() == 1:
        return ocp.options.MultiprocessingOptions()
    own = jax.process_index()
    return ocp.options.MultiprocessingOptions(primary_host=own, active_processes={own})


@functools.cache
def _keep_orbax_quiet() -> None:
    """From now on, the caller of orbax alone reports what goes wrong there.

    orbax's threads log pages about an error that they raise. The coroutines that they abandon
    complain when they are collected, one for each array that was being read or written.
    """
    for name in ("absl", "asyncio"):
        logging.getLogger(name).addFilter(lambda log: not _tells_of_orbax(log.getMessage()))
    report = sys.unraisablehook

    def report_others(unraisable: "sys.UnraisableHookArgs") -> None:
        if not _tells_of_orbax(f"{unraisable.object!r} {unraisable.exc_value}"):
            report(unraisable)

    sys.unraisablehook = report_others


def _tells_of_orbax(text: str) -> bool:
    names = ("orbax", "tensorstore", "_SignalingThread", "Event loop is closed")
    return any(name in text for name in names)


def _json_digest(value: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
