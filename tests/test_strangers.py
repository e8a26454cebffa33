"""What a stranger packs into a folder runs no code of his, and reaches no file outside of it.

Each attack is a folder as it could be handed on, and the command that an unsuspecting user types.
"""

import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from tiny_run import TINY

from muzero_jax.cli import main
from muzero_jax.core import trust
from muzero_jax.envs.registry import make_environment
from muzero_jax.process.jax_process import check_xla_flags
from muzero_jax.runs.run_folder import write_config
from muzero_jax.settings import config_to_dict
from muzero_jax.sweeps.definition import Sweep

Attack = Callable[[Path, Path], None]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The working folder, with the user's own precious folder beside it."""
    (tmp_path / "victim").mkdir()
    (tmp_path / "victim" / "thesis.txt").write_text("precious")
    (tmp_path / "work").mkdir()
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.delenv("MUZERO_TRUST", raising=False)
    monkeypatch.chdir(tmp_path / "work")
    yield tmp_path / "work"
    for name in [name for name in sys.modules if name.startswith("evil")]:
        del sys.modules[name]


def trap(place: Path, *names: str) -> None:
    """Modules in the working folder that say so if anybody runs them."""
    for name in names or ("evil.py",):
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_text(f"open({str(place.parent / 'executed')!r}, 'w')\nCONFIG = 1\n")


def is_unharmed(place: Path) -> bool:
    """Whether nothing was executed, and the precious folder is as it was."""
    victim = place.parent / "victim"
    return not (place.parent / "executed").exists() and (
        {path.name: path.read_text() for path in victim.iterdir()} == {"thesis.txt": "precious"}
    )


def named(environment: str) -> Attack:
    def pack(run_dir: Path, place: Path) -> None:
        trap(
            place, "evil.py", "evil_package/__init__.py", "evil_package/inner.py", "gymnax:evil.py"
        )
        settings = config_to_dict(TINY)
        settings["environment"]["name"] = environment.format(place=place.parent)
        (run_dir / "config.yaml").write_text(yaml.safe_dump(settings))

    return pack


def text(name: str, content: str) -> Attack:
    def pack(run_dir: Path, place: Path) -> None:
        (run_dir / name).write_text(content.format(place=place.parent))

    return pack


def link(name: str, target: str) -> Attack:
    """A link in the run folder, in the place of a file or folder that the command would write."""

    def pack(run_dir: Path, place: Path) -> None:
        path = run_dir / name
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        path.unlink(missing_ok=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(place.parent / "victim" / target)

    return pack


def forged_seal(run_dir: Path, place: Path) -> None:
    """A seal that the stranger has made by a key of his own."""
    named("evil:make")(run_dir, place)
    seal = trust.Seal(("evil:make",), (str(place),))
    content = {"references": ["evil:make"], "folders": [str(place)], "seal": seal.sign(b"k" * 32)}
    (run_dir / trust.SEAL_FILE).write_text(json.dumps(content))


def borrowed_seal(run_dir: Path, place: Path) -> None:
    """The user's own seal for other names, copied from a run that the user had shared."""
    (place / "mine").mkdir()
    (place / "my_env.py").write_text("")
    write_config(place / "mine", config_of("my_env:make"))
    named("evil:make")(run_dir, place)
    shutil.copy(place / "mine" / trust.SEAL_FILE, run_dir / trust.SEAL_FILE)


def config_of(environment: str):
    from muzero_jax.settings import apply_settings

    return apply_settings(TINY, {"environment.name": environment})


CODE = (
    "evil:make",
    "evil:make:kind=x",
    "evil_package.inner:make",
    "os:system:command=touch {place}/executed",
    "os:command=touch {place}/executed:system",
    "shutil:rmtree:path={place}/victim",
    "subprocess:getoutput:cmd=touch {place}/executed",
    "builtins:exec:source=open('{place}/executed','w')",
    "gymnax:evil:make",
    "gymnax.evil:make",
    "pathlib:Path.touch:self={place}/executed",
)
RUN_COMMANDS = (
    ["evaluate", "RUN"],
    ["play", "RUN"],
    ["inspect", "RUN"],
    ["train", "--resume", "RUN"],
    ["train", "catch", "--init-from", "RUN", "--out", "new"],
    ["train", "catch", "--config", "RUN/config.yaml", "--out", "new"],
    ["sweep", "catch", "--config", "RUN/config.yaml", "--out", "new"],
    ["profile", "search", "--run", "RUN"],
    ["profile", "loop", "catch", "--config", "RUN/config.yaml"],
)
ATTACKS: list[tuple[str, Attack, list[str]]] = [
    *((f"{name} by evaluate", named(name), ["evaluate", "RUN"]) for name in CODE),
    *((" ".join(args), named("evil:make"), args) for args in RUN_COMMANDS),
    ("a forged seal", forged_seal, ["evaluate", "RUN"]),
    ("a borrowed seal", borrowed_seal, ["evaluate", "RUN"]),
    (
        "a YAML tag",
        text("config.yaml", "a: !!python/object/apply:os.system ['touch {place}/executed']"),
        ["evaluate", "RUN"],
    ),
    (
        "a bomb of aliases",
        text("config.yaml", "a: &a [x]\nb: &b [*a, *a]\nname: [*b, *b]"),
        ["evaluate", "RUN"],
    ),
    ("a nest of lists", text("config.yaml", "[" * 100_000), ["evaluate", "RUN"]),
    ("the lock", link(".lock", "thesis.txt"), ["train", "--resume", "RUN"]),
    ("the GIF", link("play.gif", "thesis.txt"), ["play", "RUN"]),
    ("the pictures' folder", link("inspect", "."), ["inspect", "RUN"]),
    ("a picture", link("inspect/tree_step0.svg", "thesis.txt"), ["inspect", "RUN"]),
    ("the metrics", link("metrics.jsonl", "thesis.txt"), ["train", "--resume", "RUN"]),
    ("the evaluations", link("evaluation.csv", "thesis.txt"), ["train", "--resume", "RUN"]),
    ("the checkpoints", link("checkpoints", "."), ["train", "--resume", "RUN", "--restart"]),
    ("the events", link("tensorboard", "."), ["train", "--resume", "RUN"]),
    ("the failures", link("failure", "."), ["train", "--resume", "RUN"]),
    ("the damaged ones", link("damaged", "."), ["train", "--resume", "RUN"]),
    ("a new file", link("result.json", "new.json"), ["train", "--resume", "RUN"]),
    ("the curve", link("learning_curve.png", "new.png"), ["train", "--resume", "RUN"]),
    ("the versions", link("versions.json", "new.json"), ["train", "--resume", "RUN"]),
]


@pytest.mark.parametrize(
    ("pack", "args"), [attack[1:] for attack in ATTACKS], ids=[attack[0] for attack in ATTACKS]
)
def test_a_strangers_run_does_no_harm(
    finished_run: Path,
    place: Path,
    capsys: pytest.CaptureFixture[str],
    pack: Attack,
    args: list[str],
) -> None:
    shutil.copytree(finished_run, place / "RUN")
    (place / "RUN" / "result.json").unlink()  # A finished run would not be resumed.
    pack(place / "RUN", place)
    assert main(args) == 2
    told = capsys.readouterr().err.splitlines()[-1]
    assert told.startswith("error: ")
    assert is_unharmed(place)
    assert not (place / "new").exists()


SWEEP = Sweep(experiment="catch", base=TINY, seeds=(0,), settings=({},))
SWEEP_ATTACKS = {
    "the page": (link("report.html", "thesis.txt"), ["report", "SWEEP"]),
    "the page's draft": (link(".report.html.tmp", "thesis.txt"), ["report", "SWEEP"]),
    "the members": (link("members", "."), ["sweep", "--resume", "SWEEP"]),
    "a member": (link("members/setting-000/seed-0", "."), ["sweep", "--resume", "SWEEP"]),
    "the table": (link("table.csv", "thesis.txt"), ["sweep", "--resume", "SWEEP"]),
    "the journal": (link("journal.log", "thesis.txt"), ["sweep", "--resume", "SWEEP"]),
    "the sweep itself": (link("sweep.yaml", "thesis.txt"), ["sweep", "--resume", "SWEEP"]),
}


@pytest.mark.parametrize("name", SWEEP_ATTACKS)
def test_a_strangers_sweep_reaches_no_other_file(
    place: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    pack, args = SWEEP_ATTACKS[name]
    (place / "SWEEP").mkdir()
    (place / "SWEEP" / "sweep.yaml").write_text(yaml.safe_dump(SWEEP.to_dict()))
    pack(place / "SWEEP", place)
    assert main(args) == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith("error: ")
    assert is_unharmed(place)


NESTED = {"environment": {"name": "evil:make"}}
DEFINITIONS = {
    "nested settings": {**SWEEP.to_dict(), "settings": [NESTED]},
    "both forms": {**SWEEP.to_dict(), "settings": [{"environment.name": "catch", **NESTED}]},
    "both forms, turned": {
        **SWEEP.to_dict(),
        "settings": [{**NESTED, "environment.name": "catch"}],
    },
    "a list": {**SWEEP.to_dict(), "settings": [{"environment.name": ["evil:make"]}]},
    "an integer for a name": {**SWEEP.to_dict(), "settings": [{"environment.name": 3}]},
}


@pytest.mark.parametrize("name", DEFINITIONS)
def test_a_strangers_sweep_hides_no_name(
    place: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    trap(place)
    (place / "SWEEP").mkdir()
    (place / "SWEEP" / "sweep.yaml").write_text(yaml.safe_dump(DEFINITIONS[name], sort_keys=False))
    assert main(["sweep", "--resume", "SWEEP"]) == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith("error: ")
    assert is_unharmed(place)


FILES = {
    "a name in a list": "environment.name: ['evil:make']",
    "a nested name": "environment: {name: 'evil:make'}",
    "a name in two forms": "environment.name: catch\nenvironment: {name: 'evil:make'}",
}


@pytest.mark.parametrize("name", FILES)
def test_a_strangers_settings_hide_no_name(
    place: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    trap(place)
    (place / "a.yaml").write_text(FILES[name])
    assert main(["train", "catch", "--config", "a.yaml", "--out", "new"]) == 2
    assert capsys.readouterr().err.startswith("error: ")
    assert is_unharmed(place) and not (place / "new").exists()


@pytest.mark.parametrize("path", ["evil.py", "./evil", "/proc/self/cwd/evil.py", "../work/evil"])
def test_a_strangers_sweep_names_no_script(
    place: Path, capsys: pytest.CaptureFixture[str], path: str
) -> None:
    trap(place, "evil.py", "evil.py.py", "experiments/evil.py")
    (place / "a.yaml").write_text(f"experiment: {path}")
    assert main(["sweep", "a.yaml", "--out", "new"]) == 2
    assert "names code outside" in capsys.readouterr().err
    assert is_unharmed(place)


def test_a_name_that_ends_like_a_typed_one_was_not_typed(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trap(place, "e.py")
    (place / "a.yaml").write_text("experiment: catch\nset: {environment.name: ['e:make']}")
    args = ["sweep", "a.yaml", "--out", "new", "--environment.name=maze:make"]
    assert main(args) == 2
    assert "names code outside" in capsys.readouterr().err
    assert is_unharmed(place)


def test_the_working_folder_is_no_place_for_plug_ins(place: Path) -> None:
    """JAX and others import what they find on Python's path."""
    trap(place, "jax_plugins/evil.py", "wandb.py", "gymnasium.py")
    assert main(["train", "catch", "--seed", "x"]) == 2
    with pytest.raises(ValueError, match="no module"):
        make_environment("no_such_module:make")
    assert str(place) not in sys.path
    assert is_unharmed(place)


def test_xla_flags_are_tried_without_the_working_folder(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trap(place, "jax.py", "numpy.py")
    monkeypatch.setenv("XLA_FLAGS", "--no_such_flag")
    with pytest.raises(ValueError, match="no_such_flag"):
        check_xla_flags()
    assert is_unharmed(place)


def test_a_second_name_of_a_file_is_not_written_through(place: Path, finished_run: Path) -> None:
    """A hard link cannot be seen by its path."""
    shutil.copytree(finished_run, place / "RUN")
    (place / "RUN" / ".lock").unlink()
    os.link(place.parent / "victim" / "thesis.txt", place / "RUN" / ".lock")
    assert main(["train", "--resume", "RUN"]) == 0
    assert is_unharmed(place)


def test_a_script_in_the_working_folder_takes_no_built_in_name(place: Path) -> None:
    trap(place, "experiments/catch.py", "experiments/cartpole.py")
    assert main(["train", "catch", "--seed", "x"]) == 2
    assert main(["list"]) == 0
    assert is_unharmed(place)
