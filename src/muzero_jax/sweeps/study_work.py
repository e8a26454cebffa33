"""The trials of a study as work: each is a setting with its seeds, judged at every evaluation."""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from muzero_jax.config import ConfigError
from muzero_jax.core.errors import RunLockedError
from muzero_jax.core.file_names import CONFIG_FILE
from muzero_jax.reports.runs import read_run
from muzero_jax.reports.statistics import interquartile_mean
from muzero_jax.reports.sweep_table import read_member
from muzero_jax.sweeps.block import give_up, is_over
from muzero_jax.sweeps.claims import Claim, Locks, Pace
from muzero_jax.sweeps.definition import Member, make_members
from muzero_jax.sweeps.sweep_progress import SweepProgress
from muzero_jax.sweeps.trials import Trial, Trials


class StudyWork:
    """The trials of a study as the work of a sweep's workers; see `claims.Work`.

    Args:
      trials: the journal.
      locks: the locks of the runs.
      progress: hears which runs the claimed trials have.
    """

    def __init__(self, trials: Trials, locks: Locks, progress: SweepProgress):
        self.folder, self._trials, self._locks = locks.folder, trials, locks
        self._progress = progress

    @contextlib.contextmanager
    def claim(self, pace: Pace) -> Iterator[Claim | None]:
        """Claims a trial whose runs are not over, with all its runs; see `claims.Work`."""
        del pace  # A trial is a group of its own, whatever a worker has compiled.
        while True:
            with self._trials.claim() as trial, contextlib.ExitStack() as stack:
                claim = None if trial is None else self._taken_up(trial, stack)
                if trial is None or claim is not None:
                    yield claim
                    return

    def _taken_up(self, trial: Trial, stack: contextlib.ExitStack) -> "_TrialClaim | None":
        """A trial with its runs locked; None where the trial is ended without running anything."""
        study = self._trials.definition
        try:
            members = make_members(study.base, trial.number, trial.setting, study.seeds)
        except ConfigError as error:
            self._trials.end(trial, "failed", str(error))
            return None
        self._progress.expect(members)
        claim = _TrialClaim(self._trials, trial, members)
        try:
            if not claim.is_settled():
                self._lock(members, stack)
                return claim
        except RunLockedError as error:
            claim.fail(error)
        claim.end()
        self._progress.end(members)
        return None

    def _lock(self, members: Sequence[Member], stack: contextlib.ExitStack) -> None:
        for member in members:
            state = self._locks.claim(member)
            if state == "held":
                run_dir = self.folder / member.folder
                raise RunLockedError(f"another process is writing the run folder {run_dir}.")
            if state == "claimed":
                stack.callback(self._locks.release, member)


class _TrialClaim(Claim):
    """One trial: decides at each evaluation whether it goes on, and in the end what it is."""

    def __init__(self, trials: Trials, trial: Trial, members: list[Member]):
        super().__init__(trials.folder, members, len(members))
        self._trials, self._trial = trials, trial
        self._run_dirs = [trials.folder / member.folder for member in members]

    def is_settled(self) -> bool:
        """Whether all runs are over, or a process that died has decided about the trial."""
        is_decided = any(row["status"] in ("failed", "pruned") for row in self._rows())
        return is_decided or all(map(is_over, self._run_dirs))

    def keep_going(self, env_steps: int) -> bool:
        """Reports the interquartile mean over the seeds; false where the pruner ends the trial."""
        scores = [_score_at(run_dir, env_steps) for run_dir in self._run_dirs]
        if any(score is None for score in scores):
            return False  # A seed has failed, and with it the trial.
        value = float(interquartile_mean(np.array(scores)))
        step = env_steps // self.members[0].config.evaluation.interval
        if self._trials.report(self._trial, step, value):
            return True
        reason = f"{value:.4g} after {env_steps:,} steps is behind other trials"
        give_up(self.members, self.folder, "pruned", reason)
        return False

    def end(self) -> None:
        """Tells the study how the trial ended."""
        rows = self._rows()
        for status in ("failed", "pruned"):
            reasons = [row["reason"] for row in rows if row["status"] == status]
            if reasons:
                told = f"another seed of this setting has {status}"
                give_up(self.members, self.folder, status, told)
                return self._trials.end(self._trial, status, reasons[0])  # type: ignore[arg-type]
        scores = np.array([row["score_mean"] for row in rows])
        return self._trials.end(self._trial, "finished", float(interquartile_mean(scores)))

    def _rows(self) -> list[dict[str, Any]]:
        begun = [run_dir for run_dir in self._run_dirs if (run_dir / CONFIG_FILE).is_file()]
        return [read_member(run_dir) for run_dir in begun]


def _score_at(run_dir: Path, env_steps: int) -> float | None:
    """The score of an evaluation; None where the run is over, or was not evaluated then."""
    if is_over(run_dir):
        return None
    table = read_run(run_dir).evaluation
    at = table.get("env_steps", np.zeros(0)) == env_steps
    return float(table["score_mean"][at][0]) if at.any() else None
