"""A run of seconds, for the tests of the host side; also a program that dies where it is told to.

    python tests/tiny_run.py WHERE train OUT
    python tests/tiny_run.py WHERE resume OUT

WHERE is `never`, or `what:count`: the process ends at the count-th time that `what` happens.
"""

import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

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


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _die_when_half_written(folder: Path, count: int) -> None:
    """Dies while the count-th checkpoint stands under its temporary name."""
    seen: set[str] = set()
    while len(seen) < count:
        seen |= {p.name for p in folder.glob("*tmp*")} if folder.is_dir() else set()
        time.sleep(0.0005)
    _die()


def _arrange(what: str, count: int, out: Path) -> None:
    from muzero_jax.runs import run_writer
    from muzero_jax.tracking import tracker

    if what == "checkpoint":
        arguments = (out / "checkpoints", count)
        threading.Thread(target=_die_when_half_written, args=arguments, daemon=True).start()
    if what == "result":
        run_writer.write_json = lambda *_: _die()
    calls = 0
    append = tracker._AppendFile.append

    def dying_append(file: Any, text: str) -> None:
        nonlocal calls
        is_metrics = file._file.name.endswith("metrics.jsonl")
        calls += what == ("metrics" if is_metrics else "evaluation") or (
            what == "sigterm" and is_metrics
        )
        if calls == count and what == "sigterm":
            os.kill(os.getpid(), signal.SIGTERM)
        elif calls == count and what in ("metrics", "evaluation"):
            file._file.write(text.encode()[: len(text) // 2])
            _die()
        append(file, text)

    tracker._AppendFile.append = dying_append


def main() -> int:
    from muzero_jax.cli import main as muzero
    from muzero_jax.process import compilation_cache
    from muzero_jax.runs.runner import train

    where, action, out = sys.argv[1], sys.argv[2], Path(sys.argv[3])
    if where != "never":
        what, _, count = where.partition(":")
        _arrange(what, int(count), out)
    if action == "resume":
        return muzero(["train", "--resume", str(out)])
    compilation_cache.enable_compilation_cache()
    train(TINY, out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
