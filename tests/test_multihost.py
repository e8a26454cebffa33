"""One run in two processes, joined over the loopback interface."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from muzero_jax.checkpoints.checkpoint_folder import checkpoint_steps
from muzero_jax.cli import main
from muzero_jax.runs import multihost
from muzero_jax.runs.build import load_run

TESTS = Path(__file__).parent


def _start(*command: str) -> list[subprocess.Popen[str]]:
    """Two processes of two devices each that run the same command."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(TESTS), *filter(None, sys.path)]),
        "MUZERO_CACHE_DIR": str(jax.config.values["jax_compilation_cache_dir"]),
        "JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{port}",
        "JAX_NUM_PROCESSES": "2",
        "JAX_NUM_CPU_DEVICES": "2",
    }
    return [
        subprocess.Popen(
            [sys.executable, *command],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**shared, "JAX_PROCESS_ID": str(number)},
        )
        for number in range(2)
    ]


def _outputs(processes: list[subprocess.Popen[str]]) -> list[str]:
    return [process.communicate(timeout=240)[0] for process in processes]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_two_processes_train_one_run_and_survive_a_kill(tmp_path):
    whole, killed, experiment = tmp_path / "whole", tmp_path / "killed", tmp_path / "experiment.py"
    experiment.write_text("from multihost_run import SETTINGS, tiny\nCONFIG = tiny(**SETTINGS)\n")
    script = TESTS / "multihost_run.py"
    processes = _start(str(script), str(experiment), str(whole), str(killed))
    main_output, follower_output = _outputs(processes)
    assert "finished: score" in main_output and "finished" not in follower_output
    assert checkpoint_steps(whole / "checkpoints")[-1] == 512

    assert processes[1].returncode == -9
    assert processes[0].returncode not in (0, None), main_output
    assert not (killed / "result.json").exists()
    assert checkpoint_steps(killed / "checkpoints")[-1] == 256
    processes = _start("-m", "muzero_jax", "train", "--resume", str(killed), "--distributed")
    outputs = _outputs(processes)
    assert [process.returncode for process in processes] == [0, 0], outputs
    assert load_run(killed).config.training.num_shards == 4
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
