"""Checks before anything is allocated whether a run fits into the device's memory."""

import dataclasses
import math
import os
from pathlib import Path
from typing import Any

import jax

from muzero_jax.config import ExperimentConfig
from muzero_jax.core.errors import DoesNotFitError
from muzero_jax.core.types import PyTree
from muzero_jax.training.train_state import TrainState

# Memory limits of a container. "max", or a number beyond any memory, means that there is none.
_CGROUP_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


def tree_bytes(tree: PyTree) -> int:
    """Bytes of the arrays of a pytree, or of its `jax.eval_shape`."""
    return sum(math.prod(x.shape) * x.dtype.itemsize for x in jax.tree.leaves(tree))


def device_memory_bytes(device: jax.Device) -> int:
    """Bytes that programs may use on a device; on a CPU the memory of the machine or container."""
    stats = device.memory_stats() or {}
    if "bytes_limit" in stats:
        return int(stats["bytes_limit"])
    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for path in map(Path, _CGROUP_LIMITS):
        text = path.read_text(encoding="utf-8").strip() if path.is_file() else ""
        limits += [int(text)] if text.isdigit() else []
    return min(limits)


@dataclasses.dataclass(frozen=True)
class ProgramMemory:
    """The memory that a compiled program needs: for its arguments, and to work in."""

    state_bytes: int
    work_bytes: int

    @property
    def total_bytes(self) -> int:
        """Bytes of the arguments and of the work together."""
        return self.state_bytes + self.work_bytes


def program_memory(compiled: Any) -> ProgramMemory | None:
    """The memory of a compiled program; None on devices that do not tell."""
    found = compiled.memory_analysis()
    if found is None:
        return None
    new_output_bytes = found.output_size_in_bytes - found.alias_size_in_bytes
    return ProgramMemory(found.argument_size_in_bytes, found.temp_size_in_bytes + new_output_bytes)


def check_state_fits(config: ExperimentConfig, state: TrainState, available_bytes: int) -> None:
    """Refuses a state that is larger than the memory.

    Args:
      config: settings of the run, for the message.
      state: training state, or its `jax.eval_shape`.
      available_bytes: bytes that the device has.

    Raises:
      DoesNotFitError: the message holds the sizes, and the replay capacity that would fit.
    """
    all_bytes, has = tree_bytes(state), f"the device has {format_bytes(available_bytes)}"
    if all_bytes <= available_bytes:
        return
    if config.replay is None:
        raise DoesNotFitError(
            f"the run takes {format_bytes(all_bytes)}, but {has}; lower training.num_envs or the "
            "network's sizes."
        )
    capacity, replay_bytes = config.replay.capacity, tree_bytes(state.replay)
    other_bytes = all_bytes - replay_bytes
    possible = max(available_bytes - other_bytes, 0) * capacity // replay_bytes
    raise DoesNotFitError(
        f"replay.capacity = {capacity:,} transitions take {format_bytes(replay_bytes)} and the "
        f"rest of the run {format_bytes(other_bytes)}, but {has}; at most about {possible:,} "
        "transitions would fit."
    )


def check_program_fits(memory: ProgramMemory | None, available_bytes: int) -> None:
    """Refuses a compiled chunk that needs more memory than there is, before it is run.

    Raises:
      DoesNotFitError: the message holds the sizes.
    """
    if memory is not None and memory.total_bytes > available_bytes:
        raise DoesNotFitError(
            f"the compiled loop needs {format_bytes(memory.state_bytes)} for its state and "
            f"{format_bytes(memory.work_bytes)} to work in, but the device has "
            f"{format_bytes(available_bytes)}; lower replay.capacity, replay.batch_size, "
            "training.num_envs or the network's sizes."
        )


def format_bytes(num_bytes: int) -> str:
    """A size as text, in MiB or GiB."""
    unit, power = ("GiB", 30) if num_bytes >= 2**30 else ("MiB", 20)
    return f"{num_bytes / 2**power:.3g} {unit}"
