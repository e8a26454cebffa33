import ast
import dataclasses
import inspect
import itertools
import math
import subprocess
import sys

import pytest

from muzero_jax.config import (
    TRACED_SETTINGS,
    ConfigError,
    EnvironmentConfig,
    EvaluationConfig,
    ExperimentConfig,
    LoggingConfig,
    LossConfig,
    NetworkConfig,
    OptimizerConfig,
    ReplayConfig,
    SearchConfig,
    TargetConfig,
    TrainingConfig,
    learner_sections,
    run_sections,
    traced_settings,
)


@pytest.mark.parametrize(
    "section,field,value,words",
    [
        (EnvironmentConfig, "name", "", "environment.name must not be empty"),
        (EnvironmentConfig, "time_limit", -1, "environment.time_limit must be at least 0"),
        (NetworkConfig, "support_size", 0, "network.support_size must be between 1 and"),
        (NetworkConfig, "support_spacing", 0.0, "network.support_spacing must be above 0"),
        (NetworkConfig, "hidden_sizes", (), "network.hidden_sizes must be one or more"),
        (NetworkConfig, "hidden_sizes", (8, 0), r"between 1 and 131,072, found \(8, 0\)"),
        (
            NetworkConfig,
            "kind",
            "mpl",
            "kind must be one of auto, mlp, resnet, table, found 'mpl'",
        ),
        (NetworkConfig, "compute_dtype", "float16", "network.compute_dtype must be one of"),
        (SearchConfig, "policy", "gumbell", "search.policy must be one of gumbel, muzero"),
        (
            SearchConfig,
            "num_simulations",
            0,
            "num_simulations must be between 1 and 100,000, found 0",
        ),
        (SearchConfig, "dirichlet_alpha", 0.0, "search.dirichlet_alpha must be above 0"),
        (SearchConfig, "dirichlet_fraction", 1.5, "between 0 and 1, found 1.5"),
        (SearchConfig, "gumbel_scale", math.inf, "search.gumbel_scale must be .*finite"),
        (ReplayConfig, "ratio", 0.0, "replay.ratio must be above 0"),
        (ReplayConfig, "ratio", math.inf, "replay.ratio must be above 0 and finite"),
        (ReplayConfig, "importance_exponent", 2.0, "replay.importance_exponent"),
        (ReplayConfig, "min_size", 60_000, r"min_size \(60000\) must not exceed .*\(50000\)"),
        (TargetConfig, "discount", 1.01, "target.discount must be between 0 and 1, found 1.01"),
        (TargetConfig, "discount", math.nan, "target.discount"),
        (TargetConfig, "td_steps", -1, "target.td_steps must be between 0 and"),
        (TargetConfig, "td_steps", 0, "target.td_steps 0 needs searched values"),
        (SearchConfig, "action_policy", "qvalues", "needs search.q_normalisation none"),
        (TargetConfig, "bootstrap", "target", "target.bootstrap must be one of"),
        (TargetConfig, "reanalyse_fraction", -0.1, "target.reanalyse_fraction"),
        (LossConfig, "value_weight", -1.0, "loss.value_weight"),
        (OptimizerConfig, "learning_rate", math.inf, "optimizer.learning_rate must be .*finite"),
        (OptimizerConfig, "schedule", "step", "optimizer.schedule must be one of"),
        (OptimizerConfig, "max_gradient_norm", 0.0, "optimizer.max_gradient_norm"),
        (TrainingConfig, "num_envs", 0, "training.num_envs must be at least 1"),
        (EvaluationConfig, "num_episodes", 0, "evaluation.num_episodes"),
        (LoggingConfig, "checkpoints_kept", 0, "logging.checkpoints_kept"),
    ],
)
def test_a_bad_setting_is_one_clear_sentence(section, field, value, words):
    with pytest.raises(ConfigError, match=words) as error:
        section(**{field: value})
    assert "\n" not in str(error.value) and str(error.value).endswith(".")


@pytest.mark.parametrize(
    "sections,words",
    [
        ({"seed": -1}, "seed must be between 0"),
        ({"seed": 2**32}, "seed must be between 0"),
        ({"replay": ReplayConfig(ratio=0.1)}, "gives no update .* raise the ratio to at least 0.5"),
        (
            {"replay": ReplayConfig(capacity=240, min_size=1)},
            "keeps 15 steps of each environment, but a window or rollout needs 16",
        ),
        (
            {
                "replay": ReplayConfig(capacity=480, min_size=1),
                "training": TrainingConfig(rollout_length=31),
            },
            "keeps 30 steps .* needs 31",
        ),
        (
            {
                "loss": LossConfig(consistency_weight=1.0),
                "target": TargetConfig(num_unroll_steps=0),
            },
            r"loss.consistency_weight \(1\) compares unrolled states",
        ),
        (
            {"training": TrainingConfig(num_env_steps=2048), "replay": ReplayConfig(min_size=2049)},
            r"num_env_steps \(2048\) ends before learning begins, which takes 2064 steps",
        ),
    ],
)
def test_an_inconsistent_pair_is_refused(sections, words):
    with pytest.raises(ConfigError, match=words):
        ExperimentConfig(**sections)


def test_derived_counts_by_hand():
    config = ExperimentConfig(
        training=TrainingConfig(
            num_env_steps=1000, num_envs=10, rollout_length=5, iterations_per_chunk=3
        ),
        replay=ReplayConfig(ratio=4.0, batch_size=32, min_size=200),
    )
    assert config.env_steps_per_iteration == 50
    assert config.env_steps_per_chunk == 150
    assert config.num_chunks == 7  # 1000 / 150, rounded up
    assert config.num_updates_per_iteration == 6  # 4 x 50 / 32 = 6.25
    assert config.num_updates == 7 * 3 * 6
    assert config.num_warm_up_chunks == 2  # 200 steps begin in the second
    longer = dataclasses.replace(config, target=TargetConfig(num_unroll_steps=5, td_steps=40))
    assert longer.num_warm_up_chunks == 4  # 46 steps of each of 10 environments


def test_traced_settings_are_numbers_of_the_config_and_all_exist():
    config = ExperimentConfig(optimizer=OptimizerConfig(learning_rate=0.25))
    settings = traced_settings(config)
    assert tuple(settings) == TRACED_SETTINGS
    assert settings["optimizer.learning_rate"] == 0.25
    assert settings["target.discount"] == 0.997
    assert all(type(value) is float for value in settings.values())


def section_classes() -> list[ast.stmt]:
    """The bodies of the files that define the sections."""
    modules = (learner_sections, run_sections)
    return [node for module in modules for node in ast.parse(inspect.getsource(module)).body]


def test_traced_settings_and_their_documentation_agree():
    """A setting whose line says "traced" is in the list, and the other way round."""
    documented = set()
    for node in section_classes():
        body = node.body if isinstance(node, ast.ClassDef) else []
        for field, line in itertools.pairwise(body):
            is_line = isinstance(line, ast.Expr) and isinstance(line.value, ast.Constant)
            if isinstance(field, ast.AnnAssign) and is_line:
                name = f"{node.name.removesuffix('Config').lower()}.{field.target.id}"
                documented |= {name} if "traced" in line.value.value.lower() else set()
    assert documented == set(TRACED_SETTINGS)


def test_every_setting_has_a_line_of_meaning():
    for node in section_classes():
        if isinstance(node, ast.ClassDef) and node.name.endswith("Config"):
            pairs = zip(node.body, [*node.body[1:], None], strict=True)
            for field, line in pairs:
                if isinstance(field, ast.AnnAssign) and node.name != "ExperimentConfig":
                    assert isinstance(line, ast.Expr), f"{node.name}.{field.target.id}"


def test_configs_are_frozen_and_hashable():
    config = ExperimentConfig()
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.seed = 3
    assert hash(config) == hash(ExperimentConfig())


def test_config_imports_no_jax():
    code = "import sys, muzero_jax.config; sys.exit('jax' in sys.modules or 'flax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
