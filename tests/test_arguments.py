"""Values as people write them, understood alike on the command line, in YAML and in config.yaml."""

from pathlib import Path

import numpy as np
import pytest
from tiny_run import TINY

from muzero_jax.cli.options import parse_options, read_arguments
from muzero_jax.cli.train import TrainOptions
from muzero_jax.config import ConfigError, ExperimentConfig, OptimizerConfig, SearchConfig
from muzero_jax.core.plain_yaml import dump_yaml, parse_yaml
from muzero_jax.core.settings import whole_number
from muzero_jax.settings import apply_settings, config_from_dict, config_to_dict, setting_types
from muzero_jax.sweeps.search_space import parse_axis

# Name, what a person writes, what it means.
WRITTEN = [
    ("replay.prioritised", "true", True),
    ("replay.prioritised", "Yes", True),
    ("replay.prioritised", "1", True),
    ("replay.prioritised", "off", False),
    ("logging.tensorboard", "FALSE", False),
    ("training.num_env_steps", "1e5", 100_000),
    ("training.num_env_steps", "100_000", 100_000),
    ("training.num_env_steps", "2.5e5", 250_000),
    ("optimizer.learning_rate", "1e-3", 1e-3),
    ("optimizer.learning_rate", "1", 1.0),
    ("network.hidden_sizes", "64,32", (64, 32)),
    ("network.hidden_sizes", "[64, 32]", (64, 32)),
    ("network.hidden_sizes", "64", (64,)),
    ("environment.name", "catch:rows=6", "catch:rows=6"),
]


def value_of(config: ExperimentConfig, name: str):
    section, _, field = name.partition(".")
    owner = config if hasattr(config, section) else config.learner
    return getattr(getattr(owner, section), field)


def parse(*args: str) -> ExperimentConfig:
    return parse_options(TrainOptions, args, "muzero train", ExperimentConfig()).settings


@pytest.mark.parametrize(("name", "text", "meant"), WRITTEN)
def test_a_value_means_the_same_everywhere(tmp_path: Path, name, text, meant):
    file = tmp_path / "overrides.yaml"
    file.write_text(f"{name}: {text}\n")
    quoted = tmp_path / "quoted.yaml"
    quoted.write_text(f"{name}: '{text}'\n")
    configs = {
        "apart": parse(f"--{name}", text),
        "joined": parse(f"--{name}={text}"),
        "hyphens": parse(f"--{name.replace('_', '-')}", text),
        "YAML": parse("--config", str(file)),
        "quoted": parse("--config", str(quoted)),
        "config.yaml": config_from_dict(parse_yaml(f"{name}: {text}")),
    }
    found = {where: value_of(config, name) for where, config in configs.items()}
    assert found == dict.fromkeys(configs, meant)
    assert {type(value) for value in found.values()} == {type(meant)}


def test_flags_and_lists_need_no_special_form():
    kinds = {**setting_types(ExperimentConfig()), "out": str}
    read = {
        ("--replay.prioritised", "--seed", "3"): {"replay.prioritised": True, "seed": 3},
        ("--logging.no_tensorboard",): {"logging.tensorboard": False},
        ("--logging.no-tensorboard", "false"): {"logging.tensorboard": True},
        ("--network.hidden_sizes", "8", "4", "--out", "x"): {
            "network.hidden_sizes": (8, 4),
            "out": "x",
        },
    }
    for args, values in read.items():
        assert read_arguments(args, kinds) == ([], values)
    assert read_arguments(["a", "--replay.prioritised", "b"], kinds) == (
        ["a", "b"],
        {"replay.prioritised": True},
    )
    with pytest.raises(ConfigError, match="--seed is given twice"):
        read_arguments(["--seed", "1", "--seed=2"], kinds)
    with pytest.raises(ConfigError, match="unknown setting --sed; did you mean --seed"):
        read_arguments(["--sed", "1"], kinds)


def test_an_option_of_texts_may_be_repeated_and_keeps_its_commas():
    args = ["--set", "a=1,2", "b=3", "--set=c=4"]
    read = read_arguments(args, {"set": tuple[str, ...]}, texts=["set"])
    assert read == ([], {"set": ("a=1,2", "b=3", "c=4")})


def test_a_sweep_reads_values_alike():
    assert parse_axis(TINY, "prioritised=true,off").values == (True, False)
    assert parse_axis(TINY, "num_simulations=4,1e1").values == (4, 10)
    assert parse_axis(TINY, "learning_rate=1e-3,1e-2").values == (1e-3, 1e-2)
    assert parse_axis(TINY, "hidden_sizes=[64,32],[8]").values == ((64, 32), (8,))
    with pytest.raises(ConfigError, match="num_simulations must be an integer, found 'x'"):
        parse_axis(TINY, "num_simulations=4,x")


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (["--replay.prioritised=maybe"], "replay.prioritised must be true or false, found 'maybe'"),
        (["--seed", "1.5"], "seed must be an integer, found '1.5'"),
        (["--seed", "1e400"], "seed must be an integer, found '1e400'"),
        (["--seed", "nan"], "seed must be an integer, found 'nan'"),
        (["--optimizer.learning_rate", "fast"], "must be a number, found 'fast'"),
        (["--network.hidden_sizes", "8,x"], "network.hidden_sizes must be an integer, found 'x'"),
        (["--training.num_envs"], "training.num_envs needs a value"),
    ],
)
def test_values_that_do_not_suit_are_one_sentence(args, told):
    with pytest.raises(ConfigError) as refused:
        parse(*args)
    assert told in str(refused.value) and "\n" not in str(refused.value)


def test_whole_numbers():
    assert [whole_number(x) for x in (3, 3.0, "3", "1e3", np.int64(7))] == [3, 3, 3, 1000, 7]
    assert {whole_number(x) for x in (True, 3.5, "x", None, "inf", [3])} == {None}


def test_numbers_of_numpy_are_written_as_plain_ones():
    config = ExperimentConfig(
        seed=np.int64(3),
        optimizer=OptimizerConfig(learning_rate=np.float64(1e-3)),
        search=SearchConfig(num_simulations=np.int32(4)),
    )
    tree = parse_yaml(dump_yaml(config_to_dict(config)))
    assert (tree["seed"], tree["search"]["num_simulations"]) == (3, 4)
    assert tree["optimizer"]["learning_rate"] == 1e-3


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: SearchConfig(num_simulations=4.0), "search.num_simulations must be an integer"),
        (lambda: SearchConfig(num_simulations="4"), "search.num_simulations must be an integer"),
        (lambda: OptimizerConfig(learning_rate=None), "learning_rate must be a number, found None"),
        (lambda: ExperimentConfig(search=None), "search must be a SearchConfig, found a NoneType"),
        (lambda: ExperimentConfig(seed="0"), "seed must be an integer, found '0'"),
        (lambda: ExperimentConfig(name=3), "name must be a string, found 3"),
    ],
)
def test_a_configuration_of_wrong_types_cannot_be_made(make, told):
    with pytest.raises(ConfigError, match=told):
        make()


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"replay.capacity": 1e11}, "replay.capacity must be at most 2,147,483,647"),
        ({"training.num_env_steps": 2**63}, "num_env_steps must be between 1 and 9,007,199,254"),
        ({"search.num_simulations": 1e8}, "num_simulations must be between 1 and 100,000, found"),
        ({"network.hidden_sizes": [1e9]}, "hidden_sizes must be one or more sizes between 1"),
        ({"network.num_blocks": 1e6}, "num_blocks must be between 0 and 1000"),
        ({"seed": 2**64}, "seed must be between 0 and 2^32 - 1"),
        ({"training.num_env_steps": 3e9, "replay.ratio": 4000.0}, "updates; at most 2,147,483,647"),
        (
            {"training.rollout_length": 2**20, "training.iterations_per_chunk": 2**12},
            "environment steps in a compiled call; at most 2,147,483,647",
        ),
        ({"name": "../../evil"}, "name must be of printable characters"),
        ({"name": ""}, "name must not be empty"),
        ({"name": "a\nb"}, "name must be of printable characters"),
        ({"name": "x" * 300}, "name must have at most 100 bytes, for folders bear it; found 300"),
        ({"name": ".hidden"}, "name must be of printable characters"),
        ({"environment.name": "a" * 2_000}, "environment.name must be at most 1,000"),
    ],
)
def test_sizes_and_names_that_cannot_be_are_refused(changes, told):
    with pytest.raises(ConfigError) as refused:
        apply_settings(ExperimentConfig(), changes)
    assert told in str(refused.value) and "\n" not in str(refused.value)


def test_a_run_may_be_longer_than_an_integer_of_32_bits_counts():
    assert apply_settings(TINY, {"training.num_env_steps": 3e9}).total_env_steps > 2**31


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("network:", "network is a section; give its settings by name, such as network.kind"),
        ("network: mlp", "network is a section"),
        ("seed: 1:30", "seed must be an integer, found '1:30'"),
        ("training: {num_envs: 8}\ntraining.num_envs: 4", "training.num_envs is given twice"),
    ],
)
def test_what_yaml_would_read_otherwise_is_refused(tmp_path: Path, text, told):
    (tmp_path / "a.yaml").write_text(text)
    with pytest.raises(ConfigError, match=told):
        parse("--config", str(tmp_path / "a.yaml"))


def test_an_integer_has_no_other_base_in_yaml(tmp_path: Path):
    (tmp_path / "a.yaml").write_text("seed: 010")
    assert parse("--config", str(tmp_path / "a.yaml")).seed == parse("--seed", "010").seed == 10


def test_a_second_file_is_not_passed_over(tmp_path: Path):
    for name in ("a.yaml", "b.yaml"):
        (tmp_path / name).write_text("seed: 1")
    with pytest.raises(ConfigError, match="--config is given twice"):
        parse("--config", str(tmp_path / "a.yaml"), f"--config={tmp_path / 'b.yaml'}")
