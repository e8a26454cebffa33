"""What the names in a folder of checkpoints tell. No checkpoint is read; JAX is not imported."""

import re
import shutil
from collections.abc import Iterable
from pathlib import Path

# orbax writes no leading zeros; and `isdigit` would admit digits that `int` does not read.
_NUMBER = re.compile(r"0|[1-9][0-9]*")


def checkpoint_steps(folder: Path) -> list[int]:
    """Numbers of the complete checkpoints, ascending."""
    names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    return sorted(int(name) for name in names if _NUMBER.fullmatch(name))


def half_written(folder: Path, newer_than: int) -> list[int]:
    """Numbers of the checkpoints that a killed process left under their temporary names.

    Args:
      folder: folder of the checkpoints.
      newer_than: only higher numbers than this one are given.
    """
    names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    steps = {int(m[1]) for m in (re.match(r"([0-9]+)\..*tmp", name) for name in names) if m}
    return [step for step in sorted(steps) if step > newer_than]


def describe_steps(folder: Path) -> str:
    """The numbers of the complete checkpoints, for a message."""
    return ", ".join(map(str, checkpoint_steps(folder))) or "none"


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
