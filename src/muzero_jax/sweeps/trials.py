"""The trials of a study, in one journal file that several processes and machines may share.

A trial is a setting with its seeds, and belongs to whoever holds the locks of its run folders. A
trial that the journal calls running and whose locks are free was left by a process that died: the
next process that looks for work goes on with it.
"""

import contextlib
import dataclasses
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from muzero_jax.config import ConfigError
from muzero_jax.core.errors import RunLockedError
from muzero_jax.core.file_names import CONFIG_FILE, JOURNAL_FILE
from muzero_jax.reports.extras import import_extra
from muzero_jax.reports.runs import read_run
from muzero_jax.reports.statistics import interquartile_mean
from muzero_jax.reports.sweep_table import read_member
from muzero_jax.runs.run_folder import locked_file
from muzero_jax.sweeps.block import give_up, is_over
from muzero_jax.sweeps.claims import Claim, lock_run
from muzero_jax.sweeps.definition import Member, Study, make_members, member_folder
from muzero_jax.sweeps.search_space import suggest

TrialEnd = Literal["finished", "failed", "pruned"]


@dataclasses.dataclass(frozen=True)
class Trial:
    """A trial that this process works on, with its values by dotted name and Optuna's object."""

    number: int
    setting: dict[str, Any]
    handle: Any


class Trials:
    """The journal of a study, and its trials as the work of the study's workers.

    Args:
      folder: the study's folder.
      study: what the study consists of.

    Raises (when constructed):
      ConfigError: Optuna is not installed, or the journal is damaged.
    """

    def __init__(self, folder: Path, study: Study):
        self.folder, self.definition = folder, study
        self._optuna = import_optuna()
        self._optuna.logging.set_verbosity(self._optuna.logging.WARNING)
        journal = self._optuna.storages.journal
        lock: Any = _JournalLock(folder / f".{JOURNAL_FILE}.lock")
        backend = journal.JournalFileBackend(str(folder / JOURNAL_FILE), lock)
        try:
            self._storage = self._optuna.storages.JournalStorage(backend)
            self.study = self._optuna.create_study(
                storage=self._storage,
                study_name=study.name,
                direction="maximize",
                load_if_exists=True,
                pruner=self._make_pruner(),
            )
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            reason = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
            raise ConfigError(f"{folder / JOURNAL_FILE} is damaged: {reason}.") from error

    @contextlib.contextmanager
    def claim(self, key: str = "") -> Iterator["TrialClaim | None"]:
        """Claims a trial for a worker as long as the context lasts; None where nothing is free.

        A trial is a group of its own, whatever `key` a worker has compiled.
        """
        while True:
            with contextlib.ExitStack() as stack:
                trial = self.take(stack)
                claim = None if trial is None else self._begin(trial)
                if trial is None or claim is not None:
                    yield claim
                    return

    def take(self, stack: contextlib.ExitStack) -> Trial | None:
        """Locks a trial that was left, or a new one, until `stack` is closed."""
        # One process at a time, or two processes would both add the last trial.
        with locked_file(self.folder / f".{JOURNAL_FILE}.claim", wait=True):
            running = self._optuna.trial.TrialState.RUNNING
            for frozen in self.study.get_trials(deepcopy=False, states=(running,)):
                with contextlib.suppress(RunLockedError):  # Somebody works on the trial.
                    return self._locked(frozen.number, stack)
            if len(self.study.get_trials(deepcopy=False)) >= self.definition.num_trials:
                return None
            return self._locked(self.study.ask().number, stack)

    def report(self, trial: Trial, step: int, value: float) -> bool:
        """Notes a trial's objective at an evaluation.

        Args:
          trial: the trial.
          step: the number of the evaluation, from 1.
          value: the objective that was found there.

        Returns:
          Whether the trial goes on; otherwise the pruner ends it.
        """
        reports = self.study.get_trials(deepcopy=False)[trial.number].intermediate_values
        if step not in reports:  # Otherwise a process that died has noted it.
            trial.handle.report(value, step)
        return not self._is_pruned(trial, step)

    def end(self, trial: Trial, state: TrialEnd, told: float | str) -> None:
        """Ends a trial for good.

        Args:
          trial: the trial.
          state: how the trial ended.
          told: the objective of a finished trial; otherwise the reason why it has none.
        """
        states = self._optuna.trial.TrialState
        if state == "finished":
            self.study.tell(trial.number, told)
            return
        trial.handle.set_user_attr("reason", told)
        self.study.tell(trial.number, state=states.FAIL if state == "failed" else states.PRUNED)

    def _begin(self, trial: Trial) -> "TrialClaim | None":
        """The claim of a trial; None where the trial is ended without running anything."""
        study = self.definition
        try:
            members = make_members(study.base, trial.number, trial.setting, study.seeds)
        except ConfigError as error:
            self.end(trial, "failed", str(error))
            return None
        claim = TrialClaim(self, trial, members)
        if not claim.is_settled():
            return claim
        claim.end()
        return None

    def _locked(self, number: int, stack: contextlib.ExitStack) -> Trial:
        """A trial whose runs are locked until `stack` is closed."""
        with contextlib.ExitStack() as own:
            for seed in self.definition.seeds:
                lock_run(self.folder / member_folder(number, seed), own)
            stack.push(own.pop_all())
        return self._trial(number)

    def _is_pruned(self, trial: Trial, step: int) -> bool:
        del step  # Optuna looks at the last report.
        return bool(trial.handle.should_prune())

    def _trial(self, number: int) -> Trial:
        study_id = self._storage.get_study_id_from_name(self.definition.name)
        trial_id = self._storage.get_trial_id_from_study_id_trial_number(study_id, number)
        handle = self._optuna.trial.Trial(self.study, trial_id)
        setting = {}
        for index, axis in enumerate(self.definition.space):
            self.study.sampler = self._make_sampler(number, index)
            setting[axis.name] = suggest(handle, axis)
        return Trial(number, setting, handle)

    def _make_sampler(self, number: int, index: int) -> Any:
        """A new sampler for one value of a trial, so that processes of a study draw other values.

        A value that the journal has from before a kill is not drawn again, and the next value must
        not depend on that: no two values share a sampler, and the values of a deterministic study
        are not drawn together either, as Optuna draws them by default from version 5 on.
        """
        entropy = np.random.SeedSequence([self.definition.sample_seed, number, index])
        options = {"multivariate": False} if self.definition.is_deterministic else {}
        seed = int(entropy.generate_state(1)[0])
        return self._optuna.samplers.TPESampler(seed=seed, **options)

    def _make_pruner(self) -> Any:
        """The pruner, whose resource is the number of evaluations that a trial has had."""
        pruners, config = self._optuna.pruners, self.definition.base
        if self.definition.pruner == "hyperband":
            most = config.training.num_env_steps // config.evaluation.interval
            return pruners.HyperbandPruner(min_resource=1, max_resource=max(most, 1))
        if self.definition.pruner == "asha":
            return pruners.SuccessiveHalvingPruner(min_resource=1, reduction_factor=3)
        return pruners.NopPruner()


class TrialClaim(Claim):
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
        value = _objective(scores)
        step = env_steps // self.members[0].config.evaluation.interval
        if self._trials.report(self._trial, step, value):
            return True
        reason = f"{value:.4g} after {env_steps:,} steps is behind other trials"
        give_up(self.members, self.folder, "pruned", reason)
        return False

    def end(self) -> None:
        """Tells the study how the trial ended."""
        rows = self._rows()
        ends: tuple[TrialEnd, ...] = ("failed", "pruned")
        for status in ends:
            reasons = [row["reason"] for row in rows if row["status"] == status]
            if reasons:
                told = f"another seed of this setting has {status}"
                give_up(self.members, self.folder, status, told)
                return self._trials.end(self._trial, status, reasons[0])
        value = _objective([row["score_mean"] for row in rows])
        if math.isnan(value):
            return self._trials.end(self._trial, "failed", "a final score is not finite")
        return self._trials.end(self._trial, "finished", value)

    def _rows(self) -> list[dict[str, Any]]:
        begun = [run_dir for run_dir in self._run_dirs if (run_dir / CONFIG_FILE).is_file()]
        return [read_member(run_dir) for run_dir in begun]


def _objective(scores: Sequence[Any]) -> float:
    """The interquartile mean of the scores; NaN where a score is not finite."""
    return float(interquartile_mean(scores)) if np.isfinite(scores).all() else math.nan


def _score_at(run_dir: Path, env_steps: int) -> float | None:
    """The score of an evaluation; None where the run is over, or was not evaluated then."""
    if is_over(run_dir):
        return None
    table = read_run(run_dir).evaluation
    at = table.get("env_steps", np.zeros(0)) == env_steps
    return float(table["score_mean"][at][0]) if at.any() else None


class _JournalLock:
    """A lock as Optuna's journal wants it; Optuna's own are left behind by a process that dies."""

    def __init__(self, path: Path):
        self._path, self._held = path, contextlib.ExitStack()

    def acquire(self) -> bool:
        """Waits until this thread has the journal; other threads of the process wait as well."""
        lock = contextlib.ExitStack()
        lock.enter_context(locked_file(self._path, wait=True))
        self._held = lock
        return True

    def release(self) -> None:
        """Gives the journal to others."""
        self._held.close()


def import_optuna() -> Any:
    """Optuna, with its journal; a `ConfigError` says how to install it where it is missing."""
    import_extra("optuna.storages.journal", purpose="Studies", package="Optuna", extra="sweep")
    return import_extra("optuna", purpose="Studies", package="Optuna", extra="sweep")
