"""Trains a tiny run of four shards on so many simulated devices; for the tests of that.

    python tests/parallel_run.py NUM_DEVICES OUT CACHE

Writes to OUT the training state after three chunks as `state.npz`, and the compiled program.
"""

import sys
from pathlib import Path

import jax
import numpy as np
from tiny_run import tiny

from muzero_jax.runs.build import build
from muzero_jax.runs.compiled_run import Programs

FOUR_SHARDS = {
    "training__num_shards": 4,
    "training__num_envs": 8,
    "replay__ratio": 0.25,
    "replay__min_size": 128,
    "training__num_env_steps": 1024,
    "evaluation__interval": 0,
}


def train(num_devices: int, out: Path) -> None:
    """Trains on the first devices, and writes what came of it."""
    config = tiny(**FOUR_SHARDS)
    experiment = build(config, jax.devices()[:num_devices])
    assert experiment.layout is not None and len(experiment.layout.devices) == num_devices
    programs = Programs(experiment)
    programs.compile()
    state = programs.init([config])
    metrics = {}
    for _ in range(3):
        state, metrics = programs.train_chunk(state)
    named = {
        jax.tree_util.keystr(path): _to_numpy(leaf)
        for path, leaf in jax.tree_util.tree_leaves_with_path((state, metrics))
    }
    np.savez(out / "state.npz", **named)
    (out / "program.txt").write_text(programs._train_chunk.as_text())


def _to_numpy(leaf: jax.Array) -> np.ndarray:
    is_key = jax.numpy.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    return np.asarray(jax.random.key_data(leaf) if is_key else leaf)


if __name__ == "__main__":
    jax.config.update("jax_num_cpu_devices", int(sys.argv[1]))
    jax.config.update("jax_compilation_cache_dir", sys.argv[3])
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    train(int(sys.argv[1]), Path(sys.argv[2]))
