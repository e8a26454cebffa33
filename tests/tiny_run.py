"""A run of seconds, for the tests of the host side; also a program that trains it and is killed.

    python tests/tiny_run.py OUT

The process dies while it writes the second checkpoint.
"""

import contextlib
import dataclasses
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from muzero_jax.config import ExperimentConfig
from muzero_jax.settings import apply_settings

# Eight chunks of 64 steps; checkpoints and evaluations at 128, 256, 384 and the end.
TINY = apply_settings(
    ExperimentConfig(),
    {
        "name": "tiny",
        "environment": {"name": "catch"},
        "network": {
            "kind": "mlp",
            "embedding_size": 8,
            "hidden_sizes": [8],
            "stem_channels": 2,
            "support_size": 3,
        },
        "search": {"num_simulations": 2},
        "replay": {"capacity": 320, "min_size": 64, "batch_size": 8, "ratio": 0.5},
        "target": {"num_unroll_steps": 2, "td_steps": 3},
        "training": {
            "num_env_steps": 512,
            "num_envs": 4,
            "rollout_length": 4,
            "iterations_per_chunk": 4,
        },
        "evaluation": {"interval": 128, "num_episodes": 4, "final_num_episodes": 6, "num_envs": 4},
        "logging": {"checkpoint_interval": 128},
    },
)


def tiny(**changes: Any) -> ExperimentConfig:
    """`TINY` with changes; a double underscore stands for the dot."""
    return apply_settings(TINY, {name.replace("__", "."): x for name, x in changes.items()})


@contextlib.contextmanager
def shared_programs() -> Iterator[None]:
    """Inside, runs whose compiled programs are the same compile them once."""
    from muzero_jax.runs import runner
    from muzero_jax.runs.build import Experiment, build
    from muzero_jax.runs.compiled_run import Programs

    compiled: dict[str, Programs] = {}

    def programs_of(experiment: Experiment) -> Programs:
        programs = compiled[_what_is_compiled(experiment.config)]
        programs.experiment = experiment
        return programs

    def build_once(config: ExperimentConfig, devices: Any = None) -> Experiment:
        key = _what_is_compiled(config)
        if key not in compiled:
            compiled[key] = Programs(build(config, devices))
        return dataclasses.replace(compiled[key].experiment, config=config)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runner, "build", build_once)
        patch.setattr(runner, "Programs", programs_of)
        yield


def _what_is_compiled(config: ExperimentConfig) -> str:
    """The settings without those that the compiled programs do not depend on."""
    from muzero_jax.sweeps.definition import group_key

    default = ExperimentConfig()
    names = ("interval", "num_episodes", "final_num_episodes")
    same = {name: getattr(default.evaluation, name) for name in names}
    evaluation = dataclasses.replace(config.evaluation, **same)
    return group_key(dataclasses.replace(config, evaluation=evaluation, logging=default.logging))


def _die_when_half_written(folder: Path, count: int) -> None:
    """Dies while the count-th checkpoint stands under its temporary name."""
    seen: set[str] = set()
    while len(seen) < count:
        seen |= {p.name for p in folder.glob("*tmp*")} if folder.is_dir() else set()
        time.sleep(0.0005)
    os.kill(os.getpid(), signal.SIGKILL)


def main() -> None:
    from muzero_jax.process.compilation_cache import enable_compilation_cache
    from muzero_jax.runs.runner import train

    out = Path(sys.argv[1])
    arguments = (out / "checkpoints", 2)
    threading.Thread(target=_die_when_half_written, args=arguments, daemon=True).start()
    enable_compilation_cache()
    train(TINY, out)


if __name__ == "__main__":
    main()
