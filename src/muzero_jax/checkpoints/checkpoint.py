"""Checkpoints: atomic, rotated, verified, and free of pickle.

A checkpoint holds groups of arrays and a small JSON record, in which stand SHA-256 digests of
everything else. orbax writes it under a temporary name and renames it when it is complete.
"""

import dataclasses
import gc
import hashlib
import json
import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import jax

from muzero_jax.checkpoints.checkpoint_folder import checkpoint_steps, describe_steps, half_written
from muzero_jax.checkpoints.named_arrays import (
    describe_array,
    describe_arrays,
    digest_arrays,
    first_difference,
    from_named,
    named_arrays,
    named_shapes,
)
from muzero_jax.checkpoints.quiet_orbax import leave_reports_to_save, quiet
from muzero_jax.core.errors import (
    CheckpointMismatchError,
    InvalidRunError,
    NoCheckpointError,
    RunError,
)
from muzero_jax.core.types import PyTree

_RECORD = "record"


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


class _DamageError(Exception):
    """What is read is not what was saved."""


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
        leave_reports_to_save()
        self._ocp, self._folder = ocp, folder
        self._manager = ocp.CheckpointManager(folder.absolute(), options=options)

    def save(self, step: int, groups: Mapping[str, PyTree], record: Mapping[str, Any]) -> None:
        """Saves pytrees of arrays, and a record of JSON values.

        Args:
          step: number of the checkpoint, higher than all in the folder.
          groups: the pytrees, by name.
          record: the JSON values, by name.

        Raises:
          OSError: the system did not let it write, such as to a full disk.
          RunError: the folder holds a checkpoint of a higher number.
        """
        args = {
            name: self._ocp.args.StandardSave(named_arrays(tree)) for name, tree in groups.items()
        }
        digests = {name: digest_arrays(tree) for name, tree in groups.items()}
        shapes = {name: describe_arrays(tree) for name, tree in groups.items()}
        sealed: dict[str, Any] = {
            "step": step,
            "values": dict(record),
            "digests": digests,
            "shapes": shapes,
        }
        sealed["digest"] = _json_digest(sealed)
        args[_RECORD] = self._ocp.args.JsonSave(sealed)
        try:
            is_saved = self._manager.save(step, args=self._ocp.args.Composite(**args))
        except ValueError as error:  # tensorstore's form of what the system says.
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
        """Ends orbax's threads; without it they complain when the interpreter exits."""
        self._manager.close()


def restore_newest(
    folder: Path,
    shapes: Mapping[str, PyTree],
    at_most: int | None = None,
    optional: Mapping[str, PyTree] = MappingProxyType({}),
) -> Restored:
    """Restores the newest checkpoint that is whole; newer ones are named on stderr.

    Args:
      folder: folder of the checkpoints; it is only read.
      shapes: the groups to restore, as `jax.eval_shape` gives them; others are not read.
      at_most: checkpoints of higher numbers are left out.
      optional: groups to restore where the checkpoint has them.

    Raises:
      NoCheckpointError: there is none that is whole.
      CheckpointMismatchError: the newest that is whole holds arrays of other shapes.
    """
    steps = checkpoint_steps(folder)
    unfinished = half_written(folder, newer_than=max(steps, default=-1))
    problems = [f"{step} is half-written" for step in unfinished]
    steps = [step for step in steps if at_most is None or step <= at_most]
    unusable: list[int] = []
    for step in reversed(steps):
        attempt = _try_restore(folder / str(step), shapes, optional)
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


def restore_one(
    folder: Path,
    step: int,
    shapes: Mapping[str, PyTree],
    optional: Mapping[str, PyTree] = MappingProxyType({}),
) -> Restored:
    """Restores the checkpoint of a given number.

    Args:
      folder: folder of the checkpoints; it is only read.
      step: number of the checkpoint.
      shapes: groups to restore, as for `restore_newest`.
      optional: groups to restore where the checkpoint has them.

    Raises:
      InvalidRunError: there is no such checkpoint; the message lists those there are.
      NoCheckpointError: the checkpoint is damaged.
      CheckpointMismatchError: the checkpoint holds arrays of other shapes.
    """
    if step not in checkpoint_steps(folder):
        raise InvalidRunError(
            f"{folder} holds no checkpoint {step}; there are {describe_steps(folder)}."
        )
    attempt = _try_restore(folder / str(step), shapes, optional)
    if isinstance(attempt, str):
        raise NoCheckpointError(f"checkpoint {step} in {folder} is damaged ({attempt}).")
    return Restored(step, *attempt, ())


def _try_restore(
    path: Path, shapes: Mapping[str, PyTree], optional: Mapping[str, PyTree]
) -> tuple[dict[str, PyTree], dict[str, Any]] | str:
    """The groups and the record, or what is wrong."""
    with quiet():
        try:
            sealed = _read_sealed(path)
            kept = {name: tree for name, tree in optional.items() if name in sealed["digests"]}
            return _restore(path, sealed, {**shapes, **kept})
        except CheckpointMismatchError:
            raise  # It is whole, but not for this run or process.
        except _DamageError as error:
            reason = str(error)
        except Exception as error:  # Damage shows as any error, from JSON to decompression.
            reason = _one_line(error)
        gc.collect()  # orbax's abandoned coroutines complain when they are collected.
    return reason


def _read_sealed(path: Path) -> dict[str, Any]:
    """The sealed record of a checkpoint, which must be its own and not that of another number."""
    sealed: dict[str, Any] = json.loads((path / _RECORD / "metadata").read_text(encoding="utf-8"))
    if sealed.pop("digest") != _json_digest(sealed):
        raise _DamageError("its record is not what was saved")
    # Records were first sealed without the step; the counters of a run tell it too.
    counters = sealed["values"].get("counters", {})
    step = sealed.get("step", counters.get("env_steps"))
    if step is not None and str(step) != path.name:
        raise _DamageError(f"it was saved as checkpoint {step}")
    return sealed


def _restore(
    path: Path, sealed: Mapping[str, Any], shapes: Mapping[str, PyTree]
) -> tuple[dict[str, PyTree], dict[str, Any]]:
    import orbax.checkpoint as ocp

    for name, tree in shapes.items():
        difference = first_difference(_saved_shapes(path, sealed, name), tree)
        if difference:
            raise CheckpointMismatchError(
                f"checkpoint {path.name} in {path.parent} does not fit the settings and the "
                f"environment: {difference}."
            )
    args = {name: ocp.args.StandardRestore(named_shapes(tree)) for name, tree in shapes.items()}
    options = _alone()
    handler = ocp.CompositeCheckpointHandler(
        composite_options=ocp.CompositeOptions(multiprocessing_options=options)
    )
    with ocp.Checkpointer(handler, multiprocessing_options=options) as checkpointer:
        restored = checkpointer.restore(path.absolute(), args=ocp.args.Composite(**args))
    groups = {name: from_named(restored[name], tree) for name, tree in shapes.items()}
    for name, tree in groups.items():
        if digest_arrays(tree) != sealed["digests"][name]:
            raise _DamageError(f"its {name} is not what was saved")
    return groups, sealed["values"]


def _saved_shapes(path: Path, sealed: Mapping[str, Any], group: str) -> dict[str, str]:
    """What the arrays of a group were when they were saved, by name, such as `float32[8, 4]`."""
    if "shapes" in sealed:
        saved: dict[str, str] = sealed["shapes"][group]
        return saved
    import orbax.checkpoint as ocp  # It knows of checkpoints that were sealed without the shapes.

    arrays = ocp.StandardCheckpointHandler().metadata(path.absolute() / group).tree
    return {name: describe_array(x) for name, x in arrays.items()}


def _alone() -> Any:
    """Options of orbax for a process that saves and restores by itself, whoever else is there."""
    import orbax.checkpoint as ocp

    if jax.process_count() == 1:
        return ocp.options.MultiprocessingOptions()
    own = jax.process_index()
    return ocp.options.MultiprocessingOptions(primary_host=own, active_processes={own})


def _json_digest(value: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _one_line(error: Exception) -> str:
    """The start of an error's message; orbax's can be pages long."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:120]}" if lines else type(error).__name__
