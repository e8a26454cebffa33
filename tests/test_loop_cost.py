"""A training chunk taken apart, and that the bare network work is the network work of the chunk."""

import contextlib
import dataclasses
import io
import json
import math
import runpy
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest
from tiny import tiny_config

from muzero_jax.cli import main
from muzero_jax.config import ConfigError
from muzero_jax.profiling import loop_cost
from muzero_jax.profiling.loop_cost import LoopCost
from muzero_jax.profiling.timing import timed_in_turns
from muzero_jax.runs.build import build

BENCHMARK = Path(__file__).parents[1] / "scripts" / "benchmark_loop.py"
TRAINING = {"iterations_per_chunk": 2}
CONFIG = tiny_config(training=TRAINING)
# What each program is said to take, in seconds: the middle one of three counts.
SECONDS = {
    "chunk": 4.0,
    "acting": 2.0,
    "environment": 0.5,
    "sample": 0.25,
    "optimiser": 0.125,
    "act_network": 1.0,
    "learn_network": 0.75,
}


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
    ("target", "consistency_weight"),
    [
        ({"bootstrap": "search"}, 0.0),
        ({"bootstrap": "network"}, 2.0),
        ({"td_lambda": 0.9}, 0.0),
        ({"reanalyse_fraction": 0.5}, 0.0),
        ({"reanalyse_fraction": 0.5}, 2.0),
        # Bootstraps from states it has a policy for.
        ({"reanalyse_fraction": 0.5, "td_steps": 2}, 2.0),
    ],
    ids=str,
)
def test_bare_network_work_multiplies_as_much_as_the_chunk(target, consistency_weight):
    loss = {"consistency_weight": consistency_weight}
    config = tiny_config(target=target, training=TRAINING, loss=loss)
    experiment = build(config)
    key = jax.eval_shape(jax.random.key, 0)
    state = jax.eval_shape(experiment.train.init, key)
    chunk = jax.make_jaxpr(experiment.train.train_chunk)(state)
    loops = loop_cost.network_loops(config, experiment.agent.network_work)
    names = ("act_network", "learn_network")
    parts = [jax.make_jaxpr(loops[name])(state.agent, key) for name in names]
    bare = sum(multiply_adds(part.jaxpr) for part in parts)
    assert bare == pytest.approx(multiply_adds(chunk.jaxpr), rel=0.03)


@pytest.fixture(scope="module")
def profile(tmp_path_factory):
    """What `muzero profile loop --json` prints of a real chunk, and the programs that it times."""
    script = tmp_path_factory.mktemp("experiment") / "small.py"
    script.write_text(f"from tiny import tiny_config\nCONFIG = tiny_config(training={TRAINING})\n")
    programs, printed = {}, io.StringIO()

    def time_in_turns(found, num_repeats):
        programs.update(found)
        assert num_repeats == 3
        return {name: [0.5 * SECONDS[name], 99.0, SECONDS[name]] for name in found}

    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(printed):
        patch.setattr(loop_cost, "timed_in_turns", time_in_turns)
        assert main(["profile", "loop", str(script), "--repeats", "3", "--json"]) == 0
    return json.loads(printed.getvalue()), programs


def test_the_parts_of_a_chunk_are_differences_of_median_times(profile):
    found, programs = profile
    assert set(programs) == set(SECONDS)
    assert found["parts"] == {
        "environment": 500.0,
        "search_network": 1000.0,
        "search_tree": 500.0,
        "sample": 250.0,
        "forward_backward": 750.0,
        "optimiser": 125.0,
        "rest_of_learning": 875.0,
    }
    assert sum(found["parts"].values()) == found["chunk"] == 4000.0
    assert isinstance(found["advice"], list)


def test_loop_rates_follow_from_the_median_times(profile):
    found, _ = profile
    assert (found["chunk_seconds"], found["network_seconds"]) == (4.0, 1.75)
    assert found["loop_efficiency"] == 1.75 / 4.0
    assert found["env_steps_per_second"] == CONFIG.env_steps_per_chunk / 4.0
    assert found["simulations_per_second"] == 4 * CONFIG.env_steps_per_chunk / 4.0
    # Two iterations of 16 steps, batches of 8, ratio 1.
    assert found["updates_per_second"] == 2 * 2 / 4.0
    assert found["simulations"] == 4 and found["flops"] > 0 and found["compile_seconds"] > 0
    assert found["peak_memory_bytes"] > 1e6


def test_every_program_runs_and_acting_does_not_learn(profile):
    _, programs = profile
    copies = {name: jax.tree.map(jnp.copy, args) for name, (_, args) in programs.items()}
    results = {name: program(*copies[name]) for name, (program, _) in programs.items()}
    assert results["chunk"][1]["train/num_updates"] > 0
    _, metrics = results["acting"]
    assert metrics["train/num_updates"] == 0
    assert jnp.isfinite(metrics["search/value"])


def test_programs_are_timed_in_turns_on_copies_after_a_call_to_warm_up():
    x, calls = jnp.ones(2), []

    def program_of(name):
        return lambda y: calls.append((name, y is x))

    programs = {name: (program_of(name), (x,)) for name in "ab"}
    times = timed_in_turns(programs, num_repeats=2)
    assert calls == [("a", False), ("b", False)] * 3
    assert {name: len(seconds) for name, seconds in times.items()} == {"a": 2, "b": 2}


def test_the_chunk_of_several_shards_is_not_taken_apart():
    with pytest.raises(ConfigError, match=r"of one shard .* found training.num_shards 2\."):
        loop_cost.measure_loop(tiny_config(training={"num_shards": 2}))


def cost_of(**milliseconds):
    names = ("environment", "search_network", "search_tree", "sample", "forward_backward")
    parts = dict.fromkeys((*names, "optimiser", "rest_of_learning"), 0.0) | milliseconds
    values = dict.fromkeys(LoopCost.__dataclass_fields__, 0.0) | {
        "device": "cpu",
        "simulations": 16,
    }
    values |= {"chunk_seconds": sum(parts.values()) / 1e3, "loop_efficiency": 0.5, "parts": parts}
    return LoopCost(**values)


def test_advice_names_what_would_help_most_first():
    advice = cost_of(search_network=40.0, search_tree=40.0, forward_backward=20.0).advice()
    assert advice[0].startswith("search takes 80% of the chunk; 8 simulations instead of 16")
    assert advice[0].endswith("would make it 1.67 x faster")
    assert any("trees that cost nothing would make it 1.67 x" in line for line in advice)
    assert not any("environment" in line for line in advice)
    # Networks may be described of an agent that does not search.
    (line,) = dataclasses.replace(cost_of(sample=1.0), simulations=0).advice()
    assert "half the replay.ratio" in line
    learning = cost_of(forward_backward=90.0, search_network=10.0).advice()
    assert learning == ["learning's networks take 90%; half the replay.ratio would make it "
                        "1.82 x faster"]  # fmt: skip


def test_the_command_shows_bars_and_refuses_what_it_does_not_know(monkeypatch, capsys):
    asked = []

    def measure(config, num_repeats):
        asked.append((config.learner.search.num_simulations, num_repeats))
        return cost_of(search_tree=30.0, sample=10.0)

    monkeypatch.setattr(loop_cost, "measure_loop", measure)
    arguments = ["profile", "loop", "catch", "--repeats", "7"]
    assert main([*arguments, "--search.num_simulations", "3"]) == 0
    assert asked == [(3, 7)]
    assert "search_tree           30.00 ms   75%  ####" in capsys.readouterr().out
    assert main([*arguments, "--search.num_simulatoins", "3"]) == 2
    assert "num_simulations" in capsys.readouterr().err
    assert main(["profile", "lop"]) == 2
    assert "search and loop" in capsys.readouterr().err
    assert main(["profile", "loop"]) == 2
    told = "error: name an experiment first, such as `muzero profile loop cartpole`"
    assert capsys.readouterr().err.startswith(told)


def test_the_benchmark_script_prints_one_object_or_one_sentence(monkeypatch, capsys):
    def run(*arguments):
        monkeypatch.setattr(sys, "argv", [str(BENCHMARK), "catch", *arguments])
        with pytest.raises(SystemExit) as ended:
            runpy.run_path(str(BENCHMARK), run_name="__main__")
        return ended.value.code, capsys.readouterr()

    monkeypatch.setattr(loop_cost, "measure_loop", lambda config, repeats: cost_of(sample=repeats))
    code, told = run("--repeats", "5", "--json")
    assert code == 0 and json.loads(told.out)["chunk_seconds"] == 0.005
    code, told = run("--search.num_simulation", "3")
    assert code == 2 and not told.out
    assert told.err.startswith("error: unknown setting --search.num_simulation; did you mean")
