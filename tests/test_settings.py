"""Settings as plain data."""

import dataclasses
import json

import pytest
import yaml

from muzero_jax.config import ConfigError, ExperimentConfig
from muzero_jax.core.dotted import flatten
from muzero_jax.settings import (
    apply_settings,
    config_from_dict,
    config_to_dict,
    describe_other_agent,
    setting_types,
)

OTHER = apply_settings(
    ExperimentConfig(),
    {
        "seed": 4_000_000_000,
        "network": {"hidden_sizes": [32, 16], "kind": "mlp"},
        "optimizer.learning_rate": 3e-5,
        "replay": {"prioritised": True},
        "search.gumbel_scale": 1,
    },
)


def test_changes_arrive() -> None:
    assert OTHER.learner.network.hidden_sizes == (32, 16)
    assert OTHER.learner.optimizer.learning_rate == 3e-5
    assert OTHER.learner.search.gumbel_scale == 1.0
    assert isinstance(OTHER.learner.search.gumbel_scale, float)
    default = ExperimentConfig()
    assert OTHER.learner.target == default.learner.target
    network = dataclasses.replace(OTHER.learner.network, hidden_sizes=(128,), kind="auto")
    assert network == default.learner.network


@pytest.mark.parametrize("config", [ExperimentConfig(), OTHER])
def test_configuration_survives_yaml_and_json(config: ExperimentConfig) -> None:
    tree = config_to_dict(config)
    assert config_from_dict(yaml.safe_load(yaml.safe_dump(tree))) == config
    assert config_from_dict(json.loads(json.dumps(tree))) == config


def test_pairs_need_only_suit_in_the_end() -> None:
    config = apply_settings(ExperimentConfig(), {"replay.capacity": 900, "replay.min_size": 100})
    assert (config.replay.capacity, config.replay.min_size) == (900, 100)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"replay.capacity": 900}, r"replay.min_size \(2000\) must not exceed"),
        (
            {"replay.recency": 2, "replay.prioritised": True},
            "replay.recency is for uniform sampling; set it to 0",
        ),
        (
            {"replay": {"capacty": 9}},
            "unknown setting replay.capacty; did you mean replay.capacity",
        ),
        ({"learning_rate": 1}, "unknown setting learning_rate; did you mean optimizer.learning_r"),
        ({"zzz": 1}, "unknown setting zzz; --help lists them all"),
        ({"seed": 1.5}, "seed must be an integer, found 1.5"),
        ({"seed": True}, "seed must be an integer, found True"),
        ({"seed": None}, "seed must be an integer, found None"),
        ({"target.discount": "high"}, "target.discount must be a number, found 'high'"),
        ({"replay.prioritised": 2}, "replay.prioritised must be true or false, found 2"),
        ({"network.kind": "cnn"}, "network.kind must be one of auto, mlp, resnet, or MODULE"),
        ({"agent": 3}, "agent must be a string, found 3"),
        ({"agent": "q_lerning"}, "unknown agent 'q_lerning'; did you mean q_learning"),
        ({"agent": "rmax", "search.epsilon": 0}, "unknown setting search.epsilon"),
        ({"network.hidden_sizes": None}, "network.hidden_sizes must be a list, found None"),
        ({"network.hidden_sizes": ["a"]}, "network.hidden_sizes must be an integer, found 'a'"),
        ({"environment": 3}, "environment is a section; give its settings by name, such as env"),
    ],
)
def test_bad_changes_are_one_sentence(changes: dict[str, object], told: str) -> None:
    with pytest.raises(ConfigError, match=told) as error:
        apply_settings(ExperimentConfig(), changes)
    assert "\n" not in str(error.value)


def test_every_setting_has_a_type() -> None:
    types = setting_types(ExperimentConfig())
    assert types["seed"] is int and types["logging.checkpoint_interval"] is int
    assert tuple(types) == tuple(flatten(config_to_dict(ExperimentConfig())))


def test_another_agent_keeps_the_sections_that_both_declare() -> None:
    config = apply_settings(OTHER, {"agent": "table_muzero", "table.step_size": 0.5})
    assert config.learner.search == OTHER.learner.search
    assert config.learner.replay == OTHER.learner.replay
    assert config.training == OTHER.training and config.learner.table.step_size == 0.5
    told = describe_other_agent(OTHER, config)
    assert "search, replay, target keep the values" in told
    assert "table, exploration: the agent's defaults" in told
    assert not describe_other_agent(OTHER, OTHER)
