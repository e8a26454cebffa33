"""Workers: each has a device, claims runs and brings them to an end, until none are left."""

import dataclasses
import time
from pathlib import Path

import jax

from muzero_jax.config import ConfigError
from muzero_jax.core.errors import DiskError, DoesNotFitError, InterruptedRunError
from muzero_jax.process.signals import StopAsked
from muzero_jax.runs.build import Experiment, build
from muzero_jax.runs.compiled_run import Programs
from muzero_jax.runs.memory import device_memory_bytes, format_bytes, tree_bytes
from muzero_jax.sweeps.block import FAILURES, run_block
from muzero_jax.sweeps.claims import Claim, Grid
from muzero_jax.sweeps.definition import Study, Sweep, group_key
from muzero_jax.sweeps.rounds import RoundTrials
from muzero_jax.sweeps.sweep_progress import SweepProgress
from muzero_jax.sweeps.trials import Trials

Work = Grid | Trials
# This share of the memory is used, so that evaluations and copies for checkpoints find room too.
_USABLE = 0.9


def make_work(sweep: Sweep | Study, folder: Path, num_workers: int, stop: StopAsked) -> Work:
    """Makes what the workers of a process take their runs from.

    Args:
      sweep: the sweep or study.
      folder: the sweep's folder.
      num_workers: how many workers share the runs, in this process and in others.
      stop: is asked while a worker waits for others.
    """
    if isinstance(sweep, Sweep):
        return Grid(sweep.members(), folder, num_workers)
    if sweep.is_deterministic:
        return RoundTrials(folder, sweep, stop)
    return Trials(folder, sweep)


@dataclasses.dataclass
class Worker:
    """One device, with the programs of its last runs: the next runs may need the same.

    Args:
      work: what the worker takes its runs from.
      device: the device.
      num_workers: how many workers this machine has.
      width: how many runs a program advances at once; 0 chooses it, see `size_programs`.
      progress: hears what happens.
      stop: is asked between chunks whether to save and stop.
    """

    work: Work
    device: jax.Device
    num_workers: int
    width: int
    progress: SweepProgress
    stop: StopAsked
    _key: str = ""
    _programs: Programs | None = None

    def run(self) -> None:
        """Claims runs and brings them to an end, until none are left.

        Raises:
          InterruptedRunError: the sweep was stopped; everything is saved.
          DiskError: the disk is full or read-only.
        """
        with jax.default_device(self.device):
            while self.stop.signal_number is None:
                with self.work.claim(self._key) as claim:
                    if claim is None:
                        return
                    self._bring_to_an_end(claim)
                self.progress.end(claim.members)
        raise InterruptedRunError("stopped and saved", self.stop.signal_number)

    def _bring_to_an_end(self, claim: Claim) -> None:
        try:
            began = time.perf_counter()
            programs = self._compiled(claim)
            waited = time.perf_counter() - began
            claim.extend(programs.width)
            begin, keep_going = self.progress.begin, claim.keep_going
            run_block(programs, claim.members, claim.folder, self.stop, begin, waited, keep_going)
        except (InterruptedRunError, DiskError):
            raise
        except DoesNotFitError as error:
            claim.extend(None)  # The other runs of the group do not fit either.
            claim.fail(error)
        except (*FAILURES, ConfigError) as error:
            if isinstance(error, ConfigError) and claim.keep_going is None:
                raise  # The settings of a grid were tried before: the fault is this machine's.
            claim.fail(error)
        claim.end()

    def _compiled(self, claim: Claim) -> Programs:
        """The programs for claimed runs, which may be compiled already."""
        config, num_runs = claim.members[0].config, claim.num_runs
        key = group_key(config)
        if self._programs is None or self._key != key:
            self._key, self._programs = "", None  # Frees memory before others are compiled.
            usable = memory_share(self.device, self.num_workers)
            programs = size_programs(build(config), num_runs, self.device, usable, self.width)
            self._key, self._programs = key, programs
            told = describe_size(programs, num_runs)
            self.progress.note(f"{claim.title} on {self.device}: {told}".lstrip())
        return self._programs


def memory_share(device: jax.Device, num_workers: int) -> int:
    """The bytes that one worker may use: the CPU devices of a machine share its memory."""
    num_sharing = num_workers if device.platform == "cpu" else 1
    return device_memory_bytes(device) // num_sharing


def size_programs(
    experiment: Experiment, num_runs: int, device: jax.Device, memory_bytes: int, width: int = 0
) -> Programs:
    """Compiles the programs of a group of runs.

    On a CPU the width is 1: vmapped runs are not faster there, and with width 1 every run is bit
    for bit the one that is trained alone. Elsewhere the width is the largest that fits.

    Args:
      experiment: parts of any run of the group.
      num_runs: how many runs the group has.
      device: the device that the programs are compiled for.
      memory_bytes: how much memory the programs may use.
      width: how many runs a program advances at once; 0 chooses it.

    Raises:
      DoesNotFitError: not even one run fits, or not as many as `width` says.
    """
    chosen = min(width or (1 if device.platform == "cpu" else num_runs), num_runs)
    usable = round(_USABLE * memory_bytes)
    while True:
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


def describe_size(programs: Programs, num_runs: int) -> str:
    """A sentence about the width of a group's programs, with the numbers."""
    at_once, memory = f"{num_runs} runs, {programs.width} at once", programs.memory
    if memory is None:
        return f"{at_once}; the device does not tell what memory they need"
    sizes = map(format_bytes, (memory.state_bytes, memory.work_bytes, programs.memory_bytes))
    return "{}: {} of state and {} to work in, of {}".format(at_once, *sizes)


def _even_width(num_runs: int, most: int) -> int:
    """The smallest width that needs no more calls than the width `most` needs."""
    num_calls = -(-num_runs // most)
    return -(-num_runs // num_calls)
