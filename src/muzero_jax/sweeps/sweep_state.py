"""What is known of a running sweep: pure bookkeeping, which neither prints nor reads files."""

import collections
import dataclasses
import math
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from muzero_jax.core.dotted import describe_setting
from muzero_jax.reports.statistics import interquartile_mean
from muzero_jax.sweeps.definition import Member
from muzero_jax.tracking.progress import Listener


@dataclasses.dataclass
class MemberProgress(Listener):
    """How far one run is, as the thread that runs it tells; any thread may read it.

    Attributes:
      member: the run.
      show: shows a line that stays.
      share: the share of the run that is done.
      share_before: the share of the run that an earlier process has done.
      score: score of the last evaluation; NaN before the first.
      doing: what the run does now, for example `training`.
    """

    member: Member
    show: Callable[[str], None] = print
    share: float = 0.0
    share_before: float = 0.0
    score: float = float("nan")
    doing: str = ""

    def activity(self, text: str) -> None:
        """Hears what is being done now."""
        self.doing = text

    def metrics(self, row: Mapping[str, float]) -> None:
        """Hears the counters of a chunk."""
        env_steps, config = row["env_steps"], self.member.config
        if not self.share:
            steps_before = env_steps - config.env_steps_per_chunk
            self.share_before = steps_before / config.total_env_steps
        self.share = env_steps / config.total_env_steps

    def evaluation(self, row: Mapping[str, float]) -> None:
        """Hears the row of an evaluation."""
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
      num_done: how many runs are done, where a running one counts by its share.
      seconds_left: estimate by the pace of this process; None where it has made no step yet.
      running: the runs that are worked on.
    """

    counts: Mapping[str, int]
    best: str
    num_done: float
    seconds_left: float | None
    running: tuple[MemberProgress, ...]


class SweepState:
    """The runs of a sweep: running, and over. Any thread may change it and ask it.

    Its lock is held for bookkeeping only, never while anything is printed, drawn, read or written.

    Args:
      varied: names of the settings that the sweep varies.
      num_runs: how many runs the whole sweep has.
    """

    def __init__(self, varied: Iterable[str], num_runs: int):
        self.varied, self.num_runs = tuple(varied), num_runs
        self._lock = threading.Lock()
        self._running: dict[str, MemberProgress] = {}
        self._rows: dict[str, Mapping[str, Any]] = {}
        self._num_over = collections.Counter[str]()
        self._scores = collections.defaultdict[int, list[float]](list)
        self._means: dict[int, tuple[float, str]] = {}
        self._began, self._done_before = time.perf_counter(), 0.0

    def start_clock(self) -> None:
        """Starts the clock of the pace; the runs that are over were made by earlier processes."""
        with self._lock:
            self._began, self._done_before = time.perf_counter(), float(len(self._rows))

    def begin(self, progress: MemberProgress) -> None:
        """Counts a run as running, unless its end was seen first, as with a worker far away."""
        with self._lock:
            if progress.member.folder not in self._rows:
                self._running[progress.member.folder] = progress

    def give_back(self, members: Iterable[Member]) -> None:
        """Counts runs as waiting that nobody works on any more, and that are not over."""
        with self._lock:
            for member in members:
                self._running.pop(member.folder, None)

    def open_among(self, names: Iterable[str]) -> list[str]:
        """The run folders among `names` that are not counted as over."""
        with self._lock:
            return [name for name in names if name not in self._rows]

    def settle(self, name: str, row: Mapping[str, Any]) -> None:
        """Counts a run as over, whose folder in the sweep's folder is `name`."""
        with self._lock:
            progress = self._running.pop(name, None)
            self._done_before += 0.0 if progress is None else progress.share_before
            self._rows[name] = row
            self._num_over[row["status"]] += 1
            if row["status"] == "finished" and math.isfinite(row["score_mean"]):
                self._count_score(row)

    def rows(self) -> list[Mapping[str, Any]]:
        """The rows of all runs that are over."""
        with self._lock:
            return list(self._rows.values())

    def snapshot(self) -> Snapshot:
        """The sweep as it is now."""
        with self._lock:
            running = tuple(self._running.values())
            counts = {name: self._num_over[name] for name in ("finished", "failed", "pruned")}
            counts["running"] = len(running)
            counts["waiting"] = self.num_runs - len(self._rows) - len(running)
            done = len(self._rows) + sum(run.share for run in running)
            made = done - self._done_before - sum(run.share_before for run in running)
            seconds = time.perf_counter() - self._began
            left = max(self.num_runs - done, 0) * seconds / made if made > 0 else None
            best = max(self._means.values(), default=(0.0, ""))[1]
            return Snapshot(counts, best, done, left, running)

    def _count_score(self, row: Mapping[str, Any]) -> None:
        scores = self._scores[row["setting"]]
        scores.append(row["score_mean"])
        mean = float(interquartile_mean(scores))
        told = describe_setting({name: row.get(name) for name in self.varied})
        seeds = f"{len(scores)} seed{'s' if len(scores) > 1 else ''}"
        self._means[row["setting"]] = mean, f"{mean:.4g} ({told}; {seeds})"
