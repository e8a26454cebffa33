"""What a sweep shows while it goes: done, running, best so far, and the time left."""

import contextlib
import math
import shlex
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from muzero_jax.core.dotted import describe_setting
from muzero_jax.core.errors import DiskError, InterruptedRunError, RunError
from muzero_jax.core.stages import clock
from muzero_jax.core.terminal import is_live
from muzero_jax.process.signals import StopAsked, StopRequest
from muzero_jax.sweeps.definition import Member
from muzero_jax.sweeps.lanes import Stop
from muzero_jax.sweeps.sweep_state import MemberProgress, Snapshot, SweepState
from muzero_jax.sweeps.table_keeper import TableKeeper
from muzero_jax.tracking.screen import Screen

# More runs at once than these are not drawn one by one.
_MOST_BARS = 12
_NOT_OVER = ("running", "waiting")


class Board:
    """The progress of a sweep, and its table, which follows the runs that are over.

    Several threads tell it what happens, and none of them waits for the others, for the terminal
    or for the disk: the screen's thread alone prints and draws, the table's thread alone reads runs
    and writes the table, and what both know is a `SweepState`.

    Args:
      folder: of the sweep.
      varied: names of the settings that the sweep varies.
      title: what is running, in a line.
      num_runs: runs of the whole sweep.
      steps_of_a_run: environment steps of a run whose settings are not known yet.
      is_shared: whether other processes run members of the sweep as well.
    """

    def __init__(
        self,
        folder: Path,
        varied: Iterable[str],
        title: str,
        num_runs: int,
        steps_of_a_run: int,
        is_shared: bool = False,
    ):
        self.folder, self.title = folder, title
        self._state = SweepState(varied, num_runs, steps_of_a_run)
        self._keeper = TableKeeper(folder, self._state, self._tell_end, self.note, is_shared)
        self._screen = Screen(self._draw if is_live() else None)

    def __enter__(self) -> Self:
        self._keeper.start()
        self._state.start_clock()
        self._screen.print(self.title)
        self._screen.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            self._keeper.close()
        finally:
            self._screen.__exit__(kind, error, traceback)

    def expect(self, members: Iterable[Member]) -> None:
        """Adds runs that belong to the sweep, whether they are over already or not."""
        self._state.expect(members)

    def begin(self, member: Member) -> "MemberDisplay":
        """Notes that a run is taken up; what the run does is told to what is returned."""
        display = MemberDisplay(self, member)
        self._state.begin(display.progress)
        return display

    def end(self, members: Iterable[Member]) -> None:
        """Notes runs that nobody works on here any more, whether they are over or not."""
        ended = list(members)
        self._state.end(ended)
        self._keeper.look(member.folder for member in ended)

    def refresh(self) -> None:
        """Asks to look for runs that other processes have ended."""
        self._keeper.look()

    def note(self, text: str) -> None:
        """Shows a line that stays."""
        self._screen.print(text)

    def finish(self) -> None:
        """Tells of all runs that are over, and writes the whole table, also as Parquet.

        Raises:
          RunError: the table cannot be written, or a run cannot be read.
        """
        try:
            self._keeper.finish()
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


@contextlib.contextmanager
def stoppable(board: Board, stop_asked: StopAsked | None = None) -> Iterator[Stop]:
    """While it is entered signals stop the sweep in order; in the end the whole table is written.

    Args:
      board: of the sweep.
      stop_asked: asked instead of the signals that this process gets.

    Raises:
      InterruptedRunError: that of the runs, with the command that goes on.
      DiskError: a run could not be written, with the command that goes on.
    """

    def confirm(signal_number: int) -> None:
        board.note("stopping after the chunks that run, to save them; Ctrl-C aborts at once")

    with StopRequest(confirm) as request:
        try:
            yield Stop(stop_asked or request)
        except (InterruptedRunError, DiskError) as error:
            _finish_if_possible(board)
            raise error.with_advice(board.resume_command()) from None
        except BaseException:
            _finish_if_possible(board)
            raise
        board.finish()


def _finish_if_possible(board: Board) -> None:
    """Writes the table after an error, which nothing that goes wrong here may replace."""
    with contextlib.suppress(Exception):  # A full disk, for example, has no room for a table.
        board.finish()


class MemberDisplay:
    """Takes what one run tells; see `training.progress.Listener`.

    Args:
      board: of the sweep.
      member: the run.

    Attributes:
      progress: how far the run is.
    """

    def __init__(self, board: Board, member: Member):
        self._board = board
        self.progress = MemberProgress(member)

    def activity(self, text: str) -> None:
        """What is being done now."""
        self.progress.doing = text

    def metrics(self, row: Mapping[str, float]) -> None:
        """The counters of a chunk."""
        env_steps = int(row["env_steps"])
        if self.progress.env_steps == 0:
            chunk = self.progress.member.config.env_steps_per_chunk
            self.progress.steps_before = env_steps - chunk
        self.progress.env_steps = env_steps

    def evaluation(self, row: Mapping[str, float]) -> None:
        """The row of an evaluation."""
        self.progress.score = row["score_mean"]

    def note(self, text: str) -> None:
        """A line that stays."""
        self._board.note(f"{self.progress.member.title}: {text}")


def draw_sweep(now: Snapshot) -> Any:
    """The picture of a sweep: a bar for all of it, its counts, the best setting, a bar a run.

    Args:
      now: the sweep at one moment.

    Returns:
      A table that rich can print.
    """
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
