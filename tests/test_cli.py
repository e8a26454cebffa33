"""The command line: quick help, and one sentence for every mistake, before anything is made."""

import ast
import dataclasses
import inspect
import itertools
import json
import os
import resource
import subprocess
import sys
import typing
from pathlib import Path

import pytest
import yaml
from tiny_run import TINY, tiny

from muzero_jax.agents.base import Agent
from muzero_jax.agents.registry import find_definition
from muzero_jax.cli import experiments, main
from muzero_jax.cli.options import parse_options
from muzero_jax.cli.train import TrainOptions
from muzero_jax.config import ConfigError, ExperimentConfig
from muzero_jax.settings import apply_settings, config_to_dict, setting_types

TINY_SCRIPT = f"""'''A tiny run.'''
from muzero_jax.settings import config_from_dict

CONFIG = config_from_dict({config_to_dict(TINY)!r})

if __name__ == "__main__":
    from muzero_jax.cli import train_experiment

    train_experiment(CONFIG)
"""


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory with one experiment."""
    (tmp_path / "experiments").mkdir()
    (tmp_path / "experiments" / "tiny.py").write_text(TINY_SCRIPT)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    "commands",
    [[["--help"], ["--version"]], [["train", "--help"], ["train", "cartpole", "--help"]]],
    ids=["muzero", "train"],
)
def test_help_is_quick_and_imports_nothing_large(commands: list[list[str]]) -> None:
    program = (
        "import contextlib, sys\n"
        "from muzero_jax.cli import main\n"
        f"for args in {commands!r}:\n"
        "    with contextlib.suppress(SystemExit):\n"
        "        main(args)\n"
        "large = {'jax', 'flax', 'numpy', 'optax', 'orbax', 'matplotlib'} & set(sys.modules)\n"
        "assert not large, large\n"
    )
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    # Not by the clock, which other work on the machine would hold up.
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 1.0


def _docstrings(agent: str) -> list[str]:
    """The docstring of every setting of a run with an agent, from the source of the sections."""
    kinds = [ExperimentConfig, find_definition(agent).settings]
    hints = [hint for kind in kinds for hint in typing.get_type_hints(kind).values()]
    sections = [hint for hint in hints if dataclasses.is_dataclass(hint)]
    classes = {base for kind in sections for base in kind.__mro__ if dataclasses.is_dataclass(base)}
    bodies = [ast.parse(inspect.getsource(kind)).body[0].body for kind in classes]
    return [
        ast.literal_eval(text.value)
        for body in bodies
        for field, text in itertools.pairwise(body)
        if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr)
    ]


@pytest.mark.parametrize("agent", ["muzero", "table_muzero"])
def test_help_shows_every_setting_of_the_agent_with_its_meaning(
    capsys: pytest.CaptureFixture[str], agent: str
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["train", "cartpole", "--agent", agent, "--help"])
    assert not ended.value.code
    shown = " ".join(capsys.readouterr().out.replace("│", " ").split())
    names = setting_types(ExperimentConfig(agent=agent))
    for name in names:
        assert f"--{name}" in shown, name
    docstrings = _docstrings(agent)
    assert len(docstrings) >= len(names) - 3
    for text in docstrings:
        assert " ".join(text.split()) in shown, text
    assert ("--optimizer.learning_rate" in shown) == (agent == "muzero")


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (["trian"], "unknown command 'trian'; did you mean train?"),
        (["train"], "name an experiment first"),
        (["train", "--seed", "1"], "name an experiment first"),
        (["train", "tyni"], "unknown experiment 'tyni'; did you mean tiny?"),
        (["train", "nowhere.py"], "there is no experiment script nowhere.py"),
        (["train", "tiny", "--seeed", "1"], "unknown setting --seeed; did you mean --seed?"),
        (
            ["train", "tiny", "--learning-rate", "1"],
            "unknown setting --learning_rate; did you mean --optimizer.learning_rate?",
        ),
        (["train", "tiny", "--seed", "x"], "seed must be an integer, found 'x'"),
        (["train", "tiny", "--seed", "-1"], "seed must be between 0 and 2^32 - 1, found -1"),
        (["train", "tiny", "--seed"], "seed needs a value"),
        (["train", "tiny", "--target.discount", "x"], "target.discount must be a number"),
        (["train", "tiny", "--target.discount", "nan"], "target.discount must be between 0 and 1"),
        (
            ["train", "tiny", "--optimizer.schedule", "step"],
            "optimizer.schedule must be one of constant, linear, cosine, found 'step'",
        ),
        (["train", "tiny", "--network.hidden_sizes", "a"], "hidden_sizes must be an integer"),
        (["train", "tiny", "--replay.capacity", "9"], "replay.min_size (64) must not exceed"),
        (["train", "tiny", "extra"], "cannot make sense of 'extra'"),
        (["train", "tiny", "--config", "no.yaml"], "cannot read no.yaml: No such file"),
        (["train", "tiny", "--environment.name", "ctch"], "did you mean catch"),
        (["train", "tiny", "--replay.capacity", "500_000_000"], "but the device has"),
        (["train", "tiny", "--resume", "nowhere"], "nowhere is not a run folder"),
        (["train", "tiny", "--init-from", "nowhere"], "nowhere is not a run folder"),
        (["train", "tiny", "--restart"], "--restart begins a run anew that --resume names"),
        (["train", "tiny", "--checkpoint", "9"], "--checkpoint"),
        (
            ["evaluate", "nowhere", "--evaluation.interval", "9"],
            "unknown setting --evaluation.inte",
        ),
        (["evaluate"], "muzero evaluate needs RUN"),
        (["evaluate", "nowhere"], "nowhere is not a run folder: there is no such folder"),
        (
            ["evaluate", "nowhere", "--episodes", "0"],
            "--episodes must be between 1 and 100,000",
        ),
        (["play", "nowhere"], "nowhere is not a run folder"),
        (["plot"], "muzero plot needs RUNS"),
        (["plot", "nowhere"], "There is no run folder 'nowhere'"),
    ],
)
def test_mistakes_are_one_sentence(
    workplace: Path, capsys: pytest.CaptureFixture[str], args: list[str], told: str
) -> None:
    assert main(args) == 2
    captured = capsys.readouterr()
    assert told in captured.err
    assert captured.err.startswith("error: ")
    assert captured.err.count("\n") == 1
    assert captured.out == ""
    assert not (workplace / "runs").exists()


@pytest.mark.parametrize(
    ("script", "told"),
    [
        ("X = 1", "must define CONFIG, an ExperimentConfig; none."),
        ("import nothing_of_that_name", r"bad.py, line 1: ModuleNotFoundError: No module named"),
        ("CONFIG = (", "cannot be loaded"),
        (
            "from muzero_jax.config import *\nCONFIG = ExperimentConfig(seed=-1)",
            "seed must be between",
        ),
    ],
)
def test_bad_script_is_one_sentence(
    workplace: Path, capsys: pytest.CaptureFixture[str], script: str, told: str
) -> None:
    (workplace / "experiments" / "bad.py").write_text(script)
    assert main(["train", "bad"]) == 2
    assert told in capsys.readouterr().err


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_sentences_do_not_depend_on_the_terminal(encoding: str) -> None:
    program = "import sys; from muzero_jax.cli import main; sys.exit(main(sys.argv[1:]))"
    ended = subprocess.run(
        [sys.executable, "-c", program, "train", "catch", "--seed", "x"],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONIOENCODING": encoding},
    )
    assert ended.returncode == 2
    assert ended.stderr == "error: seed must be an integer, found 'x'.\n"


def _parse(*args: str) -> ExperimentConfig:
    return parse_options(TrainOptions, args, "muzero train", ExperimentConfig()).settings


def test_flags_take_underscores_hyphens_and_equals_signs() -> None:
    for args in (
        ("--optimizer.learning_rate", "3e-4"),
        ("--optimizer.learning-rate", "3e-4"),
        ("--optimizer.learning_rate=3e-4",),
    ):
        assert _parse(*args).learner.optimizer.learning_rate == 3e-4
    assert _parse("--network.hidden_sizes", "64", "32").learner.network.hidden_sizes == (64, 32)
    assert _parse("--replay.prioritised").replay.prioritised
    assert not _parse("--logging.no_tensorboard").logging.tensorboard


def test_pairs_of_flags_need_only_suit_together() -> None:
    config = _parse("--replay.capacity", "900", "--replay.min_size", "100")
    assert (config.replay.capacity, config.replay.min_size) == (900, 100)


def test_yaml_overrides_pass_the_same_checks(tmp_path: Path) -> None:
    path = tmp_path / "overrides.yaml"
    path.write_text(
        "replay: {capacity: 900, prioritised: true}\n"
        "optimizer.learning_rate: 1e-2\n"
        "network: {hidden_sizes: [8, 4]}\n"
        "seed: 3\n"
    )
    # The file alone would be refused: its capacity is below the default of replay.min_size.
    config = _parse("--config", str(path), "--replay.min_size", "100", "--seed", "5")
    expected = {
        "replay": {"capacity": 900, "prioritised": True, "min_size": 100},
        "optimizer.learning_rate": 0.01,
        "network.hidden_sizes": [8, 4],
        "seed": 5,
    }
    assert config == apply_settings(ExperimentConfig(), expected)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("replay: {capacty: 9}", "replay.capacty; did you mean"),
        ("seed: [1, 2]", "seed must be an integer, found [1, 2]"),
        ("seed: much", "seed must be an integer, found 'much'"),
        ("seed:", "seed must be an integer"),
        ("- seed", "must hold settings, NAME: VALUE"),
        ("seed: [", "is not plain YAML"),
    ],
)
def test_bad_yaml_is_one_sentence(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "overrides.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as error:
        _parse("--config", str(path))
    assert told in str(error.value)
    assert "\n" not in str(error.value)


def test_whole_configuration_survives_the_command_line(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(config_to_dict(TINY)))
    assert _parse("--config", str(path)) == TINY


def test_experiments_here_come_after_the_built_in_ones(workplace: Path) -> None:
    found = experiments.find_experiments()
    assert found["tiny"] == Path("experiments/tiny.py")
    assert {"cartpole", "catch"} <= set(found)
    assert experiments.load_experiment("tiny") == TINY
    assert experiments.load_experiment("experiments/tiny.py") == TINY
    (workplace / "experiments" / "catch.py").write_text(TINY_SCRIPT)
    assert experiments.load_experiment("catch") != TINY
    assert experiments.load_experiment("experiments/catch.py") == TINY


def test_list_names_experiments_and_environments(
    workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["list"]) == 0
    listed = capsys.readouterr().out
    assert "A tiny run." in listed
    assert "\n  catch\n" in listed
    assert "\n  tic_tac_toe\n" in listed


def test_resume_takes_no_settings(finished_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--resume", str(finished_run), "--seed", "1"]) == 2
    assert "with the settings it has" in capsys.readouterr().err
    assert main(["train", "--resume", str(finished_run), "--out", "elsewhere"]) == 2
    assert "where --out has no meaning" in capsys.readouterr().err
    assert main(["train", "cartpole", "--resume", str(finished_run)]) == 2
    assert "is a run of tiny, not of cartpole" in capsys.readouterr().err
    assert main(["train", f"--resume={finished_run}"]) == 0
    assert "is finished: score" in capsys.readouterr().out


def test_evaluate_prints_one_object(finished_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", str(finished_run), "--episodes", "7", "--json"]) == 0
    told = capsys.readouterr()
    assert told.err == f"evaluating {finished_run}: 7 greedy episodes of catch\n"
    result = json.loads(told.out)
    assert {"score_mean", "score_std", "score_min", "score_max"} < set(result)
    assert (result["episodes"], result["env_steps"]) == (7, 512)
    assert main(["evaluate", str(finished_run), "--episodes", "7"]) == 0
    assert f"score {result['score_mean']:.4g} ± " in capsys.readouterr().out


def test_evaluate_searches_as_long_as_it_is_told(
    finished_run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from muzero_jax.training import evaluation

    searched: list[int] = []

    class Noted(evaluation.Evaluate):
        def __init__(self, env: object, agent: Agent, *args: object, **named: object) -> None:
            assert agent.network_work is not None
            searched.append(agent.network_work.num_simulations)
            super().__init__(env, agent, *args, **named)

    monkeypatch.setattr(evaluation, "Evaluate", Noted)
    assert main(["evaluate", str(finished_run), "--search.num_simulations", "5"]) == 0
    assert main(["evaluate", str(finished_run)]) == 0
    assert searched == [5, TINY.learner.search.num_simulations]
    assert main(["evaluate", str(finished_run), "--search.num_simulations", "0"]) == 2
    assert "must be between 1 and 100,000, found 0" in capsys.readouterr().err


def test_plot_writes_the_file(finished_run: Path, tmp_path: Path) -> None:
    out = tmp_path / "curves.png"
    assert main(["plot", str(finished_run), "--out", str(out)]) == 0
    assert out.read_bytes().startswith(b"\x89PNG")


def test_play_hands_its_options_on(
    finished_run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from muzero_jax.viewing import play

    seen: dict[str, object] = {}
    monkeypatch.setattr(play, "play_run", lambda run_dir, **options: seen.update(options))
    assert (
        main(["play", str(finished_run), "--episodes", "2", "--gif", "a.gif", "--seed", "3"]) == 0
    )
    assert capsys.readouterr().err == f"playing {finished_run}: 2 greedy episodes of catch\n"
    assert seen == {
        "episodes": 2,
        "gif_path": Path("a.gif"),
        "seed": 3,
        "checkpoint": "",
        "changes": {},
    }


def test_script_trains_by_itself(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import runpy

    from muzero_jax.runs import runner

    trained: list[tuple[ExperimentConfig, Path]] = []
    monkeypatch.setattr(runner, "train", lambda config, out, *_: trained.append((config, out)))
    monkeypatch.setattr(sys, "argv", ["experiments/tiny.py", "--out", "run", "--seed", "1"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path("experiments/tiny.py", run_name="__main__")
    assert ended.value.code == 0
    assert trained == [(tiny(seed=1), Path("run"))]


def test_a_sentence_is_whole_in_a_narrow_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    assert main(["train", "catch", "--replay.capacity", "1e11"]) == 2
    told = capsys.readouterr().err
    assert told == ("error: replay.capacity must be at most 2,147,483,647, found 100000000000.\n")
