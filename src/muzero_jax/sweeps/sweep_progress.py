"""What a sweep shows while it goes, and its table: each has a thread of its own.

The threads that run members tell `SweepProgress` what happens. They wait neither for each other nor
for the terminal or the disk: the screen's thread alone prints and draws, the table's thread alone
reads runs and writes the table, and what both know is a `SweepState`.
"""

import contextlib
import functools
import math
import queue
import shlex
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from muzero_jax.core.dotted import describe_setting
from muzero_jax.core.errors import DiskError, InterruptedRunError, RunError
from muzero_jax.core.file_names import MEMBERS_FOLDER
from muzero_jax.core.stages import clock
from muzero_jax.core.terminal import is_live
from muzero_jax.process.signals import StopAsked, StopRequest
from muzero_jax.reports.extras import MissingExtraError
from muzero_jax.reports.sweep_table import read_member, write_table
from muzero_jax.sweeps.block import is_over
from muzero_jax.sweeps.definition import Member, Study, Sweep
from muzero_jax.sweeps.sweep_state import MemberProgress, Snapshot, SweepState
from muzero_jax.tracking.screen import Screen

# At most this many runs are drawn one by one.
_MOST_BARS = 12
# A sweep of many short runs must not spend its time on writing its table: after a writing that took
# a second, the next writing comes no earlier than after this many seconds.
_REST = 20.0
_NOT_OVER = ("running", "waiting")


class SweepProgress:
    """The progress of a sweep, and its table, which follows the runs that are over.

    Args:
      folder: the sweep's folder.
      sweep: the sweep, or a study, of which other processes may run members as well.
      title: a line that says what is running.
    """

    def __init__(self, folder: Path, sweep: Sweep | Study, title: str):
        self.folder, self.title = folder, title
        self._state = SweepState(sweep.varied, sweep.num_runs, sweep.base.total_env_steps)
        self._state.expect(sweep.members())
        is_shared = isinstance(sweep, Study)
        self._table = TableWriter(folder, self._state, self._tell_end, self.note, is_shared)
        self._screen = Screen(self._draw if is_live() else None)

    @contextlib.contextmanager
    def shown(self) -> Iterator[None]:
        """Shows the sweep, and keeps its table, as long as the context lasts."""
        self._table.start()
        self._state.start_clock()
        self._screen.print(self.title)
        with self._screen:
            try:
                yield
            finally:
                self._table.close()

    def expect(self, members: Iterable[Member]) -> None:
        """Adds runs that belong to the sweep, whether they are over already or not."""
        self._state.expect(members)

    def begin(self, member: Member) -> MemberProgress:
        """Notes that a run is taken up; the run tells what it does to the object returned."""
        progress = MemberProgress(member, self.note)
        self._state.begin(progress)
        return progress

    def end(self, members: Iterable[Member]) -> None:
        """Notes runs that nobody works on here any more, whether they are over or not."""
        ended = list(members)
        self._state.end(ended)
        self._table.look(member.folder for member in ended)

    def note(self, text: str) -> None:
        """Shows a line that stays."""
        self._screen.print(text)

    def finish(self) -> None:
        """Shows a line for each run that is over, and writes the whole table, also as Parquet.

        Raises:
          RunError: the table cannot be written, or a run cannot be read.
        """
        try:
            self._table.finish()
        except OSError as error:
            raise RunError(
                f"the table of {self.folder} cannot be written ({error}); the runs are saved, and "
                f"{self.resume_command()} writes it."
            ) from error

    def resume_command(self) -> str:
        """The command that goes on with the sweep."""
        return f"muzero sweep --resume {shlex.quote(str(self.folder))}"

    def counts(self) -> dict[str, int]:
        """How many runs are finished, failed, pruned, running and waiting."""
        return dict(self._state.snapshot().counts)

    def _tell_end(self, row: Mapping[str, Any]) -> None:
        state, now = self._state, self._state.snapshot()
        setting = describe_setting({name: row.get(name) for name in state.varied})
        over = sum(number for name, number in now.counts.items() if name not in _NOT_OVER)
        told = (
            f"score {row['score_mean']:.4g} ± {row['score_std']:.3g}, {row['train_seconds']:.1f} s"
            if row["status"] == "finished"
            else f"{row['status']}: {row['reason']}"
        )
        best = f"; best {now.best}" if now.best else ""
        left = "" if now.seconds_left is None else f"; {clock(now.seconds_left)} left"
        self.note(f"{over}/{state.num_runs} {setting}, seed {row['seed']}: {told}{best}{left}")

    def _draw(self) -> Any:
        return draw_sweep(self._state.snapshot())


class Stop:
    """Whether the workers shall stop: a signal asks for it, or one of them has broken down."""

    def __init__(self, request: StopAsked):
        self._request = request
        self.is_aborted = False

    @property
    def signal_number(self) -> int | None:
        """The signal; 0 where a worker broke down, None where nothing asks to stop."""
        return 0 if self.is_aborted else self._request.signal_number


@contextlib.contextmanager
def stoppable(progress: SweepProgress) -> Iterator[Stop]:
    """Lets signals stop the sweep in order while it is entered; then writes the whole table.

    Raises:
      InterruptedRunError: the workers were stopped; the message has the command that goes on.
      DiskError: a run could not be written; the message has the command that goes on.
    """

    def confirm(signal_number: int) -> None:
        progress.note("stopping after the chunks that run, to save them; Ctrl-C aborts at once")

    with StopRequest(confirm) as request:
        try:
            yield Stop(request)
        except BaseException as error:
            with contextlib.suppress(Exception):  # A full disk has no room for a table either.
                progress.finish()
            if isinstance(error, InterruptedRunError | DiskError):
                raise error.with_advice(progress.resume_command()) from None
            raise
        progress.finish()


def draw_sweep(now: Snapshot) -> Any:
    """A picture that rich can print: a bar for the sweep, counts, the best setting, a bar a run."""
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    counts = [f"{number} {name}" for name, number in now.counts.items() if number]
    counts += [] if now.seconds_left is None else [f"{clock(now.seconds_left)} left"]
    table = Table.grid(padding=(0, 2))
    whole = ProgressBar(total=max(now.steps_in_all, 1), completed=now.steps_done, width=30)
    table.add_row("sweep", whole)
    table.add_row("", Text(", ".join(counts)))
    table.add_row("best", Text(now.best or "none yet"))
    for run in now.running[:_MOST_BARS]:
        total = run.member.config.total_env_steps
        bar = ProgressBar(total=total, completed=run.env_steps, width=30)
        score = "" if math.isnan(run.score) else f", score {run.score:.4g}"
        table.add_row(run.doing, bar, Text(f"{run.member.title}{score}"))
    return table


class TableWriter:
    """Reads each run that is over into the state, tells of it, and writes `table.csv`.

    The threads that run members only put names into its queue. Runs are told of in the order in
    which they are counted.

    Args:
      folder: the sweep's folder.
      state: hears of the runs that are over.
      tell_end: is called with the row of each run that ends after `start`; it must not wait.
      tell: is called with a line for people; it must not wait.
      is_shared: whether other processes run members of the sweep as well; then the whole folder is
        looked through, not only the runs that ended here.
    """

    def __init__(
        self,
        folder: Path,
        state: SweepState,
        tell_end: Callable[[Mapping[str, Any]], None],
        tell: Callable[[str], None],
        is_shared: bool = False,
    ):
        self.folder, self.state, self._is_shared = folder, state, is_shared
        self._tell_end, self._tell = tell_end, tell
        self._ended: queue.SimpleQueue[tuple[str, ...] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._has_started = self._has_complained = False

    def start(self) -> None:
        """Counts what earlier processes have done, without a line for each, and starts."""
        self._scan()
        self._write()
        self._thread = threading.Thread(target=self._work, name="table", daemon=True)
        self._has_started = True
        self._thread.start()

    def look(self, names: Iterable[str] = ()) -> None:
        """Asks to look whether runs are over by now; returns at once.

        Args:
          names: folders of the runs that have ended here, relative to the sweep's folder.
        """
        self._ended.put(tuple(names))

    def close(self) -> None:
        """Returns when the thread has done all that it was asked for, and has ended."""
        if self._thread is not None:
            self._ended.put(None)
            self._thread.join()
            self._thread = None

    def finish(self) -> None:
        """Closes, and writes the whole table, also as Parquet where that can be done.

        Raises:
          OSError: the table cannot be written, or a run cannot be read.
        """
        self.close()
        self._scan()
        try:
            self._write(parquet=True)
        except MissingExtraError as error:
            self._tell(f"notice: there is no Parquet table. {error}")

    def _work(self) -> None:
        """What the thread does until it is told to close."""
        is_stale, next_writing = False, 0.0
        while True:
            waiting = max(next_writing - time.monotonic(), 0.0) if is_stale else None
            try:
                names = self._ended.get(timeout=waiting)
            except queue.Empty:
                began = time.monotonic()
                self._guard(self._bring_up_to_date)
                is_stale, now = False, time.monotonic()
                next_writing = now + _REST * (now - began)
                continue
            if names is None:
                return
            for name in names:
                self._guard(functools.partial(self._read, name))
            is_stale = True

    def _bring_up_to_date(self) -> None:
        if self._is_shared:
            self._scan()
        self._write()

    def _guard(self, work: Callable[[], None]) -> None:
        """Calls `work`; an error is told once, and `finish` tries again and raises it."""
        try:
            work()
        except Exception as error:
            if not self._has_complained:
                self._tell(f"warning: the table is behind: {type(error).__name__}: {error}")
            self._has_complained = True

    def _scan(self) -> None:
        """Reads all runs of the folder that are over and not counted yet."""
        for run_dir in sorted(self.folder.glob(f"{MEMBERS_FOLDER}/*/*")):
            name = str(run_dir.relative_to(self.folder))
            # Other processes make runs of a study too; a sweep has only the runs that it names.
            if self.state.is_open(name, only_expected=not self._is_shared) and is_over(run_dir):
                self._read(name)

    def _read(self, name: str) -> None:
        run_dir = self.folder / name
        row = read_member(run_dir) if is_over(run_dir) else None
        if self.state.settle(name, row) and row is not None and self._has_started:
            self._tell_end(row)

    def _write(self, parquet: bool = False) -> None:
        write_table(self.folder, self.state.rows(), self.state.varied, parquet=parquet)
