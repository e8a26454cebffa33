"""The trials of a study, in one journal file that several processes and machines may share.

A trial belongs to the process that holds the lock of its file in `trials/`; the system releases
the lock however the process ends. A trial that the journal calls running and whose lock is free was
left by a process that died: the next process that looks for work goes on with it.
"""

import contextlib
import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np

from muzero_jax.config import ConfigError
from muzero_jax.core.file_names import JOURNAL_FILE, TRIALS_FOLDER
from muzero_jax.reports.extras import import_extra
from muzero_jax.runs.run_folder import locked_file
from muzero_jax.sweeps.definition import Study
from muzero_jax.sweeps.search_space import suggest

TrialEnd = Literal["finished", "failed", "pruned"]


@dataclasses.dataclass(frozen=True)
class Trial:
    """A trial that this process works on, with its values by dotted name and Optuna's object."""

    number: int
    setting: dict[str, Any]
    handle: Any


class Trials:
    """The journal of a study.

    Args:
      folder: the study's folder.
      study: what the study consists of.

    Raises (when constructed):
      ConfigError: Optuna is not installed, or the journal is damaged.
    """

    def __init__(self, folder: Path, study: Study):
        self.folder, self.definition = folder, study
        (folder / TRIALS_FOLDER).mkdir(exist_ok=True)
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
    def claim(self) -> Iterator[Trial | None]:
        """Claims a trial as long as the context lasts: one whose process died, or a new one.

        Where somebody works on each trial that is left, there is None to claim.
        """
        with contextlib.ExitStack() as stack:
            # One process at a time, or two processes would both add the last trial.
            with locked_file(self.folder / TRIALS_FOLDER / "claim.lock", wait=True):
                trial = self._adopt(stack) or self._add(stack)
            yield trial

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
        self._tell(trial, state, told)

    def _is_pruned(self, trial: Trial, step: int) -> bool:
        del step  # Optuna looks at the last report.
        return bool(trial.handle.should_prune())

    def _tell(self, trial: Trial, state: TrialEnd, told: float | str) -> None:
        states = self._optuna.trial.TrialState
        if state == "finished":
            self.study.tell(trial.number, told)
            return
        trial.handle.set_user_attr("reason", told)
        self.study.tell(trial.number, state=states.FAIL if state == "failed" else states.PRUNED)

    def _adopt(self, stack: contextlib.ExitStack) -> Trial | None:
        running = self._optuna.trial.TrialState.RUNNING
        for frozen in self.study.get_trials(deepcopy=False, states=(running,)):
            try:
                stack.enter_context(locked_file(self._lock_of(frozen.number)))
            except BlockingIOError:
                continue  # Somebody works on the trial.
            return self._trial(frozen.number)
        return None

    def _add(self, stack: contextlib.ExitStack) -> Trial | None:
        if len(self.study.get_trials(deepcopy=False)) >= self.definition.num_trials:
            return None
        number = self.study.ask().number
        stack.enter_context(locked_file(self._lock_of(number)))
        return self._trial(number)

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
        """A new sampler for one value of a trial.

        A value that the journal has from before a kill is not drawn again, and the next value must
        not depend on that. So no two values share a sampler. The values of a deterministic study
        are not drawn together either, as Optuna draws them by default from version 5 on. The number
        of the trial is part of the seed, so that processes that share a study draw other values.
        """
        entropy = np.random.SeedSequence([self.definition.sample_seed, number, index])
        options = {"multivariate": False} if self.definition.is_deterministic else {}
        seed = int(entropy.generate_state(1)[0])
        return self._optuna.samplers.TPESampler(seed=seed, **options)

    def _lock_of(self, number: int) -> Path:
        return self.folder / TRIALS_FOLDER / f"{number:03}.lock"

    def _make_pruner(self) -> Any:
        """The pruner, whose resource is the number of evaluations that a trial has had."""
        pruners, config = self._optuna.pruners, self.definition.base
        if self.definition.pruner == "hyperband":
            most = config.training.num_env_steps // config.evaluation.interval
            return pruners.HyperbandPruner(min_resource=1, max_resource=max(most, 1))
        if self.definition.pruner == "asha":
            return pruners.SuccessiveHalvingPruner(min_resource=1, reduction_factor=3)
        return pruners.NopPruner()


class _JournalLock:
    """A lock as Optuna's journal wants it; the system releases it however the process ends.

    Optuna's own locks are links or files that a process which dies leaves behind.
    """

    def __init__(self, path: Path):
        self._path = path
        self._held = contextlib.ExitStack()

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
    try:
        import_extra("optuna.storages.journal", purpose="Studies", package="Optuna", extra="sweep")
        return import_extra("optuna", purpose="Studies", package="Optuna", extra="sweep")
    except ImportError as error:
        raise ConfigError(str(error)) from error
