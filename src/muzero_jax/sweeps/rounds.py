"""Trials in rounds, so that the result of a study does not depend on which worker is quicker."""

import contextlib
import threading
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from muzero_jax.core.errors import InterruptedRunError
from muzero_jax.process.signals import StopAsked
from muzero_jax.sweeps.definition import Study
from muzero_jax.sweeps.trials import Trial, TrialEnd, Trials

# A worker that waits for the end of a round looks this often whether the sweep was stopped.
_SECONDS_BETWEEN_LOOKS = 0.2


class RoundTrials(Trials):
    """The journal of a study whose trials are asked for, judged and told in rounds.

    A round consists of `round_size` trials with consecutive numbers. Their settings are chosen when
    the round begins, a trial is pruned by what trials of earlier rounds have reported, and the
    study is told how the trials ended when the last of them has, always in the order of their
    numbers. So each decision follows from earlier rounds alone, whichever worker is quicker, and
    whatever was killed on the way. Only one process works on such a study, and holds its lock.

    Args:
      folder: the study's folder.
      study: what the study consists of.
      stop: is asked while a worker waits for the end of a round.
    """

    def __init__(self, folder: Path, study: Study, stop: StopAsked):
        super().__init__(folder, study)
        self._stop = stop
        self._changed = threading.Condition()
        self._untaken: deque[int] = deque()
        self._ended: dict[int, tuple[Trial, TrialEnd, float | str]] = {}
        self._num_open = 0
        self._notes: list[Mapping[str, Any]] = []

    def take(self, stack: contextlib.ExitStack) -> Trial | None:
        """Takes the next trial of this or the next round; None where the study knows all ends.

        Raises:
          InterruptedRunError: the sweep was stopped while a worker waited for the end of a round.
          RunLockedError: another process is writing a run of the trial.
        """
        with self._changed:
            while not self._untaken:
                number = self._stop.signal_number
                if number is not None:
                    raise InterruptedRunError("stopped and saved", number)
                if self._num_open:
                    self._changed.wait(_SECONDS_BETWEEN_LOOKS)
                elif not self._begin_round():
                    return None
            return self._locked(self._untaken.popleft(), stack)

    def end(self, trial: Trial, state: TrialEnd, told: float | str) -> None:
        """Remembers how a trial ended; once the round's last trial has ended, tells the study.

        Args:
          trial: the trial.
          state: how the trial ended.
          told: the objective of a finished trial; otherwise the reason why it has none.
        """
        with self._changed:
            self._ended[trial.number] = (trial, state, told)
            if len(self._ended) == self._num_open:
                for number in sorted(self._ended):
                    super().end(*self._ended[number])
                self._ended.clear()
                self._num_open = 0
            self._changed.notify_all()

    def _begin_round(self) -> bool:
        """Chooses a round's settings, or takes up a round that was left; false after the last."""
        found = self.study.get_trials(deepcopy=False)
        first = next((t.number for t in found if not t.state.is_finished()), len(found))
        begin = self._begin_of_round(first)
        end = min(begin + self.definition.round_size, self.definition.num_trials)
        for trial in found[len(self._notes) : begin]:
            self._notes.append(self._replay(trial.number, trial.intermediate_values)[1])
        for number in range(first, end):
            if number >= len(found):
                self.study.ask()
            self._trial(number)  # The journal holds its values from now on.
        self._untaken.extend(range(first, end))
        self._num_open = len(self._untaken)
        return self._num_open > 0

    def _begin_of_round(self, number: int) -> int:
        return number // self.definition.round_size * self.definition.round_size

    def _is_pruned(self, trial: Trial, step: int) -> bool:
        values = self.study.get_trials(deepcopy=False)[trial.number].intermediate_values
        reports = {one: value for one, value in values.items() if one <= step}
        return self._replay(trial.number, reports)[0]

    def _replay(self, number: int, reports: Mapping[int, float]) -> tuple[bool, Mapping[str, Any]]:
        """Whether the pruner ends a trial at the last of its reports, and the pruner's notes of it.

        Optuna's pruners look at all trials of a study, and keep notes in it. Here they see a study
        in memory with the notes of earlier rounds, so that the answers depend on the reports alone:
        a decision that a kill has cut off is made again, and is the same.
        """
        study = self._optuna.create_study(
            study_name=self.definition.name,  # Hyperband chooses brackets by the name.
            direction="maximize",
            pruner=self._make_pruner(),
        )
        begin = self._begin_of_round(number)
        # Trials of its own round have no notes: they only make up the numbers.
        notes = [*self._notes[:begin], *[{}] * (number - begin)]
        failed = self._optuna.trial.TrialState.FAIL
        make = self._optuna.trial.create_trial
        study.add_trials([make(state=failed, system_attrs=dict(each)) for each in notes])
        trial, is_pruned = study.ask(), False
        for step in sorted(reports):
            trial.report(reports[step], step)
            is_pruned = trial.should_prune()
        return is_pruned, study.trials[-1].system_attrs
