"""Learning curves of many seeds on a tabular environment, in memory and in one compiled program.

All seeds are vmapped, and after every chunk their greedy policies are evaluated exactly. This is
for experiments of seconds, where folders, checkpoints and played episodes would cost more than the
runs themselves.
"""

import dataclasses
import functools
import os
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor

import jax
import numpy as np

from muzero_jax.config import ExperimentConfig
from muzero_jax.core.stages import Tally, stage
from muzero_jax.runs.build import build
from muzero_jax.runs.compiled_run import Programs
from muzero_jax.tabular.exact_evaluation import ExactEvaluation
from muzero_jax.training.loop import ChangeCollect


@dataclasses.dataclass(frozen=True, eq=False)
class SeedCurves:
    """The curves of one setting.

    Attributes:
      env_steps: `[N]` environment steps of each run at each chunk's end.
      metrics: `[num_seeds, N]` by name, metrics of the chunks and of the exact evaluation.
      value: `[num_seeds, N, S]` values of the states as the agents have learned them.
      optimal_return: exact discounted return of an optimal policy.
      train_seconds: wall-clock of all chunks, compilation and evaluation apart.
      compile_seconds: wall-clock of compiling the programs.
    """

    env_steps: np.ndarray
    metrics: Mapping[str, np.ndarray]
    value: np.ndarray
    optimal_return: float
    train_seconds: float
    compile_seconds: float

    @property
    def greedy_return(self) -> np.ndarray:
        """`[num_seeds, N]` exact discounted return of the greedy policies."""
        return self.metrics["oracle/greedy_return"]

    def steps_to(self, share: float) -> np.ndarray:
        """`[num_seeds]` steps to this share of the optimal return; infinite if not reached."""
        reached = self.greedy_return >= share * self.optimal_return - 1e-9
        steps = self.env_steps[reached.argmax(axis=1)].astype(float)
        return np.where(reached.any(axis=1), steps, np.inf)


Solved = Callable[[np.ndarray], np.ndarray]
"""From greedy returns `[num_seeds]` to whether each seed is done, `[num_seeds]` bool."""


def learn_curves(
    config: ExperimentConfig,
    num_seeds: int,
    solved: Solved | None = None,
    on_chunk: Callable[[float], None] | None = None,
    change_collect: ChangeCollect = lambda collect: collect,
) -> SeedCurves:
    """Trains the seeds `config.seed`, `config.seed + 1`, ... side by side.

    Args:
      config: the settings; the curves have a point for each chunk.
      num_seeds: number of seeds, at least 2.
      solved: function that says which seeds are done; the training ends when all are.
      on_chunk: function that is called after each chunk with the share of chunks that are done.
      change_collect: function that gives another way of collecting in the place of the usual one.

    Raises:
      ConfigError: the environment is not tabular, or a setting does not suit the environment.
      EnvironmentCreationError: there is no such environment.
    """
    start = time.perf_counter()
    experiment = build(config, change_collect=change_collect)
    exact = ExactEvaluation(experiment.env, experiment.agent)
    programs = Programs(experiment, num_seeds)
    programs.compile()
    seeds = [dataclasses.replace(config, seed=config.seed + number) for number in range(num_seeds)]
    state, rng_key = programs.init(seeds), jax.random.key(config.seed)
    ask = jax.jit(jax.vmap(exact.answers, in_axes=(0, None))).lower(state.agent, rng_key).compile()
    compile_seconds = time.perf_counter() - start
    train_seconds, points, values = 0.0, [], []
    for number in range(config.num_chunks):
        start = time.perf_counter()
        state, metrics = programs.train_chunk(state)
        metrics = jax.device_get(metrics)
        train_seconds += time.perf_counter() - start
        answers = jax.device_get(ask(state.agent, rng_key))
        rows = [exact.metrics(programs.take(answers, seed)) for seed in range(num_seeds)]
        points.append(metrics | {name: np.array([row[name] for row in rows]) for name in rows[0]})
        values.append(answers["value"])
        if on_chunk is not None:
            on_chunk((number + 1) / config.num_chunks)
        if solved is not None and solved(points[-1]["oracle/greedy_return"]).all():
            break
    return SeedCurves(
        env_steps=config.env_steps_per_chunk * np.arange(1, len(points) + 1),
        metrics={name: np.stack([point[name] for point in points], axis=1) for name in points[0]},
        value=np.stack(values, axis=1),
        optimal_return=exact.optimal_return,
        train_seconds=train_seconds,
        compile_seconds=compile_seconds,
    )


def learn_curves_of(
    configs: Mapping[str, ExperimentConfig],
    num_seeds: int,
    solved: Solved | None = None,
    change_collect: ChangeCollect = lambda collect: collect,
) -> dict[str, SeedCurves]:
    """Trains several settings in a thread for each core, and prints a line for each setting.

    stderr shows how many settings are done and how long the others will take. The errors are those
    of `learn_curves`.

    Args:
      configs: settings by name, the setting that takes longest first.
      num_seeds: number of seeds of each setting.
      solved: function that says which seeds are done, see `learn_curves`.
      change_collect: function that gives another way of collecting, see `learn_curves`.
    """
    num_threads = min(os.cpu_count() or 1, len(configs))
    tally = Tally(len(configs), "arms", f" of {num_seeds} seeds each, {num_threads} at a time")

    def learn(name: str) -> SeedCurves:
        on_chunk = functools.partial(tally.advance, name)
        on_chunk(0.0)
        stage(f"compiling {name}")
        curves = learn_curves(configs[name], num_seeds, solved, on_chunk, change_collect)
        reached = np.median(curves.greedy_return[:, -1])
        print(
            f"{name}: {num_seeds} seeds of {curves.env_steps[-1]:,} steps in "
            f"{curves.train_seconds:.1f} s and {curves.compile_seconds:.1f} s of compiling; "
            f"median greedy return {reached:.4f}, optimal {curves.optimal_return:.4f}",
            flush=True,
        )
        tally.finish(name)
        return curves

    with ThreadPoolExecutor(num_threads) as pool:
        return dict(zip(configs, pool.map(learn, configs), strict=True))
