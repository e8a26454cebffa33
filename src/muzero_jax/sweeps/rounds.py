"""Trials in rounds, so that the result of a study does not depend on which worker is quicker."""

import contextlib
import threading
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
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
    the round begins, in the order of their numbers. A trial is pruned by what trials of earlier
    rounds have reported, never by a trial of its own round. The study is told how the trials ended
    when the last of them has, again in the order of their numbers. So each decision follows from
    earlier rounds alone, whichever worker is quicker, and whatever was killed on the way: until the
    study is told, the trials' run folders hold what was found.

    Only one process may work on such a study; it holds the folder's lock.

    Args:
      folder: the study's folder.
      study: what the study consists of.
      stop: is asked while a worker waits for the end of a round.
    """

    def __init__(self, folder: Path, study: Study, stop: StopAsked):
        super().__init__(folder, study)
        self._stop = stop
        self._changed = threading.Condition()
        self._untaken: deque[Trial] = deque()
        self._ended: dict[int, tuple[Trial, TrialEnd, float | str]] = {}
        self._num_open = 0
        self._rungs: list[Mapping[str, Any]] = []
        self._replays: dict[int, _Replay] = {}

    @contextlib.contextmanager
    def claim(self) -> Iterator[Trial | None]:
        """Claims the next trial of this or the next round; None where the study knows all ends.

        Raises:
          InterruptedRunError: the sweep was stopped while a worker waited for the end of a round.
        """
        yield self._next()

    def _is_pruned(self, trial: Trial, step: int) -> bool:
        """Judges a trial by the trials of earlier rounds."""
        values = self.study.get_trials(deepcopy=False)[trial.number].intermediate_values
        reports = {one: value for one, value in values.items() if one <= step}
        return self._replays[trial.number].is_pruned(reports)

    def _tell(self, trial: Trial, state: TrialEnd, told: float | str) -> None:
        """Remembers how a trial ended; once the round's last trial has ended, tells the study."""
        with self._changed:
            self._ended[trial.number] = (trial, state, told)
            if len(self._ended) == self._num_open:
                for number in sorted(self._ended):
                    super()._tell(*self._ended[number])
                self._ended.clear()
                self._num_open = 0
            self._changed.notify_all()

    def _next(self) -> Trial | None:
        with self._changed:
            while not self._untaken:
                number = self._stop.signal_number
                if number is not None:
                    raise InterruptedRunError("stopped and saved", number)
                if self._num_open:
                    self._changed.wait(_SECONDS_BETWEEN_LOOKS)
                elif not self._begin_round():
                    return None
            return self._untaken.popleft()

    def _begin_round(self) -> bool:
        """Chooses a round's settings, or takes up a round that was left; false after the last."""
        found = self.study.get_trials(deepcopy=False)
        first = next((t.number for t in found if not t.state.is_finished()), len(found))
        size = self.definition.round_size
        begin = first // size * size
        end = min(begin + size, self.definition.num_trials)
        self._remember([trial.intermediate_values for trial in found[:begin]])
        for number in range(first, end):
            if number >= len(found):
                self.study.ask()
            self._untaken.append(self._trial(number))
        self._replays = {number: self._replay(number) for number in range(first, end)}
        self._num_open = len(self._untaken)
        return self._num_open > 0

    def _remember(self, reports: Sequence[Mapping[int, float]]) -> None:
        """Works out what the pruner keeps of trials of earlier rounds, from what they reported."""
        for number in range(len(self._rungs), len(reports)):
            replay = self._replay(number)
            replay.is_pruned(reports[number])
            self._rungs.append(replay.rungs())

    def _replay(self, number: int) -> "_Replay":
        begin = number // self.definition.round_size * self.definition.round_size
        return _Replay(self._optuna, self._new_study, self._rungs[:begin], number)

    def _new_study(self) -> Any:
        """A study in memory, of the same name, because Hyperband chooses brackets by the name."""
        return self._optuna.create_study(
            study_name=self.definition.name, direction="maximize", pruner=self._make_pruner()
        )


class _Replay:
    """A trial as the pruner shall see it: beside trials of earlier rounds, and no other trials.

    Optuna's pruners look at all trials of a study, and keep notes in it. Here they look at a study
    in memory, whose answers depend on its reports alone: a decision that a kill has cut off is made
    again, and is the same. `earlier` are the pruner's notes of the trials of earlier rounds.
    """

    def __init__(
        self, optuna: Any, new_study: Any, earlier: Sequence[Mapping[str, Any]], number: int
    ):
        self._study = new_study()
        failed = optuna.trial.TrialState.FAIL
        # Trials of its own round have no notes: they only make up the numbers.
        notes = [*earlier, *[{}] * (number - len(earlier))]
        self._study.add_trials(
            [optuna.trial.create_trial(state=failed, system_attrs=dict(n)) for n in notes]
        )
        self._trial = self._study.ask()
        self._last_step, self._is_pruned = 0, False

    def is_pruned(self, reports: Mapping[int, float]) -> bool:
        """Whether the pruner ends the trial at the last of its reports.

        Args:
          reports: all values so far by step; the steps of earlier calls are passed over.
        """
        for step in sorted(step for step in reports if step > self._last_step):
            self._trial.report(reports[step], step)
            self._last_step, self._is_pruned = step, self._trial.should_prune()
        return self._is_pruned

    def rungs(self) -> Mapping[str, Any]:
        """The pruner's notes of the trial."""
        notes: Mapping[str, Any] = self._study.trials[-1].system_attrs
        return notes
