"""A worker of a Ray cluster: one device, in a process of its own on any machine.

It runs the same loop as a worker of the driver's machine, see `workers.Worker`, and claims its runs
by the same locks. Where it sees the sweep's folder it works there, and continues a run that a dead
worker has left from its checkpoints. Where it does not, it works in a folder of its own, asks the
driver for the locks, and sends the files of its runs when it releases them.
"""

import queue
import shutil
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax

from muzero_jax.config import ConfigError
from muzero_jax.core import user_code
from muzero_jax.core.errors import InterruptedRunError, RunError
from muzero_jax.core.trust import module_of, trust_everything
from muzero_jax.process.jax_process import prepare_jax
from muzero_jax.sweeps.claims import Locks, LockState
from muzero_jax.sweeps.definition import Member, Study, Sweep
from muzero_jax.sweeps.sweep_folder import references_of, sweep_from_dict
from muzero_jax.sweeps.workers import Worker, make_work, memory_share

# What happened, by the name in the driver's `_WorkerThread`, and the arguments.
Message = tuple[Any, ...]


class RayWorker:
    """One device of a cluster; Ray calls it from the driver.

    Args:
      tree: the sweep or study as plain data.
      token: a file that the driver has just written to the sweep's folder; a worker that finds the
        file sees the folder.
      num_workers: how many workers there are; on a CPU they may share this machine's memory.
      code_folders: folders in which the driver finds the user's own modules, which it has admitted.
      width: how many runs a program advances at once; 0 chooses it.
    """

    def __init__(
        self,
        tree: Mapping[str, Any],
        token: Path,
        num_workers: int,
        code_folders: tuple[Path, ...],
        width: int,
    ):
        self.tree, self.width, self.num_workers = tree, width, num_workers
        self.code_folders, self.is_shared = code_folders, token.exists()
        own = None if self.is_shared else tempfile.mkdtemp(prefix="muzero-sweep-")
        self.folder = Path(own or token.parent)
        self.signal_number: int | None = None
        self._messages: queue.SimpleQueue[Message | None] = queue.SimpleQueue()
        self._answers: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def work(self) -> Iterator[Message]:
        """Works until nothing is left; gives what the driver is told and asked meanwhile."""
        errors: list[BaseException] = []

        def work() -> None:
            try:
                self._work()
            except InterruptedRunError as error:
                self._messages.put(("stopped", str(error), error.signal_number))
            except BaseException as error:
                errors.append(error)
            finally:
                self._messages.put(None)

        threading.Thread(target=work, name="work").start()
        while (message := self._messages.get()) is not None:
            yield message
        for error in errors:
            raise error

    def stop(self, signal_number: int) -> None:
        """Asks to save and stop at the next good moment."""
        self.signal_number = signal_number

    def answer(self, value: Any) -> None:
        """Answers the last message."""
        self._answers.put(value)

    def _work(self) -> None:
        trust_everything(seals=False)
        user_code.search_in(self.code_folders)
        prepare_jax()
        sweep = self._read()
        progress: Any = _Messenger(self._messages.put)
        locks = Locks(self.folder)
        if not self.is_shared:
            locks = _DriversLocks(self.folder, self._messages.put, self._answers.get)
        work = make_work(sweep, locks, self.num_workers, progress, self)
        device = jax.local_devices()[0]
        memory_bytes = memory_share(device, self.num_workers)
        Worker(work, device, memory_bytes, self.width, progress, self).run()

    def _read(self) -> Sweep | Study:
        """The sweep, after making sure that this machine has what it needs.

        Raises:
          ConfigError: a module of the user's own is not found.
          RunError: a study's folder is not seen.
        """
        host = socket.gethostname()
        for name in map(module_of, references_of(self.tree)):
            if user_code.locate(name) is None:
                where = ", ".join(map(str, self.code_folders))
                raise ConfigError(
                    f"the Ray worker on {host} does not find the module {name!r} in {where}; put "
                    "it where all machines see it."
                )
        sweep = sweep_from_dict(self.tree)
        if isinstance(sweep, Study) and not self.is_shared:
            raise RunError(
                f"the Ray worker on {host} does not see the study's folder; put it where all "
                "machines see it."
            )
        return sweep


class _Messenger:
    """Stands for the driver's `SweepProgress`, or a run's listener: each call becomes a message."""

    def __init__(self, send: Callable[[Message], None], *first: str):
        self._send, self._first = send, first

    def __getattr__(self, name: str) -> Callable[[Any], Any]:
        return lambda content: self._send((*self._first, name, content))

    def begin(self, member: Member) -> Any:
        """Tells that a run is taken up; the run tells what it does to the object returned."""
        self._send(("begin", member))
        return _Messenger(self._send, "tell", member.folder)


class _DriversLocks(Locks):
    """The locks that the driver holds for a worker that does not see the sweep's folder."""

    def __init__(
        self, folder: Path, send: Callable[[Message], None], receive: Callable[[], LockState]
    ):
        super().__init__(folder)
        self._send, self._receive = send, receive

    def claim(self, member: Member) -> LockState:
        """Asks the driver to lock a run."""
        self._send(("claim", member))
        state = self._receive()
        if state == "claimed":
            (self.folder / member.folder).mkdir(parents=True)
        return state

    def release(self, member: Member) -> None:
        """Sends the files of a run, and lets the driver unlock the run."""
        run_dir = self.folder / member.folder
        self._send(("release", member, _read_files(run_dir)))
        shutil.rmtree(run_dir)


def _read_files(folder: Path) -> dict[str, bytes]:
    """All files below a folder by their path in it."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}
