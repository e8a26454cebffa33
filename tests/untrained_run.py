"""A run folder for the tests of what looks at a run, without the training."""

from pathlib import Path

import jax
from tiny_run import TINY

from muzero_jax.checkpoints.checkpoint import CheckpointWriter
from muzero_jax.config import traced_settings
from muzero_jax.core.plain_yaml import dump_yaml
from muzero_jax.runs.build import build
from muzero_jax.settings import config_to_dict


def make_untrained_run(folder: Path) -> Path:
    """Makes a folder with the settings of `TINY` and a checkpoint of an agent after no update."""
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(dump_yaml(config_to_dict(TINY)))
    agent = build(TINY).agent
    init = jax.jit(lambda rng_key: agent.init(rng_key, traced_settings(TINY)))
    writer = CheckpointWriter(folder / "checkpoints", num_kept=1)
    writer.save(7, {"agent": init(jax.random.key(0))}, {})
    writer.close()
    return folder
