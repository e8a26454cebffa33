"""What a sweep shows while it goes, and its table: each has a thread of its own.

The threads that run members tell `SweepProgress` what happens, and wait for nothing: the screen's
thread alone prints and draws, the table's thread alone reads runs and writes the table, and both
know a `SweepState`.
"""

import contextlib
import math
import shlex
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from muzero_jax.core.dotted import describe_setting
from muzero_jax.core.errors import DiskError, InterruptedRunError, RunError
from muzero_jax.core.file_names import MEMBERS_FOLDER
from muzero_jax.core.stages import clock
from muzero_jax.process.signals import StopAsked, StopRequest
from muzero_jax.reports.extras import MissingExtraError
from muzero_jax.reports.sweep_table import read_member, write_table
from muzero_jax.sweeps.block import is_over
from muzero_jax.sweeps.definition import Member, Study, Sweep
from muzero_jax.sweeps.sweep_state import MemberProgress, SweepState
from muzero_jax.tracking.screen import Row, Screen

# At most this many runs are drawn one by one.
_MOST_BARS = 12
# A sweep of many short runs must not spend its time on its table: after an update that took a
# second, the next update comes after twenty seconds.
_LEAST_REST, _REST = 0.2, 20.0


class SweepProgress:
    """The progress of a sweep, and its table, which follows the runs that are over.

    Args:
      folder: the sweep's folder.
      sweep: the sweep, or a study, of which other processes may run members as well.
      title: a line that says what is running.
    """

    def __init__(self, folder: Path, sweep: Sweep | Study, title: str):
        self.folder, self.title = folder, title
        # Other processes make runs of a study too; a sweep has only the runs that it names.
        is_study = isinstance(sweep, Study)
        self._names = None if is_study else [member.folder for member in sweep.members()]
        self._state = SweepState(sweep.varied, sweep.num_runs)
        self._screen = Screen(self.rows)
        self._has_started = self._has_complained = False
        self._is_ending = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="table", daemon=True)

    @contextlib.contextmanager
    def shown(self) -> Iterator[None]:
        """Shows the sweep, and keeps its table, as long as the context lasts."""
        self._update()  # Counts what earlier processes have done, without a line for each.
        self._state.start_clock()
        self._has_started = True
        self._screen.print(self.title)
        with self._screen:
            self._thread.start()
            try:
                yield
            finally:
                self._stop_following()

    def begin(self, member: Member) -> MemberProgress:
        """Notes that a run is taken up; the run tells what it does to the object returned."""
        progress = MemberProgress(member, self.note)
        self._state.begin(progress)
        return progress

    def end(self, members: Iterable[Member]) -> None:
        """Notes runs that nobody works on here any more, whether they are over or not."""
        self._state.give_back([m for m in members if not is_over(self.folder / m.folder)])

    def note(self, text: str) -> None:
        """Shows a line that stays."""
        self._screen.print(text)

    def finish(self) -> None:
        """Shows a line for each run that is over, and writes the whole table, also as Parquet.

        Raises:
          RunError: the table cannot be written, or a run cannot be read.
        """
        self._stop_following()
        try:
            self._update(parquet=True)
        except MissingExtraError as error:
            self.note(f"notice: there is no Parquet table. {error}")
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

    def rows(self) -> list[Row]:
        """The rows of the picture: the sweep, the best setting, and runs that are worked on."""
        now = self._state.snapshot()
        counts = [f"{number} {name}" for name, number in now.counts.items() if number]
        counts += [] if now.seconds_left is None else [f"{clock(now.seconds_left)} left"]
        whole = Row("sweep", ", ".join(counts), now.num_done / max(self._state.num_runs, 1))
        rows = [whole, Row("best", now.best or "none yet")]
        for run in now.running[:_MOST_BARS]:
            score = "" if math.isnan(run.score) else f", score {run.score:.4g}"
            rows.append(Row(run.doing, f"{run.member.title}{score}", run.share))
        return rows

    def _stop_following(self) -> None:
        self._is_ending.set()
        if self._thread.is_alive():
            self._thread.join()

    def _follow(self) -> None:
        """Keeps the table up to date in its thread; an error is told once, and `finish` raises."""
        rest = _LEAST_REST
        while not self._is_ending.wait(rest):
            began = time.monotonic()
            try:
                self._update()
            except Exception as error:
                if not self._has_complained:
                    self.note(f"warning: the table is behind: {type(error).__name__}: {error}")
                self._has_complained = True
            rest = max(_LEAST_REST, _REST * (time.monotonic() - began))

    def _update(self, parquet: bool = False) -> None:
        """Counts the runs that have ended, tells of each, and writes the table if there are any."""
        names = self._names
        if names is None:
            run_dirs = sorted(self.folder.glob(f"{MEMBERS_FOLDER}/*/*"))
            names = [str(run_dir.relative_to(self.folder)) for run_dir in run_dirs]
        ended = [name for name in self._state.open_among(names) if is_over(self.folder / name)]
        errors: list[Exception] = []
        for name in ended:
            try:
                self._settle(name)
            except Exception as error:
                errors.append(error)
        if ended or parquet or not self._has_started:
            write_table(self.folder, self._state.rows(), self._state.varied, parquet=parquet)
        if errors:
            raise errors[0]

    def _settle(self, name: str) -> None:
        row = read_member(self.folder / name)
        self._state.settle(name, row)
        if self._has_started:
            self.note(self._describe_end(row))

    def _describe_end(self, row: Mapping[str, Any]) -> str:
        state, now = self._state, self._state.snapshot()
        setting = describe_setting({name: row.get(name) for name in state.varied})
        told = f"{row['status']}: {row['reason']}"
        if row["status"] == "finished":
            score = f"score {row['score_mean']:.4g} ± {row['score_std']:.3g}"
            told = f"{score}, {row['train_seconds']:.1f} s"
        best = f"; best {now.best}" if now.best else ""
        left = "" if now.seconds_left is None else f"; {clock(now.seconds_left)} left"
        over = f"{len(state.rows())}/{state.num_runs}"
        return f"{over} {setting}, seed {row['seed']}: {told}{best}{left}"


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
