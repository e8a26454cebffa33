"""YAML as plain data: numbers as people write them, and nothing that a hostile file could use."""

import math

import pytest
import yaml
from tiny_run import TINY

from muzero_jax.core.errors import ConfigError
from muzero_jax.core.plain_yaml import dump_yaml, parse_yaml, read_yaml
from muzero_jax.settings import config_from_dict, config_to_dict


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 1e-3),
        ("1E5", 1e5),
        ("-2e+4", -2e4),
        (".5e3", 500.0),
        ("1.0e-3", 1e-3),
        ("0.25", 0.25),
        ("100_000", 100_000),
        ("3", 3),
        (".inf", math.inf),
        ("true", True),
        ("1e", "1e"),
        ("e5", "e5"),
        ("1e-3x", "1e-3x"),
        ("'1e-3'", "1e-3"),
    ],
)
def test_numbers_are_read_as_they_look(text, value):
    found = parse_yaml(f"a: {text}")["a"]
    assert found == value and type(found) is type(value)


def test_floats_survive_writing_and_reading():
    values = [1e-3, 1e-30, 1e22, 0.1, 3.0, -2.5e-7, 123456.789]
    assert parse_yaml(dump_yaml({"a": values})) == {"a": values}


def test_a_value_that_stands_twice_is_written_out():
    shared = [1, 2]
    text = dump_yaml({"a": shared, "b": shared, "c": {"d": shared}})
    assert "*" not in text and "&" not in text
    assert parse_yaml(text) == {"a": [1, 2], "b": [1, 2], "c": {"d": [1, 2]}}
    assert config_from_dict(parse_yaml(dump_yaml(config_to_dict(TINY)))) == TINY


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a: &x [1]\nb: *x", "line 2 holds the alias *x"),
        ("a: &x {b: 1}\nc: {<<: *x}", "alias *x"),
        ("a: !!python/object/apply:os.system ['true']", "could not determine a constructor"),
        ("a: 1\na: 2", "line 2 gives a a second time"),
        ("[" * 5_000, ""),
        ("a: [", "expected the node content"),
        ("a: 1\n---\nb: 2", "expected a single document"),
        ("a: \x00", "unacceptable character"),
        ("a: 2026-13-45", "month must be in"),
        ("? [1, 2]\n: 3", "a list or a mapping for a name"),
    ],
)
def test_anything_else_is_one_sentence(text, told):
    with pytest.raises(ConfigError) as refused:
        parse_yaml(text)
    assert told in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_bomb_of_aliases_takes_no_memory():
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]
    with pytest.raises(ConfigError, match="holds the alias"):
        parse_yaml("\n".join(lines))


def test_files_that_cannot_be_read_are_named(tmp_path):
    with pytest.raises(ConfigError, match=r"cannot read .*: No such file"):
        read_yaml(tmp_path / "none.yaml")
    (tmp_path / "bytes.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match=r"bytes\.yaml is not plain YAML"):
        read_yaml(tmp_path / "bytes.yaml")
    with pytest.raises(ConfigError, match="cannot read"):
        read_yaml(tmp_path)


def test_the_dialect_differs_from_that_of_the_library():
    # If this fails, the library reads such numbers itself, and our resolver can go.
    assert yaml.safe_load("a: 1e-3") == {"a": "1e-3"}
