"""A training chunk taken apart."""

import json

import jax
import pytest
from tiny import tiny_config

from muzero_jax.cli import main
from muzero_jax.profiling.loop_parts import LoopParts, _before_learning, measure_loop_parts
from muzero_jax.runs.build import build


def parts_of(**milliseconds):
    names = ("environment", "search_network", "search_tree", "sample", "forward_backward")
    parts = dict.fromkeys((*names, "optimiser", "rest_of_learning"), 0.0) | milliseconds
    rest = {"loop_efficiency": 0.5, "simulations": 16, "flops": 0.0, "bytes_accessed": 0.0}
    return LoopParts(chunk=sum(parts.values()), parts=parts, **rest)


def test_the_parts_of_a_real_chunk_are_positive_and_do_not_exceed_it_by_much():
    parts = measure_loop_parts(tiny_config(training={"iterations_per_chunk": 2}), num_repeats=3)
    assert all(x >= 0 for x in parts.parts.values())
    assert {"environment", "search_network", "sample", "optimiser"} <= {
        name for name, x in parts.parts.items() if x > 0
    }
    assert parts.chunk > 0 and parts.flops > 0 and parts.loop_efficiency > 0
    assert parts.simulations == 4


def test_before_learning_a_whole_chunk_acts_and_does_not_learn():
    train = build(tiny_config()).train
    state = jax.jit(train.init)(jax.random.key(0))
    chunk = jax.jit(train.train_chunk)
    for _ in range(4):
        state, metrics = chunk(state)
    assert metrics["train/num_updates"] > 0
    _, metrics = chunk(_before_learning(state))
    assert metrics["train/num_updates"] == 0
    assert jax.numpy.isfinite(metrics["search/value"])


def test_advice_names_what_would_help_most_first():
    advice = parts_of(search_network=40.0, search_tree=40.0, forward_backward=20.0).advice()
    assert advice[0].startswith("search takes 80% of the chunk; 8 simulations instead of 16")
    assert advice[0].endswith("would make it 1.67 x faster")
    assert any("trees that cost nothing would make it 1.67 x" in line for line in advice)
    assert not any("environment" in line for line in advice)
    learning = parts_of(forward_backward=90.0, search_network=10.0).advice()
    assert learning == ["learning's networks take 90%; half the replay.ratio would make it "
                        "1.82 x faster"]  # fmt: skip


@pytest.mark.slow
def test_the_command_prints_parts_and_refuses_what_it_does_not_know(tmp_path, capsys):
    script = tmp_path / "small.py"
    script.write_text(
        "from muzero_jax.config import ExperimentConfig\n"
        "from muzero_jax.settings import apply_settings\n"
        "CONFIG = apply_settings(ExperimentConfig(), {'name': 'small', 'search': "
        "{'num_simulations': 2}, 'replay': {'min_size': 64, 'batch_size': 8}, 'training': "
        "{'num_envs': 4, 'rollout_length': 4, 'iterations_per_chunk': 2}})\n"
    )
    arguments = ["profile", "loop", str(script), "--environment.name", "catch", "--repeats", "1"]
    assert main([*arguments, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["simulations"] == 2 and isinstance(found["advice"], list)
    assert main([*arguments, "--search.num_simulatoins", "3"]) == 2
    assert "num_simulations" in capsys.readouterr().err
    assert main(["profile", "lop"]) == 2
    assert "search and loop" in capsys.readouterr().err
    assert main(["profile", "loop"]) == 2
    told = "error: name an experiment first, such as `muzero profile loop cartpole`"
    assert capsys.readouterr().err.startswith(told)
