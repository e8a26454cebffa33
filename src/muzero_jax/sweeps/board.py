"""What a sweep shows while it goes: done, running, best so far, and the time left."""

import contextlib
import shlex
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from muzero_jax.analysis.extras import MissingExtraError
from muzero_jax.analysis.statistics import interquartile_mean
from muzero_jax.analysis.sweep_table import read_member, write_table
from muzero_jax.dotted import describe_setting
from muzero_jax.sweeps.block import is_over
from muzero_jax.sweeps.definition import MEMBERS_FOLDER, Member
from muzero_jax.sweeps.lanes import Stop
from muzero_jax.training.errors import InterruptedRunError
from muzero_jax.training.progress import clock
from muzero_jax.training.signals import StopAsked, StopRequest


class Board:
    """The progress of a sweep, and its table, which is written again whenever a run is over.

    Args:
      folder: of the sweep.
      varied: names of the settings that it varies.
      title: what is running, in a line.
      num_runs: of the whole sweep.
      steps_of_a_run: environment steps, of a run whose settings are not known yet.

    It is told from several threads.
    """

    def __init__(
        self, folder: Path, varied: Iterable[str], title: str, num_runs: int, steps_of_a_run: int
    ):
        self.folder, self.varied, self.title = folder, tuple(varied), title
        self.num_runs, self._steps_of_a_run = num_runs, steps_of_a_run
        self._lock = threading.RLock()
        self._members: dict[str, Member] = {}
        self._rows: dict[str, dict[str, Any]] = {}
        self._running: dict[str, MemberDisplay] = {}
        self._began, self._steps_before = time.perf_counter(), 0
        self._live = _Live(self) if sys.stdout.isatty() and sys.stderr.isatty() else None

    def __enter__(self) -> Self:
        self.write_table()
        self._steps_before = self._steps_done()
        if self._live is None:
            print(self.title, flush=True)
        else:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def expect(self, members: Iterable[Member]) -> None:
        """Runs that belong to the sweep, whether they are over already or not."""
        with self._lock:
            self._members |= {member.folder: member for member in members}

    def begin(self, member: Member) -> "MemberDisplay":
        """A run that is taken up; what it does is told to what is returned."""
        with self._lock:
            display = MemberDisplay(self, member)
            self._running[member.folder] = display
            return display

    def end(self, members: Iterable[Member]) -> None:
        """Runs that nobody works on here any more, whether they are over or not."""
        with self._lock:
            for member in members:
                self._running.pop(member.folder, None)
            self.refresh()

    def refresh(self) -> None:
        """Looks for runs that are over by now, in any process; tells of them, writes the table."""
        with self._lock:
            before = set(self._rows)
            self.write_table()
            for name in self._rows:
                if name not in before:
                    self._tell_end(self._rows[name])

    def note(self, text: str) -> None:
        """A line that stays."""
        with self._lock:
            if self._live is None:
                print(text, flush=True)
            else:
                self._live.print(text)

    def write_table(self, parquet: bool = False) -> None:
        """Writes the table anew, also as Parquet where that is asked for and can be done."""
        with self._lock:
            # Other processes may work on the same study.
            for run_dir in sorted(self.folder.glob(f"{MEMBERS_FOLDER}/*/*")):
                name = str(run_dir.relative_to(self.folder))
                if name not in self._rows and is_over(run_dir):
                    self._rows[name] = read_member(run_dir)
        try:
            write_table(self.folder, self._rows.values(), self.varied, parquet=parquet)
        except MissingExtraError as error:
            self.note(f"notice: there is no Parquet table. {error}")

    def counts(self) -> dict[str, int]:
        """How many runs are finished, failed, pruned, running and waiting."""
        with self._lock:
            statuses = [row["status"] for row in self._rows.values()]
            counts = {name: statuses.count(name) for name in ("finished", "failed", "pruned")}
            running = len(self._running)
            return {
                **counts,
                "running": running,
                "waiting": self.num_runs - len(statuses) - running,
            }

    def best(self) -> str:
        """The setting with the highest interquartile mean over its finished seeds, in words."""
        with self._lock:
            scores: dict[int, list[float]] = {}
            for row in self._rows.values():
                if row["status"] == "finished":
                    scores.setdefault(row["setting"], []).append(row["score_mean"])
            if not scores:
                return ""
            means = {setting: float(interquartile_mean(s)) for setting, s in scores.items()}
            best = max(means, key=lambda setting: means[setting])
            row = next(r for r in self._rows.values() if r["setting"] == best)
            seeds = f"{len(scores[best])} seed{'s' if len(scores[best]) > 1 else ''}"
            setting = describe_setting({name: row.get(name) for name in self.varied})
            return f"{means[best]:.4g} ({setting}; {seeds})"

    def seconds_left(self) -> float | None:
        """From the steps that were made since this process began; None while there are none."""
        with self._lock:
            done = self._steps_done()
            made = done - self._steps_before - sum(d.steps_before for d in self._running.values())
            if made <= 0:
                return None
            left = max(self._steps_in_all() - done, 0)
            return left * (time.perf_counter() - self._began) / made

    def progress(self) -> tuple[int, int]:
        """Environment steps that are done, and all of them."""
        with self._lock:
            return self._steps_done(), self._steps_in_all()

    def running(self) -> list["MemberDisplay"]:
        """The runs that are worked on."""
        with self._lock:
            return list(self._running.values())

    def _steps_in_all(self) -> int:
        known = sum(member.config.total_env_steps for member in self._members.values())
        return known + max(self.num_runs - len(self._members), 0) * self._steps_of_a_run

    def _steps_done(self) -> int:
        # A run that failed or was pruned makes no more steps: it counts as whole.
        over = [self._members[name] for name in self._rows if name in self._members]
        unknown = len(self._rows) - len(over)
        steps = sum(member.config.total_env_steps for member in over)
        steps += unknown * self._steps_of_a_run
        return steps + sum(display.env_steps for display in self._running.values())

    def _tell_end(self, row: Mapping[str, Any]) -> None:
        setting = describe_setting({name: row.get(name) for name in self.varied})
        counts = self.counts()
        over = counts["finished"] + counts["failed"] + counts["pruned"]
        told = (
            f"score {row['score_mean']:.4g} ± {row['score_std']:.3g}, {row['train_seconds']:.1f} s"
            if row["status"] == "finished"
            else f"{row['status']}: {row['reason']}"
        )
        best = f"; best {self.best()}" if self.best() else ""
        left = self.seconds_left()
        time_left = "" if left is None else f"; {clock(left)} left"
        title = f"{setting}, seed {row['seed']}"
        self.note(f"{over}/{self.num_runs} {title}: {told}{best}{time_left}")


@contextlib.contextmanager
def stoppable(board: Board, stop_asked: StopAsked | None = None) -> Iterator[Stop]:
    """While it is entered signals stop the sweep in order; in the end the whole table is written.

    Args:
      board: of the sweep.
      stop_asked: asked instead of the signals that this process gets.

    Raises:
      InterruptedRunError: that of the runs, with the command that goes on.
    """

    def confirm(signal_number: int) -> None:
        board.note("stopping after the chunks that run, to save them; Ctrl-C aborts at once")

    with StopRequest(confirm) as request:
        try:
            yield Stop(stop_asked or request)
        except InterruptedRunError as error:
            command = f"muzero sweep --resume {shlex.quote(str(board.folder))}"
            raise error.with_advice(command) from None
        finally:
            board.write_table(parquet=True)


class MemberDisplay:
    """What one run tells its board; see `training.progress.Listener`.

    Attributes:
      member: the run.
      env_steps: so far.
      steps_before: of them, those that an earlier process made.
      score: of its last evaluation.
      doing: what it does.
    """

    def __init__(self, board: Board, member: Member):
        self.board, self.member = board, member
        self.env_steps, self.steps_before = 0, 0
        self.score = float("nan")
        self.doing = ""

    def activity(self, text: str) -> None:
        """What is being done now."""
        self.doing = text

    def metrics(self, row: Mapping[str, float]) -> None:
        """The counters of a chunk."""
        if self.env_steps == 0:
            self.steps_before = int(row["env_steps"]) - self.member.config.env_steps_per_chunk
        self.env_steps = int(row["env_steps"])

    def evaluation(self, row: Mapping[str, float]) -> None:
        """The row of an evaluation."""
        self.score = row["score_mean"]

    def note(self, text: str) -> None:
        """A line that stays."""
        self.board.note(f"{self.member.title}: {text}")


class _Live:
    """The board in a terminal."""

    def __init__(self, board: Board):
        from rich.console import Console
        from rich.live import Live

        self._board, self._console = board, Console()
        self._live = Live(console=self._console, get_renderable=self._render, refresh_per_second=4)

    def start(self) -> None:
        self.print(self._board.title)
        self._live.__enter__()

    def stop(self) -> None:
        self._live.__exit__(None, None, None)

    def print(self, text: str) -> None:
        self._console.print(text, highlight=False, soft_wrap=True)

    def _render(self) -> Any:
        from rich.progress_bar import ProgressBar
        from rich.table import Table

        done, total = self._board.progress()
        left = self._board.seconds_left()
        counts = [f"{n} {name}" for name, n in self._board.counts().items() if n]
        counts += [] if left is None else [f"{clock(left)} left"]
        table = Table.grid(padding=(0, 2))
        table.add_row("sweep", ProgressBar(total=max(total, 1), completed=done, width=30))
        table.add_row("", ", ".join(counts))
        table.add_row("best", self._board.best() or "none yet")
        for display in self._board.running()[:12]:
            whole = display.member.config.total_env_steps
            bar = ProgressBar(total=whole, completed=display.env_steps, width=30)
            score = "" if np.isnan(display.score) else f", score {display.score:.4g}"
            table.add_row(display.doing, bar, f"{display.member.title}{score}")
        return table
