"""Environment steps a second of tabular MuZero on the maze: compiled and vmapped, and plain Python.

    python scripts/benchmark_tabular.py [--simulations 50] [--seeds 200] [--json]

Both act by a PUCT search over a learned table and learn values, counts and outcomes from batches of
100 steps, with the settings of experiments/maze_simulations.py, through its whole schedule: early
trees are shallow and quick, late ones deep. The compiled one draws its 100 value targets with
replacement and changes its model after the batch; the plain one takes each target once, and changes
its model after each episode. They take turns in one process.
"""

import argparse
import dataclasses
import json
import math
import os
import random
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import jax

from muzero_jax.cli.experiments import load_experiment
from muzero_jax.config import ExperimentConfig
from muzero_jax.core.terminal import run_program
from muzero_jax.runs.build import build
from muzero_jax.runs.compiled_run import Programs
from muzero_jax.settings import apply_settings
from muzero_jax.tabular.cutting import CutEpisodes
from muzero_jax.tabular.processes.gridworld import maze_mdp
from muzero_jax.training.train_state import TrainState


class PlainLearner:
    """The same learner with lists and dictionaries, one step after the other."""

    def __init__(self, num_simulations: int, td_steps: int, seed: int):
        mdp = maze_mdp()
        self.next_state = mdp.next_state[..., 0].tolist()
        self.reward = mdp.reward[..., 0].tolist()
        self.terminates = mdp.terminates[..., 0].tolist()
        self.starts = [s for s, p in enumerate(mdp.start) if p > 0]
        self.discount, self.num_simulations, self.td_steps = 0.99, num_simulations, td_steps
        self.random = random.Random(seed)
        self.known: dict[tuple[int, int], tuple[int, float, bool]] = {}
        self.value = [0.0] * mdp.num_states
        self.counts = [[1.0] * 4 for _ in range(mdp.num_states)]

    def learn_batch(self, num_steps: int, temperature: float) -> None:
        """Acts for `num_steps` steps, and learns from them."""
        episode: list[tuple[int, int, float, bool, float]] = []
        state = self.random.choice(self.starts)
        for number in range(num_steps):
            action, value = self.act(state, temperature)
            reward, ends = self.reward[state][action], self.terminates[state][action]
            episode.append((state, action, reward, ends, value))
            state = self.next_state[state][action]
            if ends or len(episode) == 50 or number == num_steps - 1:
                self.learn_episode(episode, state)
                episode, state = [], self.random.choice(self.starts)

    def learn_episode(self, episode: list[tuple[int, int, float, bool, float]], last: int) -> None:
        """Outcomes, counts, and n-step returns."""
        length, values = len(episode), [step[4] for step in episode] + [self.value[last]]
        following = [step[0] for step in episode[1:]] + [last]
        for start, (state, action, reward, ends, _) in enumerate(episode):
            stop = min(start + self.td_steps, length)
            total = 0.0 if episode[stop - 1][3] else values[stop]
            for step in reversed(episode[start:stop]):
                total = step[2] + self.discount * total
            self.value[state] += 0.1 * (total - self.value[state])
            self.known[state, action] = (following[start], reward, ends)
            self.counts[state][action] += 1.0

    def act(self, state: int, temperature: float) -> tuple[int, float]:
        """An action by its Q-value, and the value of the policy, after a search."""
        root = self.node(state, False)
        for _ in range(self.num_simulations):
            self.simulate(root)
        best = max(root["q"])
        weights = [math.exp((q - best) / temperature) for q in root["q"]]
        value = sum(w * q for w, q in zip(weights, root["q"], strict=True)) / sum(weights)
        return self.random.choices(range(4), weights)[0], value

    def node(self, state: int, ended: bool) -> dict:
        """A new node, with the prior of its state."""
        counts = self.counts[state]
        total = sum(counts)
        return {
            "state": state,
            "ended": ended,
            "p": [c / total for c in counts],
            "n": [0] * 4,
            "q": [0.0] * 4,
            "r": [0.0] * 4,
            "child": [None] * 4,
        }

    def simulate(self, node: dict) -> float:
        """One simulation below a node; returns what it found."""
        if node["ended"]:
            return 0.0
        total = sum(node["n"])
        scale = math.sqrt(total) * (1.25 + math.log((total + 20_001) / 20_000))
        best, action = -math.inf, 0
        for a in range(4):
            score = node["q"][a] + scale * node["p"][a] / (1 + node["n"][a])
            if score > best:
                best, action = score, a
        if node["child"][action] is None:
            state = node["state"]
            following, reward, ended = self.known.get((state, action), (state, 0.0, True))
            node["r"][action], node["child"][action] = reward, self.node(following, ended)
            found = reward + (0.0 if ended else self.discount * self.value[following])
        else:
            found = node["r"][action] + self.discount * self.simulate(node["child"][action])
        visits = node["n"][action]
        node["q"][action] = (visits * node["q"][action] + found) / (visits + 1)
        node["n"][action] = visits + 1
        return found


def temperature_at(config: ExperimentConfig, env_steps: int) -> float:
    """Of the softmax over Q-values, at a time of the run."""
    search, progress = config.learner.search, env_steps / config.total_env_steps
    return search.temperature * (search.final_temperature / search.temperature) ** progress


class CompiledRuns:
    """Vmapped runs, divided among as many threads as there are cores."""

    def __init__(self, config: ExperimentConfig, num_seeds: int):
        num_threads = os.cpu_count() or 1
        self.width = -(-num_seeds // num_threads)
        self.num_seeds = self.width * num_threads
        self.programs = Programs(build(config, change_collect=CutEpisodes), self.width)
        self.programs.compile()
        self.pool = ThreadPoolExecutor(num_threads)
        seeds = [dataclasses.replace(config, seed=seed) for seed in range(self.num_seeds)]
        self.states = [
            self.programs.init(seeds[first : first + self.width])
            for first in range(0, self.num_seeds, self.width)
        ]

    def train_chunk(self) -> None:
        """A chunk of all runs."""
        self.states = list(self.pool.map(self._train, self.states))

    def _train(self, state: TrainState) -> TrainState:
        return jax.block_until_ready(self.programs.train_chunk(state)[0])


def main() -> int:
    """Trains both through the whole schedule, a chunk each in turns, and prints their speeds."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--simulations", type=int, default=50)
    parser.add_argument("--seeds", type=int, default=200, help="vmapped runs, at least")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    config = apply_settings(
        load_experiment("maze_simulations"), {"search.num_simulations": options.simulations}
    )
    compiled = CompiledRuns(config, options.seeds)
    plain = PlainLearner(options.simulations, config.learner.target.td_steps, seed=0)
    seconds = {"compiled": 0.0, "plain": 0.0}
    for chunk in range(config.num_chunks):
        start = time.perf_counter()
        compiled.train_chunk()
        middle = time.perf_counter()
        for batch in range(config.training.iterations_per_chunk):
            env_steps = chunk * config.env_steps_per_chunk + batch * 100
            plain.learn_batch(100, temperature_at(config, env_steps))
        seconds["compiled"] += middle - start
        seconds["plain"] += time.perf_counter() - middle
    results = {
        "simulations": options.simulations,
        "seeds": compiled.num_seeds,
        "env_steps_of_a_run": config.total_env_steps,
        "compiled_env_steps_per_second": config.total_env_steps
        * compiled.num_seeds
        / seconds["compiled"],
        "plain_env_steps_per_second": config.total_env_steps / seconds["plain"],
    }
    results["ratio"] = (
        results["compiled_env_steps_per_second"] / results["plain_env_steps_per_second"]
    )
    if options.json:
        print(json.dumps(results))
    else:
        print("\n".join(f"{name:32} {value:,.1f}" for name, value in results.items()))
    return 0


if __name__ == "__main__":
    sys.exit(run_program(main))
