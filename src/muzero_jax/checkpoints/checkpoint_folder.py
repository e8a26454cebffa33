"""The numbers of the checkpoints in a folder. No checkpoint is read, and JAX is not imported."""

import re
import shutil
from collections.abc import Iterable
from pathlib import Path

# orbax writes no leading zeros, and `isdigit` would accept digits that `int` cannot read.
_NUMBER = re.compile(r"0|[1-9][0-9]*")


def checkpoint_steps(folder: Path) -> list[int]:
    """Numbers of the complete checkpoints, ascending."""
    return sorted(int(name) for name in _names(folder) if _NUMBER.fullmatch(name))


def half_written(folder: Path, newer_than: int) -> list[int]:
    """Numbers above `newer_than` of the checkpoints that a killed process left half-written."""
    found = (re.match(r"([0-9]+)\..*tmp", name) for name in _names(folder))
    return sorted({int(m[1]) for m in found if m and int(m[1]) > newer_than})


def _names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()] if folder.is_dir() else []


def describe_steps(folder: Path) -> str:
    """The numbers of the complete checkpoints, for a message."""
    return ", ".join(map(str, checkpoint_steps(folder))) or "none"


def discard_after(folder: Path, step: int) -> None:
    """Removes checkpoints of higher numbers than `step`, which the run is about to make again."""
    for later in [s for s in checkpoint_steps(folder) if s > step]:
        shutil.rmtree(folder / str(later))


def set_aside(folder: Path, steps: Iterable[int]) -> None:
    """Moves damaged checkpoints to `damaged/` beside the folder, out of the way of new ones."""
    for step in steps:
        target = folder.with_name("damaged") / str(step)
        target.parent.mkdir(exist_ok=True)
        shutil.rmtree(target, ignore_errors=True)
        (folder / str(step)).rename(target)
