"""What is known of a running sweep: pure bookkeeping, which neither prints nor reads files."""

import dataclasses
import math
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from muzero_jax.core.dotted import describe_setting
from muzero_jax.reports.statistics import interquartile_mean
from muzero_jax.sweeps.definition import Member


@dataclasses.dataclass
class MemberProgress:
    """How far one run is, as it tells itself; see `tracking.progress.Listener`.

    Only the thread that runs the member changes this; any thread may read it.

    Attributes:
      member: the run.
      show: shows a line that stays.
      env_steps: environment steps so far.
      steps_before: how many of these steps an earlier process made.
      score: score of the last evaluation; NaN before the first.
      doing: what the run does now, for example `training`.
    """

    member: Member
    show: Callable[[str], None] = print
    env_steps: int = 0
    steps_before: int = 0
    score: float = float("nan")
    doing: str = ""

    def activity(self, text: str) -> None:
        """Takes what is being done now."""
        self.doing = text

    def metrics(self, row: Mapping[str, float]) -> None:
        """Takes the counters of a chunk."""
        env_steps = int(row["env_steps"])
        if self.env_steps == 0:
            self.steps_before = env_steps - self.member.config.env_steps_per_chunk
        self.env_steps = env_steps

    def evaluation(self, row: Mapping[str, float]) -> None:
        """Takes the row of an evaluation."""
        self.score = row["score_mean"]

    def note(self, text: str) -> None:
        """Shows a line that stays."""
        self.show(f"{self.member.title}: {text}")


@dataclasses.dataclass(frozen=True)
class Snapshot:
    """A sweep at one moment.

    Attributes:
      counts: how many runs are finished, failed, pruned, running and waiting.
      best: words about the setting with the highest interquartile mean over its finished seeds;
        empty where no run is finished.
      steps_done: environment steps that are done.
      steps_in_all: environment steps of the whole sweep.
      seconds_left: estimate by the pace of this process; None where it has made no step yet.
      running: the runs that are worked on.
    """

    counts: Mapping[str, int]
    best: str
    steps_done: int
    steps_in_all: int
    seconds_left: float | None
    running: tuple[MemberProgress, ...]


class SweepState:
    """The runs of a sweep: expected, running, and over. Any thread may change it and ask it.

    Its lock is held for bookkeeping only, never while anything is printed, drawn, read or written;
    so a thread that holds another lock may ask it. Each change brings the sums up to date, so that
    an answer takes no longer when many runs are over.

    Args:
      varied: names of the settings that the sweep varies.
      num_runs: how many runs the whole sweep has.
      steps_of_a_run: environment steps of a run whose settings are not known yet.
    """

    def __init__(self, varied: Iterable[str], num_runs: int, steps_of_a_run: int):
        self.varied, self.num_runs = tuple(varied), num_runs
        self._steps_of_a_run = steps_of_a_run
        self._lock = threading.Lock()
        self._steps_of: dict[str, int] = {}
        self._running: dict[str, MemberProgress] = {}
        self._ending: dict[str, MemberProgress] = {}
        self._rows: dict[str, Mapping[str, Any]] = {}
        self._num_over = dict.fromkeys(("finished", "failed", "pruned"), 0)
        self._scores: dict[int, list[float]] = {}
        self._means: dict[int, float] = {}
        self._told: dict[int, str] = {}
        self._best = ""
        self._steps_known, self._steps_over, self._steps_before = 0, 0, 0
        self._began = time.perf_counter()

    def start_clock(self) -> None:
        """Starts the clock of the pace; the steps so far were made by earlier processes."""
        with self._lock:
            self._began, self._steps_before = time.perf_counter(), self._steps_done()

    def expect(self, members: Iterable[Member]) -> None:
        """Adds runs that belong to the sweep, whether they are over already or not."""
        with self._lock:
            for member in members:
                if member.folder in self._steps_of:
                    continue
                steps = member.config.total_env_steps
                self._steps_of[member.folder] = steps
                self._steps_known += steps
                if member.folder in self._rows:
                    self._steps_over += steps - self._steps_of_a_run

    def begin(self, progress: MemberProgress) -> None:
        """Counts a run as running."""
        with self._lock:
            self._running[progress.member.folder] = progress

    def end(self, members: Iterable[Member]) -> None:
        """Notes that nobody works on some runs any more; `settle` says how each run ended."""
        with self._lock:
            for member in members:
                progress = self._running.pop(member.folder, None) or MemberProgress(member)
                if member.folder not in self._rows:
                    self._ending[member.folder] = progress

    def is_open(self, name: str, only_expected: bool) -> bool:
        """Whether the run with this folder belongs to the sweep, and is not counted as over yet.

        With `only_expected` only the runs that were named before belong to the sweep.
        """
        with self._lock:
            return name not in self._rows and (not only_expected or name in self._steps_of)

    def settle(self, name: str, row: Mapping[str, Any] | None) -> bool:
        """Says how a run ended.

        Args:
          name: the run folder, relative to the sweep's folder.
          row: what is read from the run folder; None where the run is not over and waits again.

        Returns:
          Whether the run is over, and was not known to be.
        """
        with self._lock:
            progress = self._ending.pop(name, None)
            if row is None or name in self._rows:
                return False
            # The table's thread may find a run over before the thread that ran it says so.
            progress = self._running.pop(name, None) or progress
            if progress is not None:
                self._steps_before += progress.steps_before
            self._rows[name] = row
            self._num_over[row["status"]] = self._num_over.get(row["status"], 0) + 1
            self._steps_over += self._steps_of.get(name, self._steps_of_a_run)
            if row["status"] == "finished" and math.isfinite(row["score_mean"]):
                self._count_score(row)
            return True

    def rows(self) -> list[Mapping[str, Any]]:
        """The rows of all runs that are over."""
        with self._lock:
            return list(self._rows.values())

    def snapshot(self) -> Snapshot:
        """The sweep as it is now."""
        with self._lock:
            taken = len(self._rows) + len(self._running) + len(self._ending)
            counts = {**self._num_over, "running": len(self._running)}
            counts["waiting"] = self.num_runs - taken
            done, in_all = self._steps_done(), self._steps_in_all()
            running = tuple(self._running.values())
            working = (*running, *self._ending.values())
            made = done - self._steps_before - sum(run.steps_before for run in working)
            seconds = time.perf_counter() - self._began
            left = max(in_all - done, 0) * seconds / made if made > 0 else None
            return Snapshot(counts, self._best, done, in_all, left, running)

    def _count_score(self, row: Mapping[str, Any]) -> None:
        """Adds a finished run's score, and finds the best setting anew."""
        setting = row["setting"]
        scores = self._scores.setdefault(setting, [])
        scores.append(row["score_mean"])
        self._means[setting] = float(interquartile_mean(scores))
        told = describe_setting({name: row.get(name) for name in self.varied})
        seeds = f"{len(scores)} seed{'s' if len(scores) > 1 else ''}"
        self._told[setting] = f"{self._means[setting]:.4g} ({told}; {seeds})"
        self._best = self._told[max(self._means, key=lambda one: self._means[one])]

    def _steps_in_all(self) -> int:
        unknown = max(self.num_runs - len(self._steps_of), 0)
        return self._steps_known + unknown * self._steps_of_a_run

    def _steps_done(self) -> int:
        # A run that failed or was pruned makes no more steps: it counts as whole.
        working = (*self._running.values(), *self._ending.values())
        return self._steps_over + sum(progress.env_steps for progress in working)
