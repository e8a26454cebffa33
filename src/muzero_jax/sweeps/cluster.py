"""A sweep over a Ray cluster: a worker for each device, and the driver's folder for all results."""

import contextlib
import functools
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax

from muzero_jax.config import ConfigError
from muzero_jax.core.errors import DiskError, DoesNotFitError, InterruptedRunError, RunError
from muzero_jax.core.file_names import MEMBERS_FOLDER, OUTCOME_FILE, RESULT_FILE
from muzero_jax.core.files import replacing
from muzero_jax.core.trust import code_references, seal_folder
from muzero_jax.core.user_code import search_folders
from muzero_jax.runs.build import build
from muzero_jax.sweeps.block import give_up, is_over
from muzero_jax.sweeps.board import Board, stoppable
from muzero_jax.sweeps.definition import Member, Study, Sweep, group_members
from muzero_jax.sweeps.folder import opened_sweep, references_of
from muzero_jax.sweeps.lanes import Queue, Stop, in_threads
from muzero_jax.sweeps.ray_connection import connect
from muzero_jax.sweeps.remote_worker import RemoteWorker
from muzero_jax.tracking.wandb_sink import check_login

# How many workers one place may lose. A run that kills its worker every time is given up then.
_MOST_LOSSES = 10


def run_on_cluster(
    sweep: Sweep | Study, folder: Path, address: str, *, width: int = 0
) -> dict[str, int]:
    """Runs a sweep or a study, or what is left of it, on all devices of a Ray cluster.

    Args:
      sweep: what to run.
      folder: of the sweep, see `grid.run_sweep`; for a study all workers must see it.
      address: of the cluster; `auto` finds the one of this machine, `local` starts one.
      width: runs that a program advances at once; chosen where 0, see `fit_programs`.

    Returns:
      How many runs are finished, failed and so on.

    Raises:
      ConfigError: a setting cannot work, or there is no such cluster; nothing is started.
      InterruptedRunError: it was stopped; everything is saved.
    """
    if isinstance(sweep, Study) and sweep.is_deterministic:
        raise ConfigError(
            "a deterministic study is run by one process, with the devices of its machine; leave "
            "out --ray or --deterministic."
        )
    members = sweep.members() if isinstance(sweep, Sweep) else []
    check_login([sweep.base, *(group[0].config for group in group_members(members))])
    # The driver computes nothing: the accelerators are the workers'.
    jax.config.update("jax_platforms", "cpu")
    ray = connect(address)  # Before JAX has threads, which do not go with Ray's forks.
    try:
        groups = group_members(members)
        for config in [group[0].config for group in groups] or [sweep.base]:
            build(config)
        resources = ray.cluster_resources()
        kind = "GPU" if resources.get("GPU") else "CPU"
        num_workers = max(int(resources.get(kind, 1)), 1)
        title = f"{sweep.describe()}, on {num_workers} Ray workers ({kind}): {folder}"
        is_shared, steps = isinstance(sweep, Study), sweep.base.total_env_steps
        board = Board(folder, sweep.varied, title, sweep.num_runs, steps, is_shared)
        board.expect(members)
        with opened_sweep(folder, sweep), board, _token(folder) as token_file:
            pool = _Pool(ray, folder, token_file, kind, num_workers, references_of(sweep))
            _work_off(pool, board, groups, folder, width)
        return board.counts()
    finally:
        ray.shutdown()


def _work_off(
    pool: "_Pool", board: Board, groups: Sequence[Sequence[Member]], folder: Path, width: int
) -> None:
    """Keeps every worker busy until nothing is left; without groups with trials of a study."""
    left = [[m for m in group if not is_over(folder / m.folder)] for group in groups]
    queue = Queue(left)
    with stoppable(board) as stop:

        def work() -> None:
            place = _Place(pool, queue, left, board, stop, folder, width)
            return place.work() if groups else place.study()

        in_threads([work] * pool.num_workers, stop)


@contextlib.contextmanager
def _token(folder: Path) -> Iterator[str]:
    """A file by which workers tell whether they see this folder."""
    path = folder / f".{uuid.uuid4().hex}.token"
    path.touch()
    try:
        yield path.name
    finally:
        path.unlink()


class _Pool:
    """Makes workers.

    Args:
      ray: the package, connected to the cluster.
      folder: the sweep's folder.
      token_file: name of a file in it, by which workers tell whether they see it.
      kind: the resource that a worker needs, `GPU` or `CPU`.
      num_workers: how many workers there are.
      references: the names of code outside this package in the sweep.
    """

    def __init__(
        self,
        ray: Any,
        folder: Path,
        token_file: str,
        kind: str,
        num_workers: int,
        references: Sequence[str],
    ):
        self.ray, self.num_workers, self.references = ray, num_workers, references
        # The driver has decided whose code is run; its workers are told so, and where it lies.
        code_folders = tuple(map(str, search_folders()))
        self._arguments = (str(folder.absolute()), token_file, num_workers, code_folders)
        resources: dict[str, Any] = {"num_gpus": 1} if kind == "GPU" else {"num_cpus": 1}
        # `stop` is called while `run` goes on.
        self._worker = ray.remote(RemoteWorker).options(max_concurrency=2, **resources)

    def make_worker(self) -> Any:
        return self._worker.remote(*self._arguments)


class _Place:
    """A worker's place, and the thread that keeps it busy; a worker that is lost is replaced."""

    def __init__(
        self,
        pool: _Pool,
        queue: Queue,
        left: Sequence[Sequence[Member]],
        board: Board,
        stop: Stop,
        folder: Path,
        width: int,
    ):
        self.pool, self.queue, self.left, self.board = pool, queue, left, board
        self.stop, self.folder, self.width = stop, folder, width
        self.worker: Any = None
        self.num_losses = 0

    def work(self) -> None:
        """Takes runs until none are left."""
        group, compile_seconds = None, 0.0
        while (group := self.queue.choose_group(group, compile_seconds)) is not None:
            if self.stop.signal_number is not None:
                raise InterruptedRunError("stopped and saved", self.stop.signal_number)
            compile_seconds = self._work_on(group)

    def study(self) -> None:
        """Lets a worker choose and run trials until none are left."""
        while self._guard(self._study) is None:
            pass

    def _study(self) -> bool:
        ray, was_told = self.pool.ray, False
        if not ray.get(self.worker.sees_folder.remote()):
            raise RunError(
                f"a worker of the study does not see its folder {self.folder}; put it where all "
                "machines see it."
            )
        call = self.worker.study.remote(self.width)
        try:
            while not ray.wait([call], timeout=1.0)[0]:
                self.board.refresh()
                if self.stop.signal_number is not None and not was_told:
                    self.worker.stop.remote(self.stop.signal_number)
                    was_told = True
            ray.get(call)
        finally:
            # Which trial has which code only the worker knows, so that each seal covers all of it.
            for run_dir in self.folder.glob(f"{MEMBERS_FOLDER}/*/*"):
                seal_folder(run_dir, self.pool.references)
        self.board.refresh()
        if self.stop.signal_number is not None:
            raise InterruptedRunError("stopped and saved", self.stop.signal_number)
        return True

    def _work_on(self, group: int) -> float:
        """Ends all runs of a group that this place can get; returns the seconds of compiling."""
        num_runs = -(-len(self.left[group]) // self.pool.num_workers)
        began = time.perf_counter()
        try:
            fitted = self._guard(lambda: self._fit(group, num_runs))
        except DoesNotFitError as error:
            members = self.queue.take(group, len(self.left[group]))
            give_up(members, self.folder, "failed", str(error))
            self.board.end(members)
            return 0.0
        if fitted is None:
            return 0.0
        compile_seconds = waited = time.perf_counter() - began
        while members := self.queue.take(group, fitted):
            began = time.perf_counter()
            if self._guard(functools.partial(self._run, members, waited)) is None:
                lost = [m for m in members if not is_over(self.folder / m.folder)]
                self.board.end(members)
                self.queue.give_back(group, lost)
                return 0.0
            self.board.end(members)
            self.queue.record((time.perf_counter() - began) / len(members))
            waited = 0.0
        return compile_seconds

    def _guard(self, call: Callable[[], Any]) -> Any:
        """What a call of the worker gives; None where the worker is lost."""
        if self.worker is None:
            self.worker = self.pool.make_worker()
        errors = self.pool.ray.exceptions
        try:
            return call()
        except errors.RayTaskError as error:
            raise error.as_instanceof_cause() from None
        except errors.RayActorError as error:
            self.worker = None
            self.num_losses += 1
            if self.num_losses > _MOST_LOSSES:
                raise RunError(f"{self.num_losses} workers were lost in one place.") from error
            self.board.note("a worker was lost; another takes up what it had")
            return None

    def _fit(self, group: int, num_runs: int) -> int:
        member = self.left[group][0]
        width, told = self.pool.ray.get(self.worker.fit.remote(member, num_runs, self.width))
        self.board.note(f"group {group + 1} of {len(self.left)}: {told}")
        return int(width)

    def _run(self, members: Sequence[Member], compile_seconds: float) -> bool:
        """Lets the worker run, and hands on what it tells until it ends."""
        displays = {member.folder: self.board.begin(member) for member in members}
        for member in members:
            # The key is this user's, so that the worker seals nothing. The seal comes first: where
            # the driver is killed, the worker has perhaps made the run folder already.
            _seal(self.folder / member.folder, member)
        stream = self.worker.run.options(num_returns="streaming")
        stopped: int | None = None
        was_told = False
        for reference in stream.remote(list(members), compile_seconds):
            kind, name, content = self.pool.ray.get(reference)
            if kind == "stopped":
                stopped = content
            elif kind == "unwritable":
                raise DiskError(content)
            elif kind == "files":
                _write_files(self.folder / name, content)
            else:
                getattr(displays[name], kind)(content)
            if self.stop.signal_number is not None and not was_told:
                self.worker.stop.remote(self.stop.signal_number)
                was_told = True
        if stopped is not None:
            raise InterruptedRunError("stopped and saved", stopped)
        return True


def _seal(run_dir: Path, member: Member) -> None:
    references = code_references([member.config.environment.name])
    if references:
        run_dir.mkdir(parents=True, exist_ok=True)
        seal_folder(run_dir, references)


def _write_files(folder: Path, files: Mapping[str, bytes]) -> None:
    """Writes what a worker has sent; last what says that a run is over."""
    for name in sorted(files, key=lambda name: name in (RESULT_FILE, OUTCOME_FILE)):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary:
            temporary.write_bytes(files[name])
