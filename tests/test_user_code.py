"""Code of the user's that fails is one sentence, with the user's own file and line."""

import sys
from pathlib import Path

import pytest

from muzero_jax.cli import main
from muzero_jax.cli.experiments import load_experiment
from muzero_jax.core import user_code
from muzero_jax.core.errors import ConfigError
from muzero_jax.core.user_code import describe_error
from muzero_jax.envs.registry import make_environment


@pytest.fixture(autouse=True)
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder, which no test leaves on Python's path."""
    monkeypatch.chdir(tmp_path)
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if name.startswith(("mine", "_muzero_experiment")):
            del sys.modules[name]


SCRIPTS = (
    ("import nothing_of_that_name", r"line 1: ModuleNotFoundError: No module named"),
    ("\nCONFIG = (", r"script.py, line 2: SyntaxError: '\(' was never closed"),
    ("def f():\n    raise KeyError('a')\nf()", r"script.py, line 2: KeyError: 'a'"),
    ("raise SystemExit(3)", r"script.py, line 1: SystemExit: 3"),
    ("import sys\nsys.exit()", r"script.py, line 2: SystemExit"),
    ("raise ValueError('one\\ntwo\\nthree')", r"line 1: ValueError: one\.$"),
    ("X = 1", r"must define CONFIG, an ExperimentConfig; none"),
    ("CONFIG = {}", r"must define CONFIG, an ExperimentConfig; found dict"),
    (
        "from muzero_jax.config import *\nCONFIG = ExperimentConfig(seed='x')",
        r"seed must be an integer",
    ),
    (
        "from muzero_jax.config import *\nCONFIG = ExperimentConfig(sed=1)",
        r"has no setting sed",
    ),
    ("raise ValueError('x' * 5000)", r"x\.\.\.$"),
    ("\0", r"SyntaxError|ValueError"),
)


@pytest.mark.parametrize(("script", "told"), SCRIPTS, ids=range(len(SCRIPTS)))
def test_a_script_that_fails_is_one_sentence(workplace, script, told):
    (workplace / "script.py").write_text(script)
    with pytest.raises(ConfigError, match=told) as refused:
        load_experiment("script.py")
    assert "\n" not in str(refused.value) and len(str(refused.value)) < 500


def test_a_script_finds_the_modules_beside_it(workplace):
    folder = workplace / "project"
    folder.mkdir()
    (folder / "mine_sizes.py").write_text("SEED = 7\n")
    (folder / "script.py").write_text(
        "from mine_sizes import SEED\nfrom muzero_jax.config import ExperimentConfig\n"
        "CONFIG = ExperimentConfig(seed=SEED)\n"
    )
    assert load_experiment("project/script.py").seed == 7


FACTORIES = (
    ("def make(): raise RuntimeError('no such level')", "line 1: RuntimeError: no such level"),
    (
        "def make(size): return size",
        "cannot be made: missing a required argument: 'size'; it takes: size",
    ),
    (
        "def make():\n    return helper()\n\ndef helper():\n    return {}['a']",
        "line 5: KeyError: 'a'",
    ),
    ("import sys\nsys.exit(0)", r"mine\.py, line 2: SystemExit: 0"),
    ("1/0", r"mine\.py, line 1: ZeroDivisionError"),
    ("def make(:", r"mine\.py, line 1: SyntaxError"),
    (
        "def make(): import mine_missing",
        "line 1: ModuleNotFoundError: No module named 'mine_missing'",
    ),
    (
        "class make:\n    @property\n    def spec(self): raise ValueError('late')",
        "line 3: ValueError",
    ),
    ("make = dict", "cannot be made: ValueError: no signature found"),
    ("make = 3", "TypeError: 3 is not a callable object"),
    ("def make(): exit()", "line 1: SystemExit"),
)


@pytest.mark.parametrize(("module", "told"), FACTORIES, ids=range(len(FACTORIES)))
def test_a_factory_that_fails_is_one_sentence(workplace, module, told):
    (workplace / "mine.py").write_text(module)
    with pytest.raises(ConfigError, match=told) as refused:
        make_environment("mine:make")
    assert "\n" not in str(refused.value)


def test_an_installed_module_is_not_shadowed(workplace):
    (workplace / "json.py").write_text("raise RuntimeError('shadow')\n")
    assert user_code.import_module("json").__file__ != str(workplace / "json.py")


def test_the_place_told_is_the_users_and_not_a_librarys(workplace):
    (workplace / "mine.py").write_text("import json\ndef make():\n    return json.loads('{')\n")
    with pytest.raises(ConfigError, match=r"mine\.py, line 3: JSONDecodeError"):
        make_environment("mine:make")


def test_the_traceback_is_shown_where_it_is_asked_for(workplace, capsys):
    (workplace / "script.py").write_text("def f():\n    raise KeyError('a')\nf()\n")
    assert main(["train", "script.py"]) == 2
    assert "Traceback" not in capsys.readouterr().err
    assert main(["train", "script.py", "--traceback"]) == 2
    told = capsys.readouterr().err
    assert "Traceback" in told and 'script.py", line 2, in f' in told
    assert told.splitlines()[-1].startswith("error: the experiment script.py cannot be loaded")


def test_ctrl_c_in_the_users_code_is_no_error_of_it(workplace):
    (workplace / "script.py").write_text("raise KeyboardInterrupt\n")
    with pytest.raises(KeyboardInterrupt):
        load_experiment("script.py")


def test_an_error_without_a_message_has_its_type():
    assert describe_error(ValueError()) == "ValueError."


@pytest.mark.parametrize("end", ["raise RuntimeError('gone')", "exit('gone')"])
def test_a_module_that_makes_up_its_names_is_no_exception(workplace, end):
    (workplace / "script.py").write_text(f"def __getattr__(name):\n    {end}\n")
    with pytest.raises(ConfigError, match=r"cannot be loaded: .*line 2: .*gone"):
        load_experiment("script.py")


@pytest.mark.parametrize("name", ["", "1", "1..2", "no-module", "a:b", "a b", ".hidden"])
def test_what_is_no_dotted_name_is_never_imported(workplace, monkeypatch, name):
    (workplace / f"{name or 'x'}.py").write_text("raise SystemExit(9)")
    (workplace / "1.py").write_text("raise SystemExit(9)")
    assert user_code.import_module(name) is None
