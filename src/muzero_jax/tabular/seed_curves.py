"""Learning curves of many seeds on a tabular environment, in memory and in one compiled program.

For experiments of seconds, where folders, checkpoints and played episodes would cost more than the
runs: all seeds are vmapped, and after every chunk their greedy policies are evaluated exactly.
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
from muzero_jax.core.types import PyTree
from muzero_jax.runs.build import build
from muzero_jax.runs.compiled_run import Programs
from muzero_jax.tabular.exact_evaluation import ExactEvaluation
from muzero_jax.training.loop import ChangeCollect


@dataclasses.dataclass(frozen=True, eq=False)
class SeedCurves:
    """The curves of one setting.

    Attributes:
      env_steps: `[N]` environment steps of each run at each chunk's end.
      metrics: `[num_seeds, N]` by name, those of the chunks and of the exact evaluation.
      value: `[num_seeds, N, S]` what the agents have learned that the states are worth.
      optimal_return: exact, of the environment.
      train_seconds: of all chunks, compilation and evaluation apart.
      compile_seconds: of the programs.
      agents: the agents' states after the last chunk, `[num_seeds, ...]`.
    """

    env_steps: np.ndarray
    metrics: Mapping[str, np.ndarray]
    value: np.ndarray
    optimal_return: float
    train_seconds: float
    compile_seconds: float
    agents: PyTree

    @property
    def greedy_return(self) -> np.ndarray:
        """`[num_seeds, N]` exact discounted return of the greedy policies."""
        return self.metrics["oracle/greedy_return"]

    def steps_to(self, share: float) -> np.ndarray:
        """`[num_seeds]` environment steps until a greedy policy has this share of the optimum.

        Infinite where none of a seed has; what becomes of it later is of no account.
        """
        reached = self.greedy_return >= share * self.optimal_return - 1e-9
        steps = self.env_steps[reached.argmax(axis=1)].astype(float)
        return np.where(reached.any(axis=1), steps, np.inf)


Solved = Callable[[np.ndarray], np.ndarray]
"""From greedy returns `[num_seeds]` to whether each needs no more training, `[num_seeds]` bool."""


def learn_curves(
    config: ExperimentConfig,
    num_seeds: int,
    solved: Solved | None = None,
    on_chunk: Callable[[float], None] | None = None,
    change_collect: ChangeCollect = lambda collect: collect,
) -> SeedCurves:
    """Trains the seeds `config.seed`, `config.seed + 1`, ... side by side.

    Args:
      config: the settings; a chunk is the distance of two points of the curves.
      num_seeds: at least 2.
      solved: ends the training early where it holds for all seeds.
      on_chunk: told after each chunk which share of all chunks is done.
      change_collect: gives another way of collecting in the place of the usual one.

    Raises:
      ConfigError: the environment is not tabular, or a setting does not suit it.
      EnvironmentCreationError: there is no such environment.
    """
    start = time.perf_counter()
    experiment = build(config, change_collect=change_collect)
    exact = ExactEvaluation(experiment.env, experiment.agent)
    programs = Programs(experiment, num_seeds)
    programs.compile()
    seeds = [dataclasses.replace(config, seed=config.seed + number) for number in range(num_seeds)]
    state = programs.init(seeds)
    ask = jax.jit(jax.vmap(exact.answers, in_axes=(0, None)))
    rng_key = jax.random.key(config.seed)
    answers = ask.lower(state.agent, rng_key).compile()
    compile_seconds = time.perf_counter() - start
    train_seconds, points, values = 0.0, [], []
    for number in range(config.num_chunks):
        start = time.perf_counter()
        state, metrics = programs.train_chunk(state)
        points.append(jax.device_get(metrics))
        train_seconds += time.perf_counter() - start
        answer = jax.device_get(answers(state.agent, rng_key))
        points[-1] |= _exact_metrics(exact, answer)
        values.append(answer["value"])
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
        agents=jax.device_get(state.agent),
    )


def _exact_metrics(
    exact: ExactEvaluation, answers: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    num_seeds = len(answers["action"])
    rows = [exact.metrics({k: x[seed] for k, x in answers.items()}) for seed in range(num_seeds)]
    return {name: np.array([row[name] for row in rows]) for name in rows[0]}


def learn_curves_of(
    configs: Mapping[str, ExperimentConfig],
    num_seeds: int,
    solved: Solved | None = None,
    change_collect: ChangeCollect = lambda collect: collect,
) -> dict[str, SeedCurves]:
    """The curves of several settings, a thread for each core, with a line for each on the screen.

    How many settings are done and how long the others will take is said on stderr.

    Args:
      configs: settings by name; the longest first.
      num_seeds: of each.
      solved: see `learn_curves`.
      change_collect: see `learn_curves`.
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
