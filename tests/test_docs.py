"""The Python blocks of the documentation are run, and its own agent through every command."""

import re
import runpy
import sys
from pathlib import Path

import pytest
from tiny_run import TINY

from muzero_jax.cli import main
from muzero_jax.core.plain_yaml import dump_yaml
from muzero_jax.settings import config_to_dict

ROOT = Path(__file__).parents[1]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])


def blocks(page: Path) -> list[str]:
    """The Python blocks of a page."""
    return re.findall(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), re.M | re.S)


ALL_BLOCKS = [(page, number) for page in PAGES for number in range(len(blocks(page)))]
# The page on sweeps runs four small runs.
MARKED_BLOCKS = [
    pytest.param(
        page,
        number,
        id=f"{page.name}-{number}",
        marks=pytest.mark.slow if page.name == "sweeps.md" else (),
    )
    for page, number in ALL_BLOCKS
]
# Small sizes, for every agent; the settings of its own have their defaults.
SMALL = [
    *("--training.num_env_steps", "512", "--training.num_envs", "4"),
    *("--training.rollout_length", "4", "--training.iterations_per_chunk", "4"),
    *("--evaluation.interval", "256", "--evaluation.num_episodes", "4"),
    *("--evaluation.final_num_episodes", "4", "--evaluation.num_envs", "4"),
    *("--logging.checkpoint_interval", "256", "--logging.no_tensorboard"),
]
SMALL_REPLAY = [
    *("--replay.capacity", "320", "--replay.min_size", "64"),
    *("--replay.batch_size", "8", "--replay.ratio", "0.5"),
]


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the files that the pages tell their readers to save."""
    for page, number in ALL_BLOCKS:
        code = blocks(page)[number]
        if named := re.match(r"# (\w+\.py)\n", code):
            (tmp_path / named.group(1)).write_text(code, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    for name in ("my_dqn", "my_net", "my_observer"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return tmp_path


@pytest.mark.parametrize(("page", "number"), MARKED_BLOCKS)
def test_every_python_block_runs(workplace: Path, page: Path, number: int) -> None:
    code = blocks(page)[number]
    if page.name == "README.md" and "train_chunk" in code:
        pytest.skip("test_readme runs it")
    file = workplace / "block.py"
    file.write_text(code, encoding="utf-8")
    runpy.run_path(str(file))


def test_an_agent_of_ones_own_goes_through_every_command(
    workplace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert len((workplace / "my_dqn.py").read_text().splitlines()) <= 80
    agent = ["--agent", "my_dqn:DQN"]
    assert main(["train", "catch", *agent, *SMALL, *SMALL_REPLAY, "--out", "dqn"]) == 0
    told = capsys.readouterr()
    assert (
        "replay, optimizer keep the values of catch; discount, epsilon: the agent's defaults"
        in told.err
    )
    sweep = ["sweep", "catch", *agent, *SMALL, *SMALL_REPLAY]
    assert main([*sweep, "--set", "epsilon=0.1,0.2", "--out", "sweep"]) == 0
    assert main(["report", "sweep"]) == 0
    assert main(["inspect", "dqn"]) == 2
    assert "does not search" in capsys.readouterr().err
    elsewhere = workplace / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    run = str(workplace / "dqn")
    assert main(["evaluate", run, "--episodes", "4"]) == 0
    assert main(["play", run]) == 0
    assert main(["diagnose", run, "--steps", "40"]) == 0
    assert "explore/distinct_observations_share" in capsys.readouterr().out
    assert main(["train", "--resume", run, "--training.num_env_steps", "1024"]) == 0
    assert "1,024 environment steps" in capsys.readouterr().out


@pytest.mark.slow
def test_a_profile_splits_the_chunk_of_an_agent_that_describes_no_network_work(
    workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    args = ["profile", "loop", "catch", "--agent", "my_dqn:DQN", *SMALL, *SMALL_REPLAY]
    assert main([*args, "--repeats", "1"]) == 0
    told = capsys.readouterr().out
    assert "acting" in told and "learning" in told and "loop efficiency" not in told


def test_a_network_of_ones_own_and_an_observer(
    workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert len((workplace / "my_net.py").read_text().splitlines()) <= 30
    tree = {**config_to_dict(TINY), "name": "catch"}
    (workplace / "tiny.yaml").write_text(dump_yaml(tree), encoding="utf-8")
    args = ["train", "catch", "--config", "tiny.yaml", "--network.kind", "my_net:Network"]
    args += ["--evaluation.observers", "my_observer:Values", "--out", "net"]
    assert main(args) == 0
    assert '"first/value_mean"' in (workplace / "net" / "metrics.jsonl").read_text()
    assert main(["evaluate", "net", "--episodes", "4", "--acting", "prior"]) == 0
    assert main(["inspect", "net", "--out", "pictures"]) == 0
    capsys.readouterr()
    assert main(["evaluate", "net", "--acting", "values"]) == 2
    assert (
        "--acting must be one of search, prior, true_model, found 'values'"
        in capsys.readouterr().err
    )
