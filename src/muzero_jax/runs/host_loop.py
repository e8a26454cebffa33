"""The work of the host between the compiled chunks of one run, or of several runs in step."""

import time
from collections.abc import Callable, Iterator, Sequence

import jax

from muzero_jax.core.errors import InterruptedRunError
from muzero_jax.core.keys import best_evaluation_key, evaluation_key, last_evaluation_key
from muzero_jax.core.types import PRNGKey, PyTree
from muzero_jax.process.signals import StopAsked
from muzero_jax.runs import multihost
from muzero_jax.runs.compiled_run import Programs
from muzero_jax.runs.run_writer import BEST, LAST, RunWriter
from muzero_jax.training.evaluation import EvaluationResult
from muzero_jax.training.train_state import TrainState

KeepGoing = Callable[[int], bool]
# A run, its evaluation, and the state of the evaluated agent.
_Evaluated = tuple[RunWriter, EvaluationResult, PyTree]
# What is evaluated at the end beside the score of record, and how that is shown.
_TOLD = {LAST: "evaluating the last parameters", BEST: "evaluating the best agent"}


class HostLoop:
    """The loop around the compiled chunks, for runs that differ in seeds and traced settings only.

    All runs are at the same step. `programs.width` of them are advanced at a time, chunk by chunk.
    A run that fails stays where it is, and the others go on.

    Args:
      programs: compiled programs of the runs.
      runs: at least one run.
      states: states at which the runs are taken up, in the order of `runs`; empty for runs that
        begin. The list is emptied, because the states are donated.
      stop: object that is asked between chunks whether to save and stop.
      keep_going: function of the environment steps, called after every evaluation but the last. If
        it returns false, the runs are saved and left there.
      most_saving: largest share of the time that checkpoints after the first may take.
    """

    def __init__(
        self,
        programs: Programs,
        runs: Sequence[RunWriter],
        states: list[TrainState],
        stop: StopAsked,
        keep_going: KeepGoing = lambda env_steps: True,
        most_saving: float = 1.0,
    ):
        self.programs, self.runs, self.stop, self.keep_going = programs, runs, stop, keep_going
        self.most_saving, self._save_seconds = most_saving, 0.0
        self.config = runs[0].config
        self.env_steps, self.total = runs[0].counters.env_steps, self.config.total_env_steps
        _tell(self.runs, "compiling")
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

    def finish(self) -> bool:
        """Trains to the end and makes the final evaluations; returns whether it got there."""
        while self.env_steps < self.total and any(part.unfailed() for part in self.slices):
            self._stop_if_asked()
            if self._is_due(self.config.evaluation.interval):
                for run, result, agent in self._evaluate(self.config.evaluation.num_episodes):
                    run.write_evaluation(result, agent)
                self._stop_if_asked()
                if not self.keep_going(self.env_steps):
                    self.save()
                    return False
            _tell(self.runs, "training")
            for part in self.slices:
                part.train()
            self.env_steps += self.config.env_steps_per_chunk
            if self._is_due(self.config.logging.checkpoint_interval) and self._may_save():
                self.save()
        self.save()
        self._stop_if_asked()
        for part in self.slices:
            self._conclude(part)
        return True

    def _conclude(self, part: "_Slice") -> None:
        """Makes the final evaluations of the runs of a slice, and then writes their results."""
        num_episodes = self.config.evaluation.final_num_episodes
        _tell(part.runs, "evaluating")
        results: dict[RunWriter, EvaluationResult] = {}
        for run, result, agent in part.evaluate(self.env_steps, num_episodes):
            run.write_evaluation(result, agent)
            results[run] = result
        others: dict[RunWriter, dict[str, EvaluationResult]] = {run: {} for run in results}
        for name in part.others():
            self._stop_if_asked()
            _tell(part.runs, _TOLD[name])
            for run, result in part.evaluate_other(name, self.env_steps, num_episodes):
                others[run][name] = result
        for run, result in results.items():
            run.write_result(result, others[run], self.programs.width)

    def _is_due(self, interval: int) -> bool:
        """Whether the last chunk passed a multiple of `interval` (0: never)."""
        before = self.env_steps - self.config.env_steps_per_chunk
        return interval > 0 and 0 <= before // interval < self.env_steps // interval

    def _evaluate(self, num_episodes: int) -> Iterator[_Evaluated]:
        _tell(self.runs, "evaluating")
        for part in self.slices:
            yield from part.evaluate(self.env_steps, num_episodes)

    def _may_save(self) -> bool:
        """Whether another save as long as the last would take at most `most_saving` of the time."""
        if not self._save_seconds or self.most_saving >= 1.0:
            return True
        elapsed = time.perf_counter() - self._saved_at + self._save_seconds
        return self._save_seconds <= self.most_saving * elapsed

    def save(self) -> None:
        """Saves a checkpoint of every run that has not failed."""
        start = time.perf_counter()
        for part in self.slices:
            part.save()
        self._saved_at = time.perf_counter()
        self._save_seconds = self._saved_at - start

    def _stop_if_asked(self) -> None:
        number = multihost.agree(self.stop.signal_number)
        if number is None:
            return
        self.save()
        told = f"stopped and saved at {self.env_steps:,} environment steps"
        raise InterruptedRunError(told, number)


class _Slice:
    """Runs that are advanced in one call; it owns the only reference to their donated state.

    Args:
      programs: compiled programs of the runs.
      runs: at most `programs.width` runs; further places repeat the last run, unused.
      states: states of the runs; empty for runs that begin.
    """

    def __init__(self, programs: Programs, runs: Sequence[RunWriter], states: list[TrainState]):
        self.programs, self.runs = programs, runs
        begins = not states
        self.state = programs.init([r.config for r in runs]) if begins else programs.join(states)

    def unfailed(self) -> list[tuple[int, RunWriter]]:
        """The runs that have not failed, with their places in the call."""
        return [(place, run) for place, run in enumerate(self.runs) if run.failure is None]

    def train(self) -> None:
        """Trains one chunk of every run that has not failed."""
        if not self.unfailed():
            return
        start = time.perf_counter()
        self.state, metrics = self.programs.train_chunk(self.state)
        watched = jax.device_get((metrics, self.state.agent.num_updates, self.state.first_failure))
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
        agents = self.programs.agents(self.state)
        results = self._results(agents, evaluation_key, env_steps, num_episodes)
        for place, run in self.unfailed():
            yield run, results[place], self.programs.take(agents, place)

    def others(self) -> tuple[str, ...]:
        """What is evaluated at the end beside the score of record; the same in all processes."""
        averages = self.programs.experiment.agent.unaveraged is not None
        last = (LAST,) if averages and self.unfailed() else ()
        has_best = multihost.agree(1 if self._best_agents() else None) is not None
        return (*last, BEST) if has_best else last

    def evaluate_other(
        self, name: str, env_steps: int, num_episodes: int
    ) -> Iterator[tuple[RunWriter, EvaluationResult]]:
        """Evaluates the last parameters or the best agent of the runs that have not failed.

        Args:
          name: name from `others`.
          env_steps: environment steps of the runs.
          num_episodes: episodes of each run.
        """
        if not multihost.is_main():
            return
        if name == LAST:
            agents = self.programs.unaveraged(self.programs.agents(self.state))
            results = self._results(agents, last_evaluation_key, env_steps, num_episodes)
            yield from ((run, results[place]) for place, run in self.unfailed())
            return
        best = self._best_agents()
        some = next(iter(best.values()))  # It fills the places of runs that have none.
        agents = self.programs.beside([best.get(run, some) for run in self.runs])
        results = self._results(agents, best_evaluation_key, env_steps, num_episodes)
        yield from ((run, results[place]) for place, run in self.unfailed() if run in best)

    def _best_agents(self) -> dict[RunWriter, PyTree]:
        """The best agents of the runs that have not failed and were evaluated more than once."""
        best = {run: run.best_of_several for _, run in self.unfailed()}
        return {run: found.agent for run, found in best.items() if found is not None}

    def _results(
        self,
        agents: PyTree,
        key_of: Callable[[int, int], PRNGKey],
        env_steps: int,
        num_episodes: int,
    ) -> list[EvaluationResult]:
        """The evaluations of agents that lie side by side, by place."""
        keys = [key_of(run.config.seed, env_steps) for run in self.runs]
        return self.programs.evaluate.each(agents, self.programs.fill(keys), num_episodes)

    def save(self) -> None:
        """Saves a checkpoint of every run that has not failed."""
        for place, run in self.unfailed():
            run.save(self._state_of(place))

    def _state_of(self, place: int) -> TrainState:
        state: TrainState = multihost.collect(self.programs.take(self.state, place))
        return state


def _tell(runs: Sequence[RunWriter], activity: str) -> None:
    """Shows what is done now with the runs that have not failed."""
    for run in runs:
        if run.failure is None:
            run.display.activity(activity)
