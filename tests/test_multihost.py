"""One run in two processes, joined over the loopback interface."""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from muzero_jax.checkpoints.checkpoint_folder import checkpoint_steps
from muzero_jax.cli import main
from muzero_jax.runs import multihost
from muzero_jax.runs.build import load_run

SETTINGS = ["--training.num_envs", "8", "--replay.ratio", "0.25", "--replay.min_size", "128"]
SETTINGS += ["--training.num_env_steps", "1024", "--logging.no_tensorboard"]


def _start(tmp_path: Path, *arguments: str) -> list[subprocess.Popen[str]]:
    """Two processes of two devices each that run the same `muzero train` command."""
    script = tmp_path / "tiny_experiment.py"
    script.write_text("from tiny_run import TINY as CONFIG\n")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    path = os.pathsep.join([str(Path(__file__).parent), *filter(None, sys.path)])
    shared = {
        **os.environ,
        "PYTHONPATH": path,
        "MUZERO_CACHE_DIR": str(jax.config.values["jax_compilation_cache_dir"]),
        "JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{port}",
        "JAX_NUM_PROCESSES": "2",
        "JAX_NUM_CPU_DEVICES": "2",
    }
    experiment = [] if "--resume" in arguments else [str(script), *SETTINGS]
    command = [sys.executable, "-m", "muzero_jax", "train", *experiment, *arguments]
    return [
        subprocess.Popen(
            [*command, "--distributed"],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**shared, "JAX_PROCESS_ID": str(number)},
        )
        for number in range(2)
    ]


def _end(processes: list[subprocess.Popen[str]]) -> list[str]:
    outputs = [process.communicate(timeout=240)[0] for process in processes]
    for process, output in zip(processes, outputs, strict=True):
        assert process.returncode == 0, output
    return outputs


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_two_processes_train_one_run_and_survive_a_kill(tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    main_output, follower_output = _end(_start(tmp_path, "--out", str(whole)))
    assert "finished: score" in main_output and "finished" not in follower_output
    assert checkpoint_steps(whole / "checkpoints")[-1] == 1024
    assert load_run(whole).config.training.num_shards == 4

    processes = _start(tmp_path, "--out", str(killed))
    while not checkpoint_steps(killed / "checkpoints") and processes[0].poll() is None:
        time.sleep(0.01)
    processes[1].kill()
    began = time.perf_counter()
    outputs = [process.communicate(timeout=120)[0] for process in processes]
    assert processes[0].returncode not in (0, None), outputs[0]
    assert time.perf_counter() - began < 90
    assert not (killed / "result.json").exists()
    _end(_start(tmp_path, "--resume", str(killed)))
    agents = [jax.tree.leaves(load_run(folder).agent_state) for folder in (whole, killed)]
    for one, other in zip(*agents, strict=True):
        np.testing.assert_array_equal(one, other)


def test_one_process_agrees_with_itself():
    assert multihost.is_main() and not multihost.has_several()
    assert multihost.agree(None) is None and multihost.agree(3) == 3
    assert multihost.collect("anything") == "anything"


def test_what_cannot_be_joined_is_one_sentence(tmp_path, monkeypatch, capsys):
    assert main(["train", "catch", "--distributed"]) == 2
    assert "--distributed needs --out" in capsys.readouterr().err
    out = ["--out", str(tmp_path / "run"), "--distributed"]
    assert main(["train", "catch", *out, "--num_devices", "2"]) == 2
    assert "leave out --num_devices" in capsys.readouterr().err
    monkeypatch.setenv("JAX_PROCESS_ID", "one")
    assert main(["train", "catch", *out]) == 2
    assert "JAX_PROCESS_ID must be an integer, found 'one'" in capsys.readouterr().err
    monkeypatch.setenv("JAX_PROCESS_ID", "3")
    monkeypatch.setenv("JAX_NUM_PROCESSES", "2")
    monkeypatch.setenv("JAX_COORDINATOR_ADDRESS", "127.0.0.1:1")
    assert main(["train", "catch", *out]) == 2
    error = capsys.readouterr().err
    assert "--distributed cannot join the other processes" in error and error.count("\n") == 1
    assert not (tmp_path / "run").exists()
