"""A run of several shards: the same on any number of devices, and silent but for the gradient."""

import re
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from parallel_run import FOUR_SHARDS, train
from tiny_run import tiny

from muzero_jax.cli import main
from muzero_jax.config import ConfigError
from muzero_jax.runs import runner
from muzero_jax.runs.build import build
from muzero_jax.runs.run_folder import write_config
from muzero_jax.runs.run_start import find_start
from muzero_jax.training.data_parallel import make_layout, shard_config


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """What `parallel_run.py` writes, on one device and on four simulated ones."""
    found = {number: tmp_path_factory.mktemp("devices") for number in (1, 4)}
    train(1, found[1])
    script = Path(__file__).with_name("parallel_run.py")
    cache = str(jax.config.values["jax_compilation_cache_dir"])
    command = [sys.executable, str(script), "4", str(found[4]), cache]
    subprocess.run(command, check=True, timeout=300)
    return found


@pytest.mark.slow
def test_more_devices_give_the_same_state_to_rounding(runs):
    """Three chunks, the last two of which learn; what is acted is equal bit for bit."""
    one = np.load(runs[1] / "state.npz")
    several = np.load(runs[4] / "state.npz")
    assert set(one) == set(several)
    updates = [name for name in one if name.endswith("agent.num_updates")]
    assert one[updates[0]] > 0
    for name in one:
        assert one[name].shape == several[name].shape, name
        if one[name].dtype.kind == "f":
            np.testing.assert_allclose(one[name], several[name], rtol=1e-4, atol=1e-5, err_msg=name)
        else:
            np.testing.assert_array_equal(one[name], several[name], err_msg=name)


@pytest.mark.slow
def test_shards_differ_but_for_what_they_learn(runs):
    state = np.load(runs[4] / "state.npz")
    keys = [name for name in state if name.endswith(".rng_key")]
    assert all(len(np.unique(state[name], axis=0)) == 4 for name in keys)
    (actions,) = [name for name in state if name.endswith("transitions.action")]
    assert state[actions].shape[0] == 4
    assert len(np.unique(state[actions].reshape(4, -1), axis=0)) == 4
    (steps,) = [name for name in state if name.endswith("num_env_steps.low")]
    assert state[steps] == 3 * 128  # Over all shards: three chunks of 4 x 4 steps of 8.


@pytest.mark.slow
def test_only_gradients_and_metrics_are_communicated(runs):
    """The compiled program has one reduction an update, and a few scalars a chunk."""
    text = (runs[4] / "program.txt").read_text()
    kinds = "all-gather|all-to-all|collective-permute|reduce-scatter|collective-broadcast"
    assert not re.search(rf"\b({kinds})(-start)?\(", text)
    reductions = re.findall(r"^.*= (.*?) all-reduce(?:-start)?\(.*$", text, re.MULTILINE)
    lines = [line for line in text.splitlines() if re.search(r"\ball-reduce(-start)?\(", line)]
    assert 1 <= len(lines) <= 12 and len(reductions) == len(lines)
    state = np.load(runs[4] / "state.npz")
    num_parameters = sum(state[name].size for name in state if ".agent.params" in name)
    sizes = [sum(map(_size, re.findall(r"\w+\[([\d,]*)\]", shapes))) for shapes in reductions]
    gradients = [size for size in sizes if size >= num_parameters]
    assert len(gradients) == 1 and gradients[0] <= num_parameters + 32
    assert sum(sizes) - gradients[0] <= 32
    assert not [line for line in lines if re.search(r"search|walk|act\b|recurrent", line)]


def _size(dimensions: str) -> int:
    return int(np.prod([int(n) for n in dimensions.split(",") if n]))


@pytest.mark.slow
def test_a_run_of_shards_is_trained_saved_and_evaluated(tmp_path):
    config = tiny(**{**FOUR_SHARDS, "evaluation__interval": 256})
    result = runner.train(config, tmp_path / "run")
    assert result["env_steps"] == 1024
    experiment = build(config)
    shapes = jax.eval_shape(experiment.train.init, jax.random.key(0))
    state = find_start(tmp_path / "run", config, shapes).state
    assert int(state.num_env_steps) == 1024
    assert state.replay.priorities.shape[0] == 4


def test_num_devices_is_an_option_of_training(tmp_path, monkeypatch, capsys):
    seen = []
    monkeypatch.setattr(runner, "train", lambda *arguments: seen.append(arguments))
    monkeypatch.setattr(runner, "resume", lambda *arguments: seen.append(arguments))
    assert main(["train", "catch", "--num_devices", "4", "--out", str(tmp_path / "run")]) == 0
    ((config, _, num_devices, *_),) = seen
    assert (config.training.num_shards, num_devices) == (4, 4)
    assert main(["train", "catch", "--num_devices", "3"]) == 2
    assert "(16) cannot be divided among training.num_shards (3)" in capsys.readouterr().err
    write_config(tmp_path, tiny())
    assert main(["train", "--resume", str(tmp_path), "--num_devices", "2"]) == 0
    assert seen[-1][:2] == (tmp_path, 2)


def test_devices_that_cannot_share_the_shards_are_refused():
    config = tiny(**FOUR_SHARDS)
    with pytest.raises(ConfigError, match=r"num_shards \(4\) cannot be divided among 3 devices"):
        build(config, [jax.devices()[0]] * 3)


def test_shards_are_divided_evenly_among_devices():
    devices = list(range(4))
    for num_shards, expected in ((4, 4), (2, 2), (3, 3), (8, 4), (6, 3), (5, 1)):
        layout = make_layout(num_shards, devices)
        assert len(layout.devices) == expected
        assert layout.per_device * expected == num_shards


def test_a_shard_has_its_share_of_everything():
    config = tiny(**FOUR_SHARDS)
    one = shard_config(config)
    assert (one.training.num_envs, one.replay.batch_size, one.replay.capacity) == (2, 2, 80)
    assert one.num_updates_per_iteration == config.num_updates_per_iteration
    assert one.num_chunks == config.num_chunks
    assert 4 * one.env_steps_per_chunk == config.env_steps_per_chunk


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (
            {"training__num_shards": 3},
            r"num_envs \(4\) cannot be divided among training.num_shards",
        ),
        (
            {"training__num_shards": 4, "replay__batch_size": 10, "replay__ratio": 2.0},
            r"batch_size \(10\) cannot be divided",
        ),
        ({"training__num_shards": 0}, "num_shards must be at least 1"),
    ],
)
def test_what_cannot_be_divided_is_one_sentence(changes, told):
    with pytest.raises(ConfigError, match=told):
        tiny(**changes)
