"""Code that a folder or a file names is run only where this user has said so."""

import contextlib
import json
import os
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from tiny_run import TINY, tiny

from muzero_jax.cli import main
from muzero_jax.core import trust, user_code
from muzero_jax.core.dotted import flatten
from muzero_jax.core.errors import ConfigError, RunError
from muzero_jax.core.plain_yaml import dump_yaml
from muzero_jax.core.trust import UntrustedCodeError, admit, code_references, key_file, module_of
from muzero_jax.envs import registry
from muzero_jax.runs import runner
from muzero_jax.runs.run_folder import load_config, write_config
from muzero_jax.settings import config_to_dict
from muzero_jax.sweeps.definition import Sweep
from muzero_jax.sweeps.ray_cluster import _WorkerThread
from muzero_jax.sweeps.sweep_progress import Stop, SweepProgress

TRAP = "from pathlib import Path\nPath({mark!r}).touch()\ndef make(**options):\n    pass\n"


@pytest.fixture(autouse=True)
def user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user without a key, who works in an empty folder and trusts nobody."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.delenv("MUZERO_TRUST", raising=False)
    monkeypatch.setattr(trust._Decision, "seals", True)
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.chdir(home)
    yield home
    for name in [name for name in sys.modules if name.startswith("trap")]:
        del sys.modules[name]


@pytest.fixture
def mark(tmp_path: Path) -> Path:
    """The file that a trap leaves if its code is run."""
    return tmp_path / "executed"


def strangers_run(folder: Path, environment: str) -> Path:
    """A run folder as a stranger could have packed it."""
    folder.mkdir(parents=True)
    settings = config_to_dict(TINY)
    settings["environment"]["name"] = environment
    (folder / "config.yaml").write_text(yaml.safe_dump(settings))
    return folder


def lay_trap(folder: Path, mark: Path, module: str = "trap") -> None:
    path = folder / (module.replace(".", "/") + ".py")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(TRAP.format(mark=str(mark)))


@pytest.mark.parametrize(
    ("name", "module"),
    [
        ("catch", ""),
        ("maze:slip=0.1", ""),
        ("gymnax:CartPole-v1", ""),
        ("gymnax:CartPole-v1:gravity=20", ""),
        ("CartPole-v1", ""),
        ("my_maze:make", "my_maze"),
        ("a.b:make:kind=x", "a.b"),
        ("os:system:command=touch x", "os"),
        ("os:command=touch x:system", "os"),
        ("gymnax:evil:make", ""),
        ("1..2:log", ""),
        ("no-module:make", ""),
        ("gymnax.evil:make", "gymnax.evil"),
        (":make", ""),
        ("", ""),
    ],
)
def test_the_registry_imports_what_is_called_code_and_nothing_else(name, module, monkeypatch):
    imported = []
    monkeypatch.setattr(user_code, "import_module", imported.append)
    with contextlib.suppress(ValueError):
        registry.make_environment(name)
    assert module_of(name) == module
    assert {name for name in imported if user_code.is_module_name(name)} == (
        {module} if imported and module else set()
    )
    assert imported or not module or name.count(":") > 1
    assert (name in code_references([name, None, 3])) == bool(module)


@pytest.mark.parametrize(
    "args",
    [
        ["evaluate", "RUN"],
        ["play", "RUN"],
        ["inspect", "RUN"],
        ["train", "--resume", "RUN"],
        ["train", "catch", "--config", "RUN/config.yaml", "--out", "new"],
        ["profile", "search", "--run", "RUN"],
        ["profile", "loop", "catch", "--config", "RUN/config.yaml"],
        ["sweep", "catch", "--config", "RUN/config.yaml", "--out", "new"],
    ],
    ids=lambda args: " ".join(args[:2]),
)
def test_no_command_runs_what_a_strangers_run_names(user, mark, args, capsys):
    lay_trap(user, mark)
    strangers_run(user / "RUN", "trap:make")
    before = sorted(path for path in user.rglob("*"))
    assert main(args) == 2
    told = capsys.readouterr().err
    assert "names code outside this program: 'trap:make'" in told and "--trust" in told
    assert str(user / "trap.py") in told and told.count("\n") == 1
    assert not mark.exists()
    assert sorted(path for path in user.rglob("*")) == before


@pytest.mark.parametrize("what", ["base", "settings", "space", "yaml", "script"])
def test_no_command_runs_what_a_strangers_sweep_names(user, mark, what, capsys):
    lay_trap(user, mark)
    base = config_to_dict(TINY)
    content = {"experiment": "tiny", "seeds": [0], "settings": [{}], "changed": {}, "base": base}
    args = ["sweep", "--resume", "SWEEP"]
    if what == "base":
        base["environment"]["name"] = "trap:make"
    elif what == "settings":
        content["settings"] = [{"environment.name": "trap:make"}]
    elif what == "space":
        del content["settings"]
        content |= {"study": "s", "trials": 2, "pruner": "none", "sample_seed": 0}
        content["space"] = {"environment.name": ["catch", "trap:make"]}
    else:
        args = ["sweep", "SWEEP/sweep.yaml", "--out", "new"]
        content = {"experiment": "catch", "set": {"environment.name": ["trap:make"]}}
        if what == "script":
            content = {"experiment": "trap.py"}
    (user / "SWEEP").mkdir()
    (user / "SWEEP" / "sweep.yaml").write_text(yaml.safe_dump(content))
    assert main(args) == 2
    told = capsys.readouterr().err
    assert "names code outside this program: 'trap" in told and told.count("\n") == 1
    assert not mark.exists()
    assert not (user / "new").exists()


def test_locating_a_module_runs_nothing(user, mark):
    lay_trap(user, mark, "trap/__init__")
    lay_trap(user, mark, "trap.inner.deep")
    assert user_code.locate("trap") == user / "trap" / "__init__.py"
    assert user_code.locate("trap.inner.deep") == user / "trap" / "inner" / "deep.py"
    assert user_code.locate("trap.none") is None
    assert user_code.locate("none.trap") is None
    with pytest.raises(UntrustedCodeError, match=r"trap/inner/deep\.py"):
        admit(user, ["trap.inner.deep:make"])
    assert not mark.exists()


def test_ones_own_runs_need_no_flag_wherever_they_are_moved(user, mark, monkeypatch):
    lay_trap(user, mark)
    config = tiny(environment__name="trap:make:size=3")
    (user / "run").mkdir()
    write_config(user / "run", config)
    moved = user / "elsewhere" / "run"
    shutil.copytree(user / "run", moved)
    elsewhere = user / "elsewhere"
    # The working folder may hold a module of the same name: the sealed folder goes first.
    lay_trap(elsewhere, user / "wrong")
    monkeypatch.chdir(elsewhere)
    assert load_config(moved) == config
    assert user_code.search_folders()[0] == user
    assert user_code.import_module("trap").__file__ == str(user / "trap.py")
    assert not (user / "wrong").exists()


@pytest.mark.parametrize("forged", ["options", "module", "folder", "key", "missing", "nonsense"])
def test_a_seal_covers_names_options_and_folders(user, mark, forged):
    lay_trap(user, mark)
    run_dir = user / "run"
    run_dir.mkdir()
    write_config(run_dir, tiny(environment__name="trap:make:size=3"))
    seal_file = run_dir / trust.SEAL_FILE
    content = json.loads(seal_file.read_text())
    name = "trap:make:size=3"
    if forged == "options":
        name = "trap:make:size=4"
    elif forged == "module":
        name = "os:system:command=true"
        content["references"] = [name]
    elif forged == "folder":
        content["folders"] = ["/tmp"]
    elif forged == "key":
        key_file().unlink()
    seal_file.write_text("{" if forged == "nonsense" else json.dumps(content))
    if forged == "missing":
        seal_file.unlink()
    with pytest.raises(UntrustedCodeError):
        admit(run_dir, [name])


def test_a_sealed_module_that_is_gone_is_not_looked_for_here(user, mark, monkeypatch):
    lay_trap(user, mark)
    (user / "run").mkdir()
    write_config(user / "run", tiny(environment__name="trap:make"))
    (user / "there").mkdir()
    (user / "trap.py").rename(user / "there" / "trap.py")
    monkeypatch.chdir(user / "there")
    with pytest.raises(UntrustedCodeError, match="names code outside"):
        load_config(user / "run")
    monkeypatch.setenv("MUZERO_TRUST", "1")
    load_config(user / "run")
    monkeypatch.delenv("MUZERO_TRUST")
    load_config(user / "run")
    assert user_code.search_folders()[0] == user / "there"


def test_trust_is_given_by_flag_or_variable_and_seals(user, mark, monkeypatch, capsys):
    lay_trap(user, mark)
    run_dir = strangers_run(user / "RUN", "trap:make")
    assert main(["evaluate", "RUN", "--trust"]) == 2
    assert "it has no member spec, an EnvironmentSpec" in capsys.readouterr().err
    assert mark.exists()
    monkeypatch.setattr(trust._Decision, "is_given", False)
    load_config(run_dir)
    (run_dir / trust.SEAL_FILE).unlink()
    for value, is_enough in (("0", False), ("", False), ("1", True)):
        monkeypatch.setenv("MUZERO_TRUST", value)
        assert trust.is_trusting() == is_enough


def test_a_worker_uses_the_decision_and_seals_nothing(user, mark):
    lay_trap(user, mark)
    run_dir = strangers_run(user / "RUN", "trap:make")
    trust.trust_everything(seals=False)
    load_config(run_dir)
    write_config(run_dir, tiny(environment__name="trap:make"))
    assert not (run_dir / trust.SEAL_FILE).exists()


def test_the_driver_seals_what_its_workers_make(user, mark, monkeypatch):
    lay_trap(user, mark)
    sweep = Sweep("own", tiny(environment__name="trap:make"), (0,), ({},))
    (member,) = sweep.members()
    run_dir = user / "sweep" / member.folder

    def exchange(_):
        run_dir.mkdir(parents=True)
        (run_dir / "config.yaml").write_text(dump_yaml(config_to_dict(member.config)))
        return [("end", [member])]

    errors = SimpleNamespace(RayTaskError=KeyError, RayActorError=KeyError)
    ray = SimpleNamespace(get=lambda found: found, exceptions=errors)
    ray.wait = lambda references, timeout: (references, [])
    worker = SimpleNamespace(work=SimpleNamespace(remote=lambda: None))
    worker.exchange = SimpleNamespace(remote=exchange)
    progress = SweepProgress(user / "sweep", sweep, "a sweep")
    stop = Stop(SimpleNamespace(signal_number=None))
    _WorkerThread(ray, lambda: worker, user / "sweep", progress, stop).run()
    assert load_config(run_dir) == member.config  # Without --trust.


def test_the_key_is_private_and_made_once(user):
    admit_folder = user / "run"
    admit_folder.mkdir()
    trust.seal_folder(admit_folder, ["os:system"])
    key = key_file().read_bytes()
    assert len(key) == 32 and key_file().stat().st_mode & 0o777 == 0o600
    trust.seal_folder(admit_folder, ["os:system"])
    assert key_file().read_bytes() == key
    assert [path.name for path in key_file().parent.iterdir()] == ["key"]


def test_a_key_that_others_can_read_is_refused(user):
    (user / "run").mkdir()
    trust.seal_folder(user / "run", ["os:system"])
    key_file().chmod(0o644)
    with pytest.raises(ValueError, match="that you alone can read"):
        admit(user / "run", ["os:system"])


def test_without_a_state_folder_a_run_is_made_and_a_notice_told(user, monkeypatch, capsys):
    (user / "file").write_text("")
    monkeypatch.setenv("XDG_STATE_HOME", str(user / "file"))
    (user / "run").mkdir()
    write_config(user / "run", tiny(environment__name="trap:make"))
    assert "is not sealed, so that later commands need --trust" in capsys.readouterr().err
    assert (user / "run" / "config.yaml").exists()


def test_a_run_that_cannot_be_sealed_is_trained_all_the_same(user, monkeypatch):
    (user / "file").write_text("")
    (user / "trap_catch.py").write_text("from muzero_jax.envs.catch import Catch as make\n")
    monkeypatch.setenv("XDG_STATE_HOME", str(user / "file"))

    def begin(*_):
        raise RunError("it has begun")

    monkeypatch.setattr(runner, "RunWriter", begin)
    with pytest.raises(RunError, match="it has begun"):
        runner.train(tiny(environment__name="trap_catch:make"), user / "run")


def test_a_user_without_a_home_is_told_what_is_not_possible(user, mark, monkeypatch, capsys):
    def no_home():
        raise RuntimeError("Could not determine home directory.")

    lay_trap(user, mark)
    monkeypatch.delenv("XDG_STATE_HOME")
    monkeypatch.setattr(Path, "home", no_home)
    (user / "run").mkdir()
    write_config(user / "run", tiny(environment__name="trap:make"))
    error = capsys.readouterr().err
    assert "is not sealed" in error and "this user has no home folder" in error
    with pytest.raises(UntrustedCodeError, match="add --trust"):
        load_config(user / "run")
    monkeypatch.setenv("MUZERO_TRUST", "1")
    load_config(user / "run")


def test_folders_that_name_no_code_of_others_need_no_key(user):
    (user / "run").mkdir()
    write_config(user / "run", TINY)
    assert load_config(user / "run") == TINY
    assert not key_file().exists()
    assert os.listdir(user / "run") == ["config.yaml"]


def test_names_of_code_are_found_in_whatever_form_they_are_written(user):
    (user / "evil.py").touch()
    texts = ["[evil:F]", "evil:F,other:G", "'evil:F','muzero'", "(evil:F)"]
    for text in [*texts, ["x", ["evil:F"]], {"a": {"b": "evil:F"}}]:
        assert "evil:F" in code_references([text])
    assert code_references(["1e-4..1e-2:log", "4,16", "gymnax:CartPole-v1", "catch"]) == ()


@pytest.mark.parametrize("name", ["evil:x:y", "evil:x=1", "pgx:foo", "gymnax:foo", "evil:", ":x"])
def test_agents_networks_and_observers_have_one_form_of_name(name, monkeypatch):
    imported = []
    monkeypatch.setattr(user_code, "import_module", imported.append)
    for kind in ("agent", "network", "observer"):
        with pytest.raises(ConfigError, match="must be named MODULE:NAME"):
            user_code.find(name, kind)
    assert not imported


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("agent", "trap:D"),
        ("network.kind", "trap:D"),
        ("evaluation.observers", "[trap:D]"),
        ("evaluation.observers", ["trap:D"]),
    ],
)
def test_no_setting_of_a_strangers_run_runs_code(user, mark, name, value, capsys):
    lay_trap(user, mark)
    tree = flatten(config_to_dict(TINY)) | {name: value}
    (user / "RUN").mkdir()
    (user / "RUN" / "config.yaml").write_text(dump_yaml(tree))
    (user / "sweep.yaml").write_text(dump_yaml({"experiment": "catch", "set": {name: [value]}}))
    (user / "base.yaml").write_text(dump_yaml({"experiment": "catch", "base": {name: value}}))
    for args in (
        ["evaluate", "RUN"],
        ["train", "--resume", "RUN"],
        ["train", "catch", "--init-from", "RUN", "--out", "new"],
        ["train", "catch", "--config", "RUN/config.yaml", "--out", "new"],
        ["sweep", "sweep.yaml", "--out", "new"],
        ["sweep", "base.yaml", "--out", "new"],
    ):
        assert main(args) == 2
        assert "names code outside this program" in capsys.readouterr().err, args
    assert not mark.exists()
