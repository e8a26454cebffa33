"""Settings of JAX and XLA that cannot work are one sentence before anything starts."""

import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from muzero_jax.checkpoints.checkpoint import CheckpointWriter, restore
from muzero_jax.cli import main
from muzero_jax.config import ConfigError, ExperimentConfig
from muzero_jax.core.errors import CheckpointMismatchError
from muzero_jax.core.keys import from_numbers, to_numbers
from muzero_jax.process import jax_process
from muzero_jax.process.jax_process import check_options, check_xla_flags, find_devices, prepare_jax
from muzero_jax.runs.run_folder import write_config


def test_every_option_that_is_refused_is_one_of_jaxs_and_is_not_refused_by_default():
    assert set(jax_process._REFUSED) <= set(jax.config.values)
    check_options(jax.config.values)


@pytest.mark.parametrize(
    "option,value",
    [
        ("jax_disable_jit", True),
        ("jax_debug_nans", True),
        ("jax_debug_infs", True),
        ("jax_check_tracer_leaks", True),
        ("jax_numpy_dtype_promotion", "strict"),
        ("jax_transfer_guard", "disallow"),
        ("jax_transfer_guard_host_to_device", "disallow_explicit"),
    ],
)
def test_options_under_which_nothing_works_are_refused_by_name(option, value):
    with pytest.raises(ConfigError, match=f"{option.upper()}={value}, since .*; unset it") as told:
        check_options({option: value})
    assert "\n" not in str(told.value)
    check_options({"jax_numpy_rank_promotion": "raise", "jax_transfer_guard": "log"})


@pytest.mark.parametrize(
    "command",
    [
        ["train", "catch", "--out", "OUT"],
        ["train", "--resume", "RUN"],
        ["sweep", "catch", "--out", "OUT"],
        ["evaluate", "RUN"],
        ["play", "RUN"],
        ["inspect", "RUN"],
        ["oracle", "maze"],
        ["profile", "search", "--out", "OUT"],
        ["profile", "loop", "catch"],
    ],
)
def test_every_command_that_computes_refuses_first(command, tmp_path, capsys):
    run = tmp_path / "run"
    run.mkdir()
    write_config(run, ExperimentConfig())
    out = tmp_path / "out"
    arguments = [{"OUT": str(out), "RUN": str(run)}.get(part, part) for part in command]
    try:
        jax.config.update("jax_debug_infs", True)
        assert main(arguments) == 2
    finally:
        jax.config.update("jax_debug_infs", False)
    # A line that announces the work may come before the error.
    *before, told = capsys.readouterr().err.splitlines()
    assert told.startswith("error: ") and "JAX_DEBUG_INFS" in told and len(before) <= 1
    assert not out.exists()


@pytest.mark.parametrize("error", [RuntimeError("no backend\n'cuda'"), AssertionError()])
def test_a_backend_that_is_not_there_is_one_sentence(error, tmp_path, monkeypatch, capsys):
    def fail():
        raise error

    monkeypatch.setattr(jax, "local_devices", fail)
    monkeypatch.setenv("JAX_PLATFORMS", "cuda")
    with pytest.raises(ConfigError, match="no device with JAX_PLATFORMS=cuda") as told:
        find_devices()
    assert "\n" not in str(told.value)
    assert main(["train", "catch", "--out", str(tmp_path / "out")]) == 2
    assert main(["sweep", "catch", "--out", str(tmp_path / "sweep")]) == 2
    assert "JAX_PLATFORMS=cuda" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_numbers_have_32_bits_whatever_the_environment_says(capsys):
    try:
        jax.config.update("jax_enable_x64", True)
        prepare_jax()
        assert jnp.asarray(np.float64(1.0)).dtype == jnp.float32
    finally:
        jax.config.update("jax_enable_x64", False)
    assert "JAX_ENABLE_X64 has no effect" in capsys.readouterr().err


def test_without_flags_no_other_process_is_started(monkeypatch):
    monkeypatch.delenv("XLA_FLAGS", raising=False)
    monkeypatch.setattr(subprocess, "run", None)
    check_xla_flags()


@pytest.mark.parametrize("stderr,reason", [("F1 1:1] Unknown flag: --a\n", "Unknown flag: --a")])
def test_flags_that_abort_another_process_are_refused(stderr, reason, monkeypatch):
    def aborted(*args, **options):
        assert options["env"]["JAX_PLATFORMS"] == "cpu"
        return subprocess.CompletedProcess(args, -6, "", stderr)

    monkeypatch.setenv("XLA_FLAGS", "--a")
    monkeypatch.setattr(subprocess, "run", aborted)
    with pytest.raises(ConfigError, match=f"XLA_FLAGS=--a: {reason}"):
        check_xla_flags()


def test_keys_of_another_generator_are_no_damage(tmp_path):
    key = jax.random.key(0)
    np.testing.assert_array_equal(to_numbers(from_numbers(to_numbers(key), key)), to_numbers(key))
    writer = CheckpointWriter(tmp_path / "checkpoints", 1)
    writer.save(1, {"loop": {"key": jax.random.key(0, impl="rbg")}}, {})
    writer.close()
    with pytest.raises(CheckpointMismatchError, match="set JAX_DEFAULT_PRNG_IMPL as it was"):
        restore(tmp_path / "checkpoints", {"loop": {"key": jax.eval_shape(lambda: key)}})


@pytest.mark.slow
@pytest.mark.parametrize(
    "variable,value,told",
    [
        ("JAX_ENABLE_X64", "maybe", "JAX_ENABLE_X64"),
        ("JAX_PLATFORMS", "abacus", "JAX_PLATFORMS=abacus"),
        ("XLA_FLAGS", "--no_such_flag", "--no_such_flag"),
    ],
)
def test_a_process_ends_with_one_sentence(variable, value, told, tmp_path):
    command = [sys.executable, "-m", "muzero_jax", "train", "catch", "--out", "out"]
    source = str(Path(jax_process.__file__).parents[2])
    environment = {**os.environ, "PYTHONPATH": source, variable: value}
    child = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120
    )
    assert child.returncode == 2, child.stderr
    assert child.stderr.startswith("error: ") and told in child.stderr
    assert child.stderr.count("\n") == 1 and not (tmp_path / "out").exists()
