"""Sweeps over a Ray cluster: the driver starts a worker for each device, and listens to it.

A worker is a process on any machine that sees the sweep's folder. It runs the same loop as a worker
of one machine, and claims runs by the same locks; so it takes up what a lost worker has left.
"""

import collections
import contextlib
import dataclasses
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
from muzero_jax.core.trust import code_references, module_of, seal_folder, trust_everything
from muzero_jax.process.jax_process import prepare_jax
from muzero_jax.reports.extras import import_extra
from muzero_jax.settings import config_to_dict
from muzero_jax.sweeps.definition import Member, Study, Sweep
from muzero_jax.sweeps.sweep_folder import references_of, sweep_from_dict
from muzero_jax.sweeps.sweep_progress import Stop, SweepProgress
from muzero_jax.sweeps.sweep_state import MemberProgress
from muzero_jax.sweeps.workers import Worker, make_work

# How many workers one thread may lose. A run that kills its worker every time is given up then.
_MOST_LOSSES = 10
_SECONDS_BETWEEN_NEWS = 0.2
# What happened, by the name in the driver's `_WorkerThread`, and the arguments.
Message = tuple[Any, ...]


class RayCluster(contextlib.ExitStack):
    """A connection to a Ray cluster, which the context ends; the driver itself computes nothing.

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
          folder: the sweep's folder.
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
        resources: dict[str, Any] = {f"num_{self.kind.lower()}s": 1}
        # `exchange` is called while `work` goes on.
        actor = self.ray.remote(RayWorker).options(max_concurrency=2, **resources)
        arguments = (tree, token, self.num_workers, tuple(code_folders), width)
        make_worker = functools.partial(actor.remote, *arguments)
        thread = functools.partial(_WorkerThread, self.ray, make_worker, folder, progress, stop)
        return [thread().run for _ in range(self.num_workers)]


def _connect(address: str) -> Any:
    """Ray, connected to a cluster."""
    ray: Any = import_extra("ray", purpose="Sweeps over a cluster", package="Ray", extra="ray")
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    try:
        if colon and port.isdecimal():  # Ray itself waits for minutes where nobody listens.
            socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()
        ray.init(address=address, log_to_driver=False, configure_logging=False)
    except Exception as error:  # ConnectionError, ValueError, RuntimeError, by the kind of address.
        reason = " ".join(str(error).split())[:200]
        raise ConfigError(f"no Ray cluster answers at {address!r}: {reason}") from error
    return ray


@dataclasses.dataclass
class _WorkerThread:
    """Starts a Ray worker, and does what its messages say; a worker that is lost is replaced."""

    ray: Any
    make_worker: Callable[[], Any]
    folder: Path
    progress: SweepProgress
    stop: Stop
    running: dict[str, MemberProgress] = dataclasses.field(default_factory=dict)

    def run(self) -> None:
        """Lets a worker work until nothing is left; starts another worker where it is lost."""
        for _ in range(_MOST_LOSSES + 1):
            try:
                return self._follow(self.make_worker())
            except self.ray.exceptions.RayTaskError as error:
                raise error.cause from None
            except self.ray.exceptions.RayActorError:
                self.progress.end([run.member for run in self.running.values()])
                self.running.clear()
                self.progress.note("a worker was lost; another takes up what it had")
        raise RunError(f"{_MOST_LOSSES + 1} workers were lost in one place.")

    def _follow(self, worker: Any) -> None:
        handlers: Mapping[str, Callable[..., Any]] = {
            **{"begin": self._begin, "tell": self._tell, "end": self._end},
            "note": self.progress.note,
        }
        work, ended = worker.work.remote(), list[Any]()
        while not ended:
            ended, _ = self.ray.wait([work], timeout=_SECONDS_BETWEEN_NEWS)
            for name, *arguments in self.ray.get(worker.exchange.remote(self.stop.signal_number)):
                handlers[name](*arguments)
        if (signal_number := self.ray.get(work)) is not None:
            raise InterruptedRunError("stopped and saved", signal_number)

    def _begin(self, member: Member) -> None:
        self._seal([member])
        self.running[member.folder] = self.progress.begin(member)

    def _tell(self, folder: str, method: str, content: Any) -> None:
        getattr(self.running[folder], method)(content)

    def _end(self, members: Sequence[Member]) -> None:
        self._seal(members)
        for member in members:
            self.running.pop(member.folder, None)
        self.progress.end(members)

    def _seal(self, members: Sequence[Member]) -> None:
        """Seals run folders with the key of the driver's user; the workers seal nothing."""
        for member in members:
            run_dir = self.folder / member.folder
            if references := code_references(config_to_dict(member.config)):
                run_dir.mkdir(parents=True, exist_ok=True)
                seal_folder(run_dir, references)


@dataclasses.dataclass
class RayWorker:
    """One device of a cluster, in a process of its own; Ray calls it from the driver.

    Args:
      tree: the sweep or study as plain data.
      token: a file that the driver has just written to the sweep's folder; a worker that finds the
        file sees the folder.
      num_workers: how many workers there are; on a CPU they may share this machine's memory.
      code_folders: folders in which the driver finds the user's own modules, which it has admitted.
      width: how many runs a program advances at once; 0 chooses it.
    """

    tree: Mapping[str, Any]
    token: Path
    num_workers: int
    code_folders: tuple[Path, ...]
    width: int
    signal_number: int | None = None
    _messages: collections.deque[Message] = dataclasses.field(default_factory=collections.deque)

    def work(self) -> int | None:
        """Works until nothing is left; returns the signal that has stopped it, or None."""
        trust_everything(seals=False)
        user_code.search_in(self.code_folders)
        prepare_jax()
        self._check_machine()
        progress: Any = _Messenger(self._messages.append)
        work = make_work(sweep_from_dict(self.tree), self.token.parent, self.num_workers, self)
        device = jax.local_devices()[0]
        try:
            Worker(work, device, self.num_workers, self.width, progress, self).run()
        except InterruptedRunError as error:
            return error.signal_number
        return None

    def exchange(self, signal_number: int | None) -> list[Message]:
        """Hears whether to save and stop, and tells what has happened since the last call."""
        self.signal_number = signal_number
        return [self._messages.popleft() for _ in range(len(self._messages))]

    def _check_machine(self) -> None:
        """Refuses a machine that lacks what the sweep needs."""
        told = f"the Ray worker on {socket.gethostname()} does not"
        for name in map(module_of, references_of(self.tree)):
            if user_code.locate(name) is None:
                where = ", ".join(map(str, self.code_folders))
                raise ConfigError(
                    f"{told} find the module {name!r} in {where}; put it where all machines see it."
                )
        if not self.token.exists():
            folder = self.token.parent
            raise ConfigError(
                f"{told} see the sweep's folder {folder}; put it where all machines see it."
            )


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
