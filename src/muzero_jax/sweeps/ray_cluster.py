"""The driver of a sweep over a Ray cluster: starts a worker for each device, and listens to it."""

import contextlib
import functools
import socket
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax

from muzero_jax.config import ConfigError
from muzero_jax.core import user_code
from muzero_jax.core.errors import InterruptedRunError, RunError
from muzero_jax.core.file_names import OUTCOME_FILE, RESULT_FILE
from muzero_jax.core.files import replacing
from muzero_jax.core.trust import code_references, module_of, seal_folder
from muzero_jax.reports.extras import import_extra
from muzero_jax.settings import config_to_dict
from muzero_jax.sweeps.claims import Locks
from muzero_jax.sweeps.definition import Member, Study, Sweep
from muzero_jax.sweeps.ray_worker import RayWorker
from muzero_jax.sweeps.sweep_folder import references_of
from muzero_jax.sweeps.sweep_progress import Stop, SweepProgress
from muzero_jax.tracking.progress import Listener

# How many workers one thread may lose. A run that kills its worker every time is given up then.
_MOST_LOSSES = 10


class RayCluster(contextlib.ExitStack):
    """A connection to a Ray cluster, which the context ends.

    This process, the driver, computes nothing: it leaves the accelerators to the workers.

    Args:
      address: the cluster's address; `auto` finds the cluster of this machine, `local` starts one.

    Raises (when constructed):
      ConfigError: Ray is not installed, or nobody answers.
    """

    def __init__(self, address: str):
        super().__init__()
        jax.config.update("jax_platforms", "cpu")
        self.ray = _connect(address)  # Before JAX has threads, which do not go with Ray's forks.
        self.callback(self.ray.shutdown)
        resources = self.ray.cluster_resources()
        self.kind = "GPU" if resources.get("GPU") else "CPU"
        self.num_workers = max(int(resources.get(self.kind, 1)), 1)

    def __str__(self) -> str:
        return f"{self.num_workers} Ray workers ({self.kind})"

    def make_workers(
        self, sweep: Sweep | Study, folder: Path, width: int, progress: SweepProgress, stop: Stop
    ) -> list[Callable[[], None]]:
        """Functions that each keep one worker busy until nothing is left.

        Args:
          sweep: the sweep or study.
          folder: the sweep's folder on this machine.
          width: how many runs a program advances at once; 0 chooses it.
          progress: hears what happens.
          stop: asks the workers to save and stop.
        """
        token = folder.absolute() / f".{uuid.uuid4().hex}.token"
        token.touch()
        self.callback(token.unlink, missing_ok=True)
        # The driver has decided whose code is run; its workers are told so, and where it lies.
        # A module of the user's own must be found before an object of it can be sent.
        tree = sweep.to_dict()
        found = [user_code.folder_of(module_of(name)) for name in references_of(tree)]
        code_folders = dict.fromkeys([*filter(None, found), *user_code.search_folders()])
        arguments = (tree, token, self.num_workers, tuple(code_folders), width)
        resources: dict[str, Any] = {f"num_{self.kind.lower()}s": 1}
        # `stop` and `answer` are called while `work` goes on.
        actor = self.ray.remote(RayWorker).options(max_concurrency=2, **resources)
        make_worker = functools.partial(actor.remote, *arguments)
        return [
            _WorkerThread(self.ray, make_worker, folder, progress, stop).run
            for _ in range(self.num_workers)
        ]


def _connect(address: str) -> Any:
    """Ray, connected to a cluster."""
    try:
        ray = import_extra("ray", purpose="Sweeps over a cluster", package="Ray", extra="ray")
    except ImportError as error:
        raise ConfigError(str(error)) from error
    try:
        _knock(address)
        ray.init(address=address, log_to_driver=False, configure_logging=False)
    except Exception as error:  # ConnectionError, ValueError, RuntimeError, by the kind of address.
        reason = " ".join(str(error).split())[:200]
        raise ConfigError(f"no Ray cluster answers at {address!r}: {reason}") from error
    return ray


def _knock(address: str) -> None:
    """Raises `OSError` at once where nobody listens; Ray itself waits for minutes."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if colon and port.isdecimal():
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()


class _WorkerThread:
    """Starts a Ray worker, and does what its messages say; a worker that is lost is replaced."""

    def __init__(
        self,
        ray: Any,
        make_worker: Callable[[], Any],
        folder: Path,
        progress: SweepProgress,
        stop: Stop,
    ):
        self._ray, self._make_worker, self._folder = ray, make_worker, folder
        self._progress, self._stop, self._locks = progress, stop, Locks(folder)
        self._running: dict[str, tuple[Member, Listener]] = {}
        self._handlers: dict[str, Callable[..., Any]] = {"tell": self._tell, "note": progress.note}
        self._handlers |= {"expect": progress.expect, "begin": self._begin, "end": self._end}
        self._handlers |= {"claim": self._locks.claim, "release": self._release}

    def run(self) -> None:
        """Lets a worker work until nothing is left; starts another worker where it is lost."""
        for _ in range(_MOST_LOSSES + 1):
            try:
                return self._listen(self._make_worker())
            except self._ray.exceptions.RayTaskError as error:
                raise error.cause from None
            except self._ray.exceptions.RayActorError:
                self._locks.release_all()
                self._progress.end([member for member, _ in self._running.values()])
                self._running.clear()
                self._progress.note("a worker was lost; another takes up what it had")
        raise RunError(f"{_MOST_LOSSES + 1} workers were lost in one place.")

    def _listen(self, worker: Any) -> None:
        was_told = False
        for reference in worker.work.options(num_returns="streaming").remote():
            name, *arguments = self._ray.get(reference)
            if name == "stopped":
                raise InterruptedRunError(*arguments)
            answer = self._handlers[name](*arguments)
            if name == "claim":
                worker.answer.remote(answer)
            if self._stop.signal_number is not None and not was_told:
                worker.stop.remote(self._stop.signal_number)
                was_told = True

    def _begin(self, member: Member) -> None:
        self._seal([member])
        self._running[member.folder] = (member, self._progress.begin(member))

    def _tell(self, folder: str, method: str, content: Any) -> None:
        getattr(self._running[folder][1], method)(content)

    def _end(self, members: Sequence[Member]) -> None:
        self._seal(members)
        for member in members:
            self._running.pop(member.folder, None)
        self._progress.end(members)

    def _release(self, member: Member, files: Mapping[str, bytes]) -> None:
        _write_files(self._folder / member.folder, files)
        self._locks.release(member)

    def _seal(self, members: Sequence[Member]) -> None:
        """Seals run folders with the key of the driver's user; the workers seal nothing."""
        for member in members:
            run_dir = self._folder / member.folder
            if references := code_references(config_to_dict(member.config)):
                run_dir.mkdir(parents=True, exist_ok=True)
                seal_folder(run_dir, references)


def _write_files(folder: Path, files: Mapping[str, bytes]) -> None:
    """Writes what a worker has sent; the file that says that a run is over comes last."""
    for name in sorted(files, key=lambda name: name in (RESULT_FILE, OUTCOME_FILE)):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary:
            temporary.write_bytes(files[name])
