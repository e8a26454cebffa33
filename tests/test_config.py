import ast
import dataclasses
import inspect
import itertools
import math
import subprocess
import sys
import textwrap
import typing

import pytest

from muzero_jax.agents.registry import BUILT_IN, find_definition
from muzero_jax.config import (
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
    traced_settings,
)
from muzero_jax.core.settings import is_traced
from muzero_jax.settings import setting_types


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
            "kind must be one of auto, mlp, resnet, or MODULE:FACTORY .*, found 'mpl'",
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
    assert set(settings) < set(setting_types(config))
    assert settings["optimizer.learning_rate"] == 0.25
    assert settings["target.discount"] == 0.997
    assert all(type(value) is float for value in settings.values())


def sections() -> list[type]:
    """All sections of a run and of the built-in agents."""
    learners = [find_definition(name).settings for name in BUILT_IN]
    kinds = [ExperimentConfig, *learners]
    hints = [hint for kind in kinds for hint in typing.get_type_hints(kind).values()]
    return list(dict.fromkeys(hint for hint in hints if dataclasses.is_dataclass(hint)))


def lines_of(section: type) -> dict[str, str]:
    """What is written below each setting of a section, by the setting's name."""
    body = ast.parse(textwrap.dedent(inspect.getsource(section))).body[0].body
    return {
        field.target.id: line.value.value
        for field, line in itertools.pairwise(body)
        if isinstance(field, ast.AnnAssign) and isinstance(line, ast.Expr)
    }


@pytest.mark.parametrize("section", sections())
def test_every_setting_has_a_line_of_meaning_that_says_whether_it_is_traced(section):
    annotated = inspect.get_annotations(section)
    own = [field for field in dataclasses.fields(section) if field.name in annotated]
    lines = lines_of(section)
    assert set(lines) == {field.name for field in own}
    for field in own:
        assert ("traced" in lines[field.name].lower()) == is_traced(field), field.name


def test_an_agent_has_its_own_settings_and_no_others():
    names = {name.partition(".")[0] for name in setting_types(ExperimentConfig(agent="q_learning"))}
    own = {"table", "exploration", "target", "replay"}
    assert names == own | {
        "name",
        "seed",
        "agent",
        "environment",
        "training",
        "evaluation",
        "logging",
    }
    with pytest.raises(ConfigError, match="QSettings has no setting search; it has table"):
        ExperimentConfig(agent="q_learning", search=SearchConfig())
    with pytest.raises(ConfigError, match="needs settings of the type MuZeroSettings, found QS"):
        ExperimentConfig(learner=ExperimentConfig(agent="q_learning").learner)


def test_sections_of_the_agent_are_given_beside_those_of_the_run():
    config = ExperimentConfig(search=SearchConfig(num_simulations=3))
    assert config.learner.search.num_simulations == 3
    other = dataclasses.replace(config, search=SearchConfig(num_simulations=4), seed=2)
    assert (other.learner.search.num_simulations, other.seed) == (4, 2)
    assert other.learner.network == config.learner.network


def test_several_shards_need_an_agent_that_averages():
    with pytest.raises(ConfigError, match="num_shards must be 1 for the agent q_learning, found 2"):
        ExperimentConfig(agent="q_learning", training=TrainingConfig(num_shards=2))


def test_configs_are_frozen_and_hashable():
    config = ExperimentConfig()
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.seed = 3
    assert hash(config) == hash(ExperimentConfig())


def test_config_imports_no_jax():
    code = "import sys, muzero_jax.config; sys.exit('jax' in sys.modules or 'flax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
