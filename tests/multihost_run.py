"""One of two processes that train a run together, and begin another, in which the second one dies.

    python tests/multihost_run.py EXPERIMENT WHOLE KILLED

The second process is killed when the other run has saved its second checkpoint.
"""

import os
import signal
import sys
from pathlib import Path
from typing import Any

from tiny_run import shared_programs, tiny

SETTINGS = {
    "training.num_envs": 8,
    "training.num_env_steps": 512,
    "replay.ratio": 0.25,
    "replay.min_size": 128,
    "evaluation.interval": 0,
    "logging.tensorboard": False,
}


def main() -> int:
    from muzero_jax.cli import main as muzero
    from muzero_jax.process.jax_process import prepare_jax
    from muzero_jax.runs import multihost, runner
    from muzero_jax.runs.run_writer import RunWriter

    experiment, whole, killed = sys.argv[1:]
    prepare_jax(chooses_devices=True)
    multihost.join_hosts()
    multihost.join_hosts = lambda: None
    runner._draw_learning_curve = lambda run_dir: None
    save = RunWriter.save

    def save_or_die(self: RunWriter, state: Any) -> None:
        if self.run_dir == Path(killed) and self.counters.env_steps == 256:
            os.kill(os.getpid(), signal.SIGKILL)
        save(self, state)

    if not multihost.is_main():
        RunWriter.save = save_or_die
    with shared_programs():
        shards = {"training.num_shards": multihost.count_devices()}
        runner.train(tiny(**SETTINGS, **shards), Path(whole))
        return muzero(["train", experiment, "--out", killed, "--distributed"])


if __name__ == "__main__":
    sys.exit(main())
