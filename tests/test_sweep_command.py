"""`muzero sweep`: what its options and files become, and what it says of wrong ones."""

from pathlib import Path

import pytest
import yaml
from tiny_run import TINY

from muzero_jax.cli import main
from muzero_jax.sweeps import runner
from muzero_jax.sweeps.definition import Study, Sweep
from muzero_jax.sweeps.search_space import parse_axis

EXPERIMENT = "from tiny_run import TINY as CONFIG\n"


@pytest.fixture
def script(tmp_path: Path) -> str:
    (tmp_path / "tiny_experiment.py").write_text(EXPERIMENT)
    return str(tmp_path / "tiny_experiment.py")


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list:
    """What would be run: the definition, the folder, and the sizes."""
    calls: list = []

    def remember(definition, folder, **sizes):
        calls.append((definition, folder, sizes))
        return {"finished": 1, "failed": 0}

    monkeypatch.setattr(runner, "run_sweep", remember)
    return calls


def test_options_become_a_grid(script, asked, tmp_path, capsys):
    axes = ["learning_rate=1e-3..1e-1:log", "num_simulations=2,3"]
    command = ["sweep", script, "--seeds", "2", "--seed", "5", "--set", *axes, "--points", "3"]
    command += ["--out", str(tmp_path / "out"), "--target.td_steps", "2", "--devices", "1"]
    assert main(command) == 0
    ((sweep, folder, sizes),) = asked
    assert isinstance(sweep, Sweep) and len(sweep.settings) == 6
    assert (sweep.seeds, sweep.base.seed, sweep.base.learner.target.td_steps) == ((5, 6), 0, 2)
    assert sweep.changed == {"target.td_steps": 2}
    assert (folder, sizes) == (
        tmp_path / "out",
        {"num_devices": 1, "width": 0, "ray_address": ""},
    )
    assert "muzero report" in capsys.readouterr().out


def test_samples_are_drawn(script, asked, tmp_path):
    command = ["sweep", script, "--set", "learning_rate=1e-3..1e-1:log", "--samples", "7"]
    assert main([*command, "--out", str(tmp_path / "out")]) == 0
    settings = asked[0][0].settings
    assert len({setting["optimizer.learning_rate"] for setting in settings}) == 7


def test_a_file_says_the_same(script, asked, tmp_path):
    content = {
        "experiment": script,
        "seeds": [1, 4],
        "set": {"learning_rate": [1e-3, 1e-2]},
        "list": [
            {"td_steps": 2, "exploration.epsilon": 0.1},
            {"td_steps": 3, "exploration.epsilon": 0},
        ],
        "base": {"td_lambda": 0.5},
    }
    (tmp_path / "sweep.yaml").write_text(yaml.safe_dump(content))
    arguments = ["sweep", str(tmp_path / "sweep.yaml"), "--out", str(tmp_path / "out")]
    # The file names a script, which may be anybody's.
    assert main(arguments) == 2
    assert main([*arguments, "--trust"]) == 0
    sweep = asked[0][0]
    assert sweep.seeds == (1, 4)
    assert sweep.base.learner.target.td_lambda == 0.5
    names = ("target.td_steps", "exploration.epsilon", "optimizer.learning_rate")
    assert [tuple(setting[name] for name in names) for setting in sweep.settings] == [
        (2, 0.1, 1e-3),
        (2, 0.1, 1e-2),
        (3, 0, 1e-3),
        (3, 0, 1e-2),
    ]


def test_a_study_keeps_its_space(script, asked, tmp_path):
    command = ["sweep", script, "--set", "learning_rate=1e-3..1e-1:log", "--study", "rates"]
    command += ["--trials", "9", "--pruner", "asha", "--out", str(tmp_path / "out")]
    assert main(command) == 0
    definition = asked[0][0]
    assert isinstance(definition, Study)
    assert definition.space == (parse_axis(TINY, "learning_rate=1e-3..1e-1:log"),)
    assert (definition.name, definition.num_trials, definition.pruner) == ("rates", 9, "asha")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--set", "learning_rat=1,2"], "unknown setting learning_rat; did you mean"),
        (["--set", "seed=1,2"], "seed cannot be swept: use --seeds"),
        (["--set", "learning_rate=2..1"], "is empty: 2 is not below 1"),
        (["--set", "td_steps=3,400"], "the setting td_steps=400 cannot work: replay.capacity"),
        (["--seeds", "0"], "--seeds must be between 1 and 100,000, found 0"),
        (["--samples", "4"], "--samples needs --set"),
        (["--set", "td_steps=1,2", "--trials", "4"], "--trials goes with --study NAME only"),
        (["--study", "s", "--trials", "4"], "a study needs at least one setting to choose"),
        (["--study", "s", "--set", "td_steps=1,2"], "a study needs --trials N"),
        (["--study", "s", "--set", "agent=muzero,dqm", "--trials", "2"], "unknown agent 'dqm'"),
        (
            ["--study", "s", "--set", "td_steps=1,2", "--trials", "2", "--pruner", "axe"],
            "pruner must be one of hyperband, asha, none, found 'axe'",
        ),
        (
            ["--study", "s", "--set", "td_steps=1..9", "--trials", "2", "--points", "2"],
            "a study chooses its settings itself; leave out points",
        ),
        (["--devices", "-1"], "--devices must be at least 0"),
        (["--seeds", "x"], "seeds must be an integer, found 'x'"),
        (["--num_simulatons", "4"], "unknown setting --num_simulatons; did you mean"),
    ],
)
def test_a_mistake_is_one_sentence_and_starts_nothing(
    script, asked, tmp_path, capsys, arguments, told
):
    assert main(["sweep", script, "--out", str(tmp_path / "out"), *arguments]) == 2
    error = capsys.readouterr().err
    assert told in error and error.count("\n") == 1
    assert not asked and not (tmp_path / "out").exists()


def test_what_is_missing_is_said(script, asked, tmp_path, capsys):
    assert main(["sweep"]) == 2
    assert "name an experiment or a YAML file first" in capsys.readouterr().err
    assert main(["sweep", script]) == 2
    assert "--out DIR is missing" in capsys.readouterr().err
    assert main(["sweep", "--resume", str(tmp_path / "none")]) == 2
    assert "is not a sweep folder: there is no such folder" in capsys.readouterr().err
    assert main(["sweep", script, "--resume", str(tmp_path)]) == 2
    assert "continues" in capsys.readouterr().err
    for option in (["--trials", "50"], ["--seeds", "3"], ["--study", "s"], ["--deterministic"]):
        assert main(["sweep", "--resume", str(tmp_path), *option]) == 2
        assert "as it is; give no settings" in capsys.readouterr().err
    assert not asked


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("[", "is not plain YAML"),
        ("seeds: 3", "must hold a sweep"),
        ("{experiment: catch, sets: 1}", "unknown 'sets'; there are experiment"),
        ("{experiment: catch, set: [1]}", "`set` must be NAME: values, found [1]"),
        ("{experiment: catch, list: [1]}", "an entry of `list` must be NAME: value, found 1"),
        ("{experiment: catch, base: {a: 1}}", "unknown setting a"),
    ],
)
def test_a_wrong_file_is_one_sentence(asked, tmp_path, capsys, content, told):
    (tmp_path / "sweep.yaml").write_text(content)
    assert main(["sweep", str(tmp_path / "sweep.yaml"), "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert told in error and error.count("\n") == 1
    assert not asked


def test_seeds_of_a_file_may_be_written_as_people_do(asked, tmp_path):
    (tmp_path / "sweep.yaml").write_text("{experiment: catch, seeds: ['1e3', 7], points: '1e1'}")
    command = ["sweep", str(tmp_path / "sweep.yaml"), "--out", str(tmp_path / "out")]
    assert main([*command, "--set", "td_steps=1..9"]) == 0
    assert asked[0][0].seeds == (1000, 7) and len(asked[0][0].settings) == 9
    # The command line wins over the file.
    assert main([*command, "--set", "td_steps=1..9", "--seeds", "2", "--points", "3"]) == 0
    assert asked[1][0].seeds == (0, 1) and len(asked[1][0].settings) == 3


SWEEP = Sweep("catch", TINY, (0,), ({"target.td_steps": 1},))
STUDY = Study("catch", TINY, (0,), "s", (parse_axis(TINY, "td_steps=1..3"),), 2)


@pytest.mark.parametrize(
    ("definition", "name", "value", "told"),
    [
        (SWEEP, "seeds", "x", "seeds must be a list of integers, found 'x'"),
        (SWEEP, "seeds", ["x"], "seeds must be between 0 and 2^32 - 1, found 'x'"),
        (SWEEP, "settings", 3, "settings must be a list of NAME: value, found '3'"),
        (SWEEP, "settings", ["environment.name"], "found 'environment.name' in it"),
        (SWEEP, "settings", [{1: 2}], "1 is no name of a setting"),
        (SWEEP, "changed", 7, "changed must be NAME: value, found '7'"),
        (SWEEP, "experiment", [], "experiment must be a name, found '[]'"),
        (SWEEP, "base", "missing", "base is missing"),
        (STUDY, "pruner", "missing", "pruner is missing"),
        (SWEEP, "base", None, "settings must be NAME: VALUE, found 'None'"),
        (STUDY, "space", [], "space must be NAME: values, found '[]'"),
        (STUDY, "space", {1: 2}, "1 is no name of a setting"),
        (STUDY, "study", None, "study must be a string, found None"),
        (STUDY, "trials", -1, "trials must be between 1 and 100,000, found -1"),
        (STUDY, "trials", "x", "trials must be an integer, found 'x'"),
        (STUDY, "pruner", "axe", "pruner must be one of hyperband, asha, none, found 'axe'"),
        (STUDY, "sample_seed", "x", "sample_seed must be between 0 and 2^32 - 1, found 'x'"),
        (STUDY, "round_size", "x", "round_size must be an integer, found 'x'"),
        (STUDY, "deterministic", 1, "deterministic must be true or false, found 1"),
    ],
)
def test_a_damaged_sweep_file_is_one_sentence(
    asked, tmp_path, capsys, definition, name, value, told
):
    path = tmp_path / "sweep.yaml"
    content = {**definition.to_dict(), name: value}
    path.write_text(yaml.safe_dump({k: v for k, v in content.items() if v != "missing"}))
    assert main(["sweep", "--resume", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert f"{path} cannot be used: " in error and told in error and error.count("\n") == 1
    assert main(["report", str(tmp_path)]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert not asked


def test_report_of_no_sweep_is_one_sentence(tmp_path, capsys):
    assert main(["report", str(tmp_path)]) == 2
    assert "is not a sweep folder" in capsys.readouterr().err


def test_help_is_quick_and_whole(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["sweep", "--help"])
    assert ended.value.code == 0
    text = capsys.readouterr().out
    assert "--set NAME=VALUES" in text and "muzero sweep cartpole" in text
