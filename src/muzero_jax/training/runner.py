"""The host's side of training: what happens between compiled chunks."""

import contextlib
import shlex
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax

from muzero_jax.config import ExperimentConfig
from muzero_jax.training.build import build
from muzero_jax.training.errors import InterruptedRunError, RunError
from muzero_jax.training.evaluation import EvaluationResult, UnfinishedEpisodeError
from muzero_jax.training.keys import evaluation_key
from muzero_jax.training.loop import TrainState
from muzero_jax.training.programs import Programs
from muzero_jax.training.progress import make_display
from muzero_jax.training.run_folder import load_config, locked, new_run_folder, read_result
from muzero_jax.training.run_writer import RunWriter, find_start
from muzero_jax.training.signals import StopRequest

LEARNING_CURVE_FILE = "learning_curve.png"


def train(config: ExperimentConfig, out: Path | None = None) -> dict[str, Any]:
    """Trains from the start, in a new run folder.

    Args:
      config: the settings.
      out: the run folder; a new one under `runs/` where None.

    Returns:
      The content of `result.json`.

    Raises:
      ConfigError: a setting cannot work; nothing is left behind.
      EnvironmentCreationError: likewise, of the environment.
      RunError: the run ended early, see `training.errors`.
    """
    started = time.perf_counter()
    programs = Programs(build(config))
    with new_run_folder(config, out) as run_dir:
        return _execute(programs, config, run_dir, started)


def resume(run_dir: Path) -> dict[str, Any]:
    """Continues a run, bit for bit as if it had not been interrupted.

    Returns:
      The content of `result.json`, at once if the run is finished.

    Raises:
      InvalidRunError: it is not a run folder.
      RunError: the run ended early, see `training.errors`.
    """
    started = time.perf_counter()
    config = load_config(run_dir)
    with locked(run_dir):
        result = read_result(run_dir)
        if result is not None:
            print(f"{run_dir} is finished: {describe_result(result)}.")
            return result
        return _execute(Programs(build(config)), config, run_dir, started)


def describe_result(result: Mapping[str, Any]) -> str:
    """The final score and what it took, in half a sentence."""
    return (
        f"score {result['score_mean']:.4g} ± {result['score_std']:.3g} over {result['episodes']} "
        f"greedy episodes after {result['env_steps']:,} environment steps, "
        f"{result['train_seconds']:.1f} s of training and {result['compile_seconds']:.1f} s of "
        "compiling"
    )


def _execute(
    programs: Programs, config: ExperimentConfig, run_dir: Path, started: float
) -> dict[str, Any]:
    """Works on a run until it is finished; the caller holds the folder's lock."""
    device = jax.devices()[0].device_kind
    title = f"{config.name}, seed {config.seed}, on {device}: {run_dir}"
    display = make_display(config, total_env_steps(config), title)

    def confirm(signal_number: int) -> None:
        display.note("stopping after this chunk, to save it; Ctrl-C aborts at once")

    with StopRequest(confirm) as stop, display, contextlib.ExitStack() as stack:
        start = find_start(run_dir, programs.shapes)
        run = RunWriter(config, run_dir, start, display, started)
        stack.callback(run.close)
        states = [] if start.state is None else [start.state]
        # The lists are the only references to the states, which the chunks are given to write over.
        del start
        resume_command = f"muzero train --resume {shlex.quote(str(run_dir))}"
        Runner(programs, [run], states, stop, resume_command).finish()
        if run.failure is not None:
            raise run.failure
        assert run.result is not None
        display.activity("drawing the learning curve")
        if notice := _draw_learning_curve(run_dir):
            display.note(notice)
    print(f"finished: {describe_result(run.result)}; everything is in {run_dir}")
    return run.result


def total_env_steps(config: ExperimentConfig) -> int:
    """Environment steps of the whole run: `training.num_env_steps` in whole chunks."""
    return config.num_chunks * config.env_steps_per_chunk


KeepGoing = Callable[[int, Sequence[float | None]], bool]


class Runner:
    """The loop between the chunks, for runs that differ in seeds and traced settings only.

    All runs are at the same step. They are advanced `programs.width` at a time, chunk by chunk. A
    run that fails is left where it is; the others go on.

    Args:
      programs: of the runs.
      runs: their folders, a multiple of `programs.width`; at least one.
      states: where they are taken up, in the order of `runs`; empty where they begin. The list is
        emptied, since the states are donated.
      stop: asked between chunks.
      resume_command: told to whoever stops them.
      keep_going: called after each evaluation before the last with the environment steps and the
        mean score of each run, None of one that has failed; where it is false, the runs are saved
        and left there.
    """

    def __init__(
        self,
        programs: Programs,
        runs: Sequence[RunWriter],
        states: list[TrainState],
        stop: StopRequest,
        resume_command: str,
        keep_going: KeepGoing = lambda env_steps, scores: True,
    ):
        self.programs, self.runs, self.stop, self.keep_going = programs, runs, stop, keep_going
        self.resume_command = resume_command
        self.config = runs[0].config
        self.env_steps, self.total = runs[0].counters.env_steps, total_env_steps(self.config)
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

    def finish(self) -> bool:
        """Runs all chunks that are left, then evaluates for good; returns whether it got there."""
        while self.env_steps < self.total and any(part.unfailed() for part in self.slices):
            self._stop_if_asked()
            if self._is_due(self.config.evaluation.interval):
                scores = self._evaluate_on_the_way()
                self._stop_if_asked()
                if not self.keep_going(self.env_steps, scores):
                    self._save()
                    return False
            self._tell("training")
            for part in self.slices:
                part.train()
            self.env_steps += self.config.env_steps_per_chunk
            if self._is_due(self.config.logging.checkpoint_interval):
                self._save()
        self._save()
        self._stop_if_asked()
        for run, evaluation in self._evaluate(self.config.evaluation.final_num_episodes):
            run.write_result(evaluation, self.programs.width)
        return True

    def _is_due(self, interval: int) -> bool:
        """Whether the last chunk passed a multiple of `interval` (0: never)."""
        before = self.env_steps - self.config.env_steps_per_chunk
        return interval > 0 and 0 <= before // interval < self.env_steps // interval

    def _evaluate_on_the_way(self) -> list[float | None]:
        """Writes an evaluation of every run; returns their mean scores."""
        rows = {
            run.run_dir: run.write_evaluation(evaluation)
            for run, evaluation in self._evaluate(self.config.evaluation.num_episodes)
        }
        return [rows[r.run_dir]["score_mean"] if r.run_dir in rows else None for r in self.runs]

    def _evaluate(self, num_episodes: int) -> Iterator[tuple[RunWriter, EvaluationResult]]:
        self._tell("evaluating")
        for part in self.slices:
            yield from part.evaluate(self.env_steps, num_episodes)

    def _save(self) -> None:
        for part in self.slices:
            part.save()

    def _stop_if_asked(self) -> None:
        number = self.stop.signal_number
        if number is None:
            return
        self._save()
        raise InterruptedRunError(
            f"stopped and saved at {self.env_steps:,} environment steps; continue with: "
            f"{self.resume_command}",
            number,
        )

    def _tell(self, activity: str) -> None:
        for run in self.runs:
            if run.failure is None:
                run.display.activity(activity)


class _Slice:
    """Runs that are advanced in one call; it owns the only reference to their donated state.

    Args:
      programs: of the runs.
      runs: as many as `programs.width`.
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

    def evaluate(
        self, env_steps: int, num_episodes: int
    ) -> Iterator[tuple[RunWriter, EvaluationResult]]:
        """Evaluates the runs that have not failed; one whose episodes do not end fails here."""
        if not self.unfailed():
            return
        keys = [evaluation_key(run.config.seed, env_steps) for run in self.runs]
        results = self.programs.evaluate.each(self.state.agent, keys, num_episodes)
        for place, run in self.unfailed():
            result = results[place]
            if isinstance(result, UnfinishedEpisodeError):
                run.save(self._state_of(place))
                run.failure = RunError(f"{result} The state is saved in {run.run_dir}.")
            else:
                yield run, result

    def save(self) -> None:
        """A checkpoint of every run that has not failed."""
        for place, run in self.unfailed():
            run.save(self._state_of(place))

    def _state_of(self, place: int) -> TrainState:
        state: TrainState = self.programs.take(self.state, place)
        return state


def _draw_learning_curve(run_dir: Path) -> str | None:
    """Draws it, or says in one line why there is none."""
    from muzero_jax.analysis.extras import MissingExtraError
    from muzero_jax.analysis.plots import plot_runs
    from muzero_jax.analysis.runs import RunFolderError

    try:
        plot_runs([run_dir], run_dir / LEARNING_CURVE_FILE)
    except (MissingExtraError, RunFolderError) as error:
        return f"notice: there is no learning curve. {error}"
    return None
