"""Runs that are advanced in step: what the host does for them between compiled chunks."""

import functools
import time
from collections.abc import Callable, Iterator, Sequence

import jax

from muzero_jax.core.errors import InterruptedRunError
from muzero_jax.core.keys import evaluation_key
from muzero_jax.core.types import PyTree
from muzero_jax.process.signals import StopAsked
from muzero_jax.runs import multihost
from muzero_jax.runs.compiled_run import Programs
from muzero_jax.runs.run_writer import RunWriter
from muzero_jax.training.evaluation import EvaluationResult
from muzero_jax.training.train_state import TrainState

KeepGoing = Callable[[int], bool]
BeginWith = Callable[[TrainState], TrainState]
# A run, its evaluation, and what gives the agent that was evaluated.
_Evaluated = tuple[RunWriter, EvaluationResult, Callable[[], PyTree]]


class Lockstep:
    """The loop between the chunks, for runs that differ in seeds and traced settings only.

    All runs are at the same step. They are advanced `programs.width` at a time, chunk by chunk. A
    run that fails is left where it is; the others go on.

    Args:
      programs: of the runs.
      runs: their folders; at least one.
      states: where they are taken up, in the order of `runs`; empty where they begin. The list is
        emptied, since the states are donated.
      stop: asked between chunks.
      keep_going: called with the environment steps when an evaluation before the last is written;
        where it is false, the runs are saved and left there.
      most_saving: share of the time that checkpoints on the way may take, but for the first.
      begin_with: changes the first state of a run that begins; it is saved at once, since what it
        was changed with may not be there when the run is continued.
    """

    def __init__(
        self,
        programs: Programs,
        runs: Sequence[RunWriter],
        states: list[TrainState],
        stop: StopAsked,
        keep_going: KeepGoing = lambda env_steps: True,
        most_saving: float = 1.0,
        begin_with: BeginWith | None = None,
    ):
        self.programs, self.runs, self.stop, self.keep_going = programs, runs, stop, keep_going
        self.most_saving, self._save_seconds = most_saving, 0.0
        self.config = runs[0].config
        self.env_steps, self.total = runs[0].counters.env_steps, self.config.total_env_steps
        self._tell("compiling")
        start = time.perf_counter()
        programs.compile()
        self.slices = []
        for first in range(0, len(runs), programs.width):
            members = slice(first, first + programs.width)
            self.slices.append(_Slice(programs, runs[members], states[members]))
        states.clear()
        for run in runs:
            run.counters.compile_seconds += time.perf_counter() - start
        programs.compile_evaluation()
        if begin_with is not None:
            for part in self.slices:
                part.state = begin_with(part.state)
            self._save()

    def finish(self) -> bool:
        """Runs all chunks that are left, then evaluates for good; returns whether it got there."""
        while self.env_steps < self.total and any(part.unfailed() for part in self.slices):
            self._stop_if_asked()
            if self._is_due(self.config.evaluation.interval):
                for run, result, agent in self._evaluate(self.config.evaluation.num_episodes):
                    run.write_evaluation(result, agent)
                self._stop_if_asked()
                if not self.keep_going(self.env_steps):
                    self._save()
                    return False
            self._tell("training")
            for part in self.slices:
                part.train()
            self.env_steps += self.config.env_steps_per_chunk
            if self._is_due(self.config.logging.checkpoint_interval) and self._may_save():
                self._save()
        self._save()
        self._stop_if_asked()
        for part in self.slices:
            multihost.check_same(self.programs.agents(part.state))
        for run, result, agent in self._evaluate(self.config.evaluation.final_num_episodes):
            run.write_result(result, agent, self.programs.width)
        return True

    def _is_due(self, interval: int) -> bool:
        """Whether the last chunk passed a multiple of `interval` (0: never)."""
        before = self.env_steps - self.config.env_steps_per_chunk
        return interval > 0 and 0 <= before // interval < self.env_steps // interval

    def _evaluate(self, num_episodes: int) -> Iterator[_Evaluated]:
        self._tell("evaluating")
        for part in self.slices:
            yield from part.evaluate(self.env_steps, num_episodes)

    def _may_save(self) -> bool:
        """Whether a save as long as the last would keep within `most_saving` since then."""
        if not self._save_seconds or self.most_saving >= 1.0:
            return True
        elapsed = time.perf_counter() - self._saved_at + self._save_seconds
        return self._save_seconds <= self.most_saving * elapsed

    def _save(self) -> None:
        start = time.perf_counter()
        for part in self.slices:
            part.save()
        self._saved_at = time.perf_counter()
        self._save_seconds = self._saved_at - start

    def _stop_if_asked(self) -> None:
        number = multihost.agree(self.stop.signal_number)
        if number is None:
            return
        self._save()
        told = f"stopped and saved at {self.env_steps:,} environment steps"
        raise InterruptedRunError(told, number)

    def _tell(self, activity: str) -> None:
        for run in self.runs:
            if run.failure is None:
                run.display.activity(activity)


class _Slice:
    """Runs that are advanced in one call; it owns the only reference to their donated state.

    Args:
      programs: of the runs.
      runs: at most `programs.width`; places beside them repeat the last, unheard.
      states: as many, or none where they begin.
    """

    def __init__(self, programs: Programs, runs: Sequence[RunWriter], states: list[TrainState]):
        self.programs, self.runs = programs, runs
        begins = not states
        self.state = programs.init([r.config for r in runs]) if begins else programs.join(states)

    def unfailed(self) -> list[tuple[int, RunWriter]]:
        """The runs that have not failed, with their places side by side."""
        return [(place, run) for place, run in enumerate(self.runs) if run.failure is None]

    def train(self) -> None:
        """One chunk of every run that has not failed, and its line in their metrics files."""
        if not self.unfailed():
            return
        start = time.perf_counter()
        self.state, metrics = self.programs.train_chunk(self.state)
        watched = (metrics, self.state.agent.num_updates, self.state.first_failure)
        watched = jax.device_get(watched)
        seconds = time.perf_counter() - start
        names = self.programs.experiment.train.learn_metric_names
        for place, run in self.unfailed():
            own_metrics, num_updates, failure = self.programs.take(watched, place)
            run.write_chunk(own_metrics, int(num_updates), seconds)
            if failure.update >= 0:
                state, term = self._state_of(place), names[int(failure.term)]
                run.save_failure(state, int(failure.update), term)

    def evaluate(self, env_steps: int, num_episodes: int) -> Iterator[_Evaluated]:
        """Evaluates the runs that have not failed."""
        if not self.unfailed() or not multihost.is_main():
            return
        keys = [evaluation_key(run.config.seed, env_steps) for run in self.runs]
        keys = self.programs.fill(keys)
        agents = self.programs.agents(self.state)
        results = self.programs.evaluate.each(agents, keys, num_episodes)
        for place, run in self.unfailed():
            yield run, results[place], functools.partial(self.programs.take, agents, place)

    def save(self) -> None:
        """A checkpoint of every run that has not failed."""
        for place, run in self.unfailed():
            run.save(self._state_of(place))

    def _state_of(self, place: int) -> TrainState:
        state: TrainState = multihost.collect(self.programs.take(self.state, place))
        return state
