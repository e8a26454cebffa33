"""Every mistake of `bad_inputs` is one sentence with exit code 2, and leaves nothing behind."""

import sys
from pathlib import Path

import pytest
from bad_inputs import BAD_INPUTS, BadInput, arguments, faults_of, left_behind, run_alone

from muzero_jax.cli import main


def test_there_are_a_hundred_of_them_over_all_commands() -> None:
    commands = {bad.args.split(" ")[0] for bad in BAD_INPUTS}
    assert len(BAD_INPUTS) >= 100
    assert commands >= {"train", "evaluate", "play", "inspect", "plot", "sweep", "report"}
    assert commands >= {"profile", "oracle"}


@pytest.mark.parametrize("bad", BAD_INPUTS, ids=lambda bad: bad.args[:60])
def test_a_mistake_is_one_sentence(
    bad: BadInput,
    finished_run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    sys.modules.pop("my_env", None)
    for name, text in bad.files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    before = sorted(finished_run.rglob("*"))
    code = main(arguments(bad, finished_run))
    assert not faults_of(bad, code, capsys.readouterr().err, left_behind(tmp_path, bad))
    assert sorted(finished_run.rglob("*")) == before


@pytest.mark.slow
@pytest.mark.parametrize("args", ["train catch --seed x", "evaluate nowhere", "plot nowhere"])
def test_a_mistake_that_needs_no_environment_takes_less_than_a_second(
    args: str, finished_run: Path
) -> None:
    (bad,) = [bad for bad in BAD_INPUTS if bad.args == args]
    code, error, seconds, left = run_alone(bad, finished_run)
    assert not faults_of(bad, code, error, left)
    assert seconds < 1.0
