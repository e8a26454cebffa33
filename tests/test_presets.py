"""Experiments of one kind differ in the environment and the number of steps, and nothing else."""

import pytest

from muzero_jax.cli.experiments import load_experiment
from muzero_jax.core.dotted import flatten
from muzero_jax.settings import config_to_dict

OF_A_TASK = ("name", "environment.name", "training.num_env_steps")
KINDS = {
    "vector": ["cartpole", "acrobot", "mountain_car", "four_rooms", "pong", "deep_sea", "maze"],
    "grid": [
        f"minatar_{game}"
        for game in ("asterix", "breakout", "freeway", "seaquest", "space_invaders")
    ],
}


@pytest.mark.parametrize("kind", KINDS)
def test_no_setting_but_the_environment_and_the_steps_belongs_to_a_task(kind):
    settings = [flatten(config_to_dict(load_experiment(name))) for name in KINDS[kind]]
    assert [found["name"] for found in settings] == KINDS[kind]
    assert len({found["environment.name"] for found in settings}) == len(settings)
    shared = [
        {name: str(value) for name, value in found.items() if name not in OF_A_TASK}
        for found in settings
    ]
    assert all(found == shared[0] for found in shared)
    assert shared[0]["target.reward_unit"] == "0.0"
