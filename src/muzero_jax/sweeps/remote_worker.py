"""What a Ray worker does for a sweep: it runs blocks on its device, and tells what happens.

Where it sees the sweep's folder it works there, and a run that a dead worker has left is continued
from its checkpoints. Where it does not, it works in a folder of its own and sends the results back.
"""

import queue
import shutil
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax

from muzero_jax.core.errors import DiskError, InterruptedRunError
from muzero_jax.core.trust import trust_everything
from muzero_jax.core.user_code import search_in
from muzero_jax.process.jax_process import prepare_jax
from muzero_jax.runs.build import build
from muzero_jax.runs.compiled_run import Programs
from muzero_jax.runs.memory import device_memory_bytes
from muzero_jax.sweeps.block import FAILURES, give_up, run_block
from muzero_jax.sweeps.definition import Member, Study
from muzero_jax.sweeps.fit import describe_fit, fit_programs
from muzero_jax.sweeps.folder import load_sweep
from muzero_jax.sweeps.study import run_study

# (what, of which member's folder, the rest)
Event = tuple[str, str, Any]


class RemoteWorker:
    """One device of a cluster; Ray calls it from the driver.

    Args:
      folder: path of the sweep's folder on the driver's machine.
      token_file: name of a file that the driver has just written to that folder; a worker that
        finds the file sees the folder.
      num_sharing: how many workers share the memory of this machine.
      code_folders: folders in which the driver looks for the user's own modules, which it has
        admitted.
    """

    def __init__(self, folder: str, token_file: str, num_sharing: int, code_folders: Sequence[str]):
        trust_everything(seals=False)
        search_in([Path(name) for name in code_folders])
        prepare_jax()
        self.is_shared = (Path(folder) / token_file).exists()
        self.folder = Path(folder if self.is_shared else tempfile.mkdtemp(prefix="muzero-sweep-"))
        self.device = jax.local_devices()[0]
        share = num_sharing if self.device.platform == "cpu" else 1
        self.memory_bytes = device_memory_bytes(self.device) // share
        self.signal_number: int | None = None
        self.programs: Programs | None = None

    def fit(self, member: Member, num_runs: int, width: int) -> tuple[int, str]:
        """Compiles the programs of a group; returns how many runs they advance, and tells of it.

        Args:
          member: any of the group.
          num_runs: that this worker may get.
          width: see `fit_programs`.
        """
        self.programs = None
        experiment = build(member.config)
        self.programs = fit_programs(experiment, num_runs, self.device, self.memory_bytes, width)
        return self.programs.width, describe_fit(self.programs, num_runs)

    def run(self, members: Sequence[Member], compile_seconds: float) -> Iterator[Event]:
        """Runs members of the group that was fitted last; gives what happens while it does."""
        events: queue.SimpleQueue[Event | None] = queue.SimpleQueue()

        def work() -> None:
            try:
                self._run(members, compile_seconds, events)
            finally:
                events.put(None)

        threading.Thread(target=work, name="block").start()
        while (event := events.get()) is not None:
            yield event
        for member in members if not self.is_shared else ():
            yield ("files", member.folder, _read_files(self.folder / member.folder))
            shutil.rmtree(self.folder / member.folder)

    def study(self, width: int) -> None:
        """Works on the study of the folder until no trial is left.

        Args:
          width: see `fit_programs`.
        """
        study = load_sweep(self.folder)
        assert isinstance(study, Study)
        try:
            run_study(study, self.folder, num_devices=1, width=width, stop_asked=self)
        except InterruptedRunError:
            return

    def sees_folder(self) -> bool:
        """Whether it works in the driver's folder."""
        return self.is_shared

    def stop(self, signal_number: int) -> None:
        """Asks to save and stop at the next good moment; called beside the other two."""
        self.signal_number = signal_number

    def _run(
        self,
        members: Sequence[Member],
        compile_seconds: float,
        events: "queue.SimpleQueue[Event | None]",
    ) -> None:
        assert self.programs is not None

        def make_display(member: Member) -> _Reporter:
            return _Reporter(member, events)

        try:
            run_block(self.programs, members, self.folder, self, make_display, compile_seconds)
        except InterruptedRunError:
            events.put(("stopped", "", self.signal_number))
        except DiskError as error:
            events.put(("unwritable", "", str(error)))
        except FAILURES as error:
            give_up(members, self.folder, "failed", str(error))


class _Reporter:
    """Sends what a run tells; see `training.progress.Listener`."""

    def __init__(self, member: Member, events: "queue.SimpleQueue[Event | None]"):
        self._folder, self._events = member.folder, events

    def activity(self, text: str) -> None:
        """What is being done now."""
        self._events.put(("activity", self._folder, text))

    def metrics(self, row: Mapping[str, float]) -> None:
        """The counters of a chunk."""
        self._events.put(("metrics", self._folder, {"env_steps": row["env_steps"]}))

    def evaluation(self, row: Mapping[str, float]) -> None:
        """The row of an evaluation."""
        self._events.put(("evaluation", self._folder, {"score_mean": row["score_mean"]}))

    def note(self, text: str) -> None:
        """A line that stays."""
        self._events.put(("note", self._folder, text))


def _read_files(folder: Path) -> dict[str, bytes]:
    """All files below a folder by their path in it."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}
