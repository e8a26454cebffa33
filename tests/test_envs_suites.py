import sys
import types

import pytest

from muzero_jax.envs.errors import EnvironmentCreationError
from muzero_jax.envs.registry import make_environment
from muzero_jax.envs.suites import import_suite


@pytest.mark.parametrize("name", ["CartPole-v1", "pgx:go_9x9"])
def test_a_missing_suite_says_which_extra_installs_it(monkeypatch, name):
    suite = "pgx" if name.startswith("pgx") else "gymnax"
    monkeypatch.setitem(sys.modules, suite, None)
    with pytest.raises(EnvironmentCreationError, match=rf"pip install 'muzero-jax\[{suite}\]'"):
        make_environment(name)


@pytest.fixture
def drawing_module(tmp_path, monkeypatch):
    (tmp_path / "a_drawing_module.py").write_text("LOADED = True\ndef draw():\n    return 42\n")
    (tmp_path / "a_suite.py").write_text("import a_drawing_module as drawing\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield "a_drawing_module"
    for name in ("a_drawing_module", "a_suite"):
        sys.modules.pop(name, None)


def test_a_deferred_module_is_imported_on_first_use(drawing_module):
    suite = import_suite("a_suite", deferred=(drawing_module,))
    assert drawing_module not in sys.modules
    assert suite.drawing.draw() == 42
    assert sys.modules[drawing_module].LOADED


def test_a_module_that_is_already_there_is_left_alone(drawing_module, monkeypatch):
    real = types.ModuleType(drawing_module)
    monkeypatch.setitem(sys.modules, drawing_module, real)
    assert import_suite("a_suite", deferred=(drawing_module,)).drawing is real
    assert sys.modules[drawing_module] is real
