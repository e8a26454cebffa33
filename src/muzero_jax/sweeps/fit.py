"""How many runs one compiled program advances at once, so that they fit the device."""

import jax

from muzero_jax.core.errors import DoesNotFitError
from muzero_jax.runs.build import Experiment
from muzero_jax.runs.compiled_run import Programs
from muzero_jax.runs.memory import format_bytes, tree_bytes

# Of the memory, so that evaluations and copies for checkpoints find room as well.
_USABLE = 0.9


def fit_programs(
    experiment: Experiment,
    num_runs: int,
    device: jax.Device,
    memory_bytes: int,
    width: int = 0,
) -> Programs:
    """Compiles the programs of a group of runs.

    On a CPU vmapped runs are not faster than runs in turn, and their matrix products add in another
    order; there the width is 1, and every run is bit for bit the one that is trained alone.
    Elsewhere it is the largest that fits, by the memory analysis of the compiled program itself.

    Args:
      experiment: the parts of any of the runs.
      num_runs: in the group.
      device: to compile for.
      memory_bytes: that they may use.
      width: runs at once; chosen where 0.

    Raises:
      DoesNotFitError: not even one run fits, or not as many as `width` says.
    """
    chosen = min(width, num_runs) if width else _first_width(device, num_runs)
    while True:
        usable = round(_USABLE * memory_bytes)
        programs = Programs(experiment, chosen, device, usable)
        most = usable // tree_bytes(programs.shapes)
        if not width and 1 < most < chosen:
            chosen = _even_width(num_runs, most)
            continue
        try:
            programs.compile()
        except DoesNotFitError:
            if width or chosen == 1 or programs.memory is None:
                raise
            most = usable * chosen // programs.memory.total_bytes
            chosen = _even_width(num_runs, max(1, min(most, chosen - 1)))
        else:
            return programs


def describe_fit(programs: Programs, num_runs: int) -> str:
    """How a group was fitted, with the numbers, for people."""
    at_once = f"{num_runs} runs, {programs.width} at once"
    if programs.memory is None:
        return f"{at_once}; the device does not tell what memory they need"
    return (
        f"{at_once}: {format_bytes(programs.memory.state_bytes)} of state and "
        f"{format_bytes(programs.memory.work_bytes)} to work in, of "
        f"{format_bytes(programs.memory_bytes)}"
    )


def _first_width(device: jax.Device, num_runs: int) -> int:
    return 1 if device.platform == "cpu" else num_runs


def _even_width(num_runs: int, most: int) -> int:
    """The width with which as many calls as `most` needs are filled evenly."""
    num_calls = -(-num_runs // most)
    return -(-num_runs // num_calls)
