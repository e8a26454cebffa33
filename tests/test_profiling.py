"""The profilers, and that the bare network work is the network work of the chunk."""

import json
import math
import subprocess
import sys
from pathlib import Path

import jax
import pytest
from tiny import tiny_config

from muzero_jax.profiling import loop_cost
from muzero_jax.profiling.loop_cost import measure_loop, network_work_of
from muzero_jax.runs.build import build

SCRIPTS = Path(__file__).parents[1] / "scripts"
CONFIG = tiny_config(training={"iterations_per_chunk": 2})


def bodies_of(equation):
    """The inner programs of an equation."""
    values = [v for x in equation.params.values() for v in (x if isinstance(x, tuple) else (x,))]
    inner = [getattr(value, "jaxpr", value) for value in values]
    return [value for value in inner if hasattr(value, "eqns")]


def multiply_adds(jaxpr):
    """Those of all products of two matrices, loop bodies as often as they run."""
    total = 0
    for equation in jaxpr.eqns:
        if equation.primitive.name == "dot_general":
            shapes = [var.aval.shape for var in equation.invars]
            (contracted, _), _ = equation.params["dimension_numbers"]
            size = math.prod(equation.outvars[0].aval.shape)
            # A product with a vector weighs the terms of a loss; it is no pass of a network.
            if min(map(len, shapes)) >= 2:
                total += size * math.prod(shapes[0][axis] for axis in contracted)
        counts = [multiply_adds(body) for body in bodies_of(equation)]
        match equation.primitive.name:
            case "while":
                assert not any(counts), "a loop of unknown length multiplies matrices"
            case "scan":
                total += equation.params["length"] * sum(counts)
            case "cond":
                total += max(counts)
            case _:
                total += sum(counts)
    return total


@pytest.mark.parametrize(
    "target",
    [
        {"bootstrap": "search"},
        {"bootstrap": "network"},
        {"td_lambda": 0.9},
        {"reanalyse_fraction": 0.5},
        {"reanalyse_fraction": 0.5, "td_steps": 2},  # Bootstraps from states it has a policy for.
    ],
    ids=str,
)
@pytest.mark.parametrize("consistency_weight", [0.0, 2.0])
def test_bare_network_work_multiplies_as_much_as_the_chunk(target, consistency_weight):
    config = tiny_config(
        target=target,
        training={"iterations_per_chunk": 2},
        loss={"consistency_weight": consistency_weight},
    )
    experiment = build(config)
    key = jax.eval_shape(jax.random.key, 0)
    state = jax.eval_shape(experiment.train.init, key)
    chunk = jax.make_jaxpr(experiment.train.train_chunk)(state)
    work = network_work_of(experiment)
    bare = jax.make_jaxpr(work.chunk)(state.agent, key)
    assert multiply_adds(bare.jaxpr) == pytest.approx(multiply_adds(chunk.jaxpr), rel=0.03)


@pytest.fixture
def clock(monkeypatch):
    """Programs that are neither compiled nor run: they take the seconds that a test says."""

    def set_seconds(module, compiling, *calls):
        compile_times, call_times = iter(compiling), iter(calls)
        monkeypatch.setattr(
            module, "timed_compile", lambda *_, donate=False: (None, next(compile_times))
        )
        monkeypatch.setattr(module, "timed_call", lambda _, x, *__: ((x, {}), next(call_times)))

    return set_seconds


def test_loop_rates_follow_from_the_median_times(clock):
    warm_up = [1000.0] * CONFIG.num_warm_up_chunks
    clock(loop_cost, [9.0, 5.0], *warm_up, 4.0, 2.0, 3.0, 1.0, 100.0, 50.0)
    cost = measure_loop(CONFIG, num_repeats=3)
    assert (cost.chunk_seconds, cost.network_seconds, cost.compile_seconds) == (4.0, 2.0, 9.0)
    assert cost.loop_efficiency == 0.5
    assert cost.env_steps_per_second == CONFIG.env_steps_per_chunk / 4.0
    assert cost.simulations_per_second == 4 * CONFIG.env_steps_per_chunk / 4.0
    # Two iterations of 16 steps, batches of 8, ratio 1.
    assert cost.updates_per_second == 2 * 2 / 4.0
    assert cost.peak_memory_bytes > 1e6


def run_script(name, *arguments):
    command = [sys.executable, str(SCRIPTS / name), *arguments]
    return subprocess.run(command, check=False, capture_output=True, text=True)


@pytest.mark.slow
def test_benchmark_script_prints_one_object_or_one_sentence():
    small = ["--training.num_envs", "2", "--replay.min_size", "32", "--network.stem_channels", "0"]
    done = run_script("benchmark_loop.py", "catch", *small, "--repeats", "1", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["env_steps_per_second"] > 0
    failed = run_script("benchmark_loop.py", "catch", "--search.num_simulation", "3")
    assert failed.returncode == 2 and not failed.stdout
    assert failed.stderr.startswith("error: unknown setting --search.num_simulation; did you mean")
