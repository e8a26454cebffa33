"""What commands say while they work: at once, on stderr, and how much is left."""

import runpy
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from tiny_run import TINY

from muzero_jax.cli.study import run_study
from muzero_jax.core import stages
from muzero_jax.runs.run_folder import write_config

EXPERIMENTS = Path(__file__).parents[1] / "experiments"
STUDIES = sorted(p for p in EXPERIMENTS.glob("*.py") if "run_study" in p.read_text())


class _Clock:
    """A clock that a test sets."""

    def __init__(self, monkeypatch):
        self.now = 100.0
        monkeypatch.setattr(stages.time, "monotonic", lambda: self.now)


def test_a_tally_says_how_much_is_done_and_left(monkeypatch, capsys):
    clock = _Clock(monkeypatch)
    tally = stages.Tally(4, "arms", " of 3 seeds")
    tally.advance("first", 0.0)
    clock.now += 20
    tally.advance("first", 0.25)  # Compiling took most of that time.
    clock.now += 10
    tally.finish("first")
    clock.now += 5
    tally.advance("second", 0.25)  # The last line appeared five seconds ago.
    clock.now += 10
    tally.advance("third", 0.8)
    for name in ("second", "third", "fourth"):
        tally.finish(name)
    assert capsys.readouterr().err.splitlines() == [
        "4 arms of 3 seeds",
        "0/4 arms done, the furthest at 25%",
        "1/4 arms done, about 1:30 left",
        "1/4 arms done, about 0:33 left",
        "2/4 arms done, about 0:19 left",
        "3/4 arms done, about 0:15 left",
        "4/4 arms done",
    ]


def test_a_tally_counts_for_several_threads(monkeypatch):
    lines: list[str] = []

    def slow_announce(text):
        time.sleep(0.001 if len(lines) % 2 else 0.0)
        lines.append(text)

    monkeypatch.setattr(stages, "announce", slow_announce)
    tally = stages.Tally(80, "arms")
    names = [[f"{thread}.{part}" for part in range(10)] for thread in range(8)]

    def work(parts):
        for part in parts:
            tally.advance(part, 0.5)
            tally.finish(part)

    threads = [threading.Thread(target=work, args=[parts]) for parts in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [line.split(" ")[0] for line in lines[1:]] == [f"{n}/80" for n in range(1, 81)]
    assert lines[-1] == "80/80 arms done"


def test_nobody_waits_for_a_tally_whose_terminal_is_stopped(monkeypatch):
    lines: list[str] = []
    goes_on = threading.Event()

    def stopped_announce(text):
        lines.append(text)
        if text.startswith("1/"):
            goes_on.wait(20)

    monkeypatch.setattr(stages, "announce", stopped_announce)
    tally = stages.Tally(3, "arms")
    stopped = threading.Thread(target=tally.finish, args=["first"])
    stopped.start()
    while len(lines) < 2:
        time.sleep(0.001)
    others = [threading.Thread(target=tally.finish, args=[name]) for name in ("second", "third")]
    for other in others:
        other.start()
    for other in others:
        other.join(timeout=10)
        assert not other.is_alive()
    goes_on.set()
    stopped.join()
    assert [line.partition("/")[0] for line in lines[1:]] == ["1", "2", "3"]


def test_each_gives_all_items_and_says_nothing_of_none(monkeypatch, capsys):
    clock = _Clock(monkeypatch)
    for number in stages.each([1, 2], "cells"):
        clock.now += number
    assert capsys.readouterr().err == "2 cells\n1/2 cells done, about 0:01 left\n2/2 cells done\n"
    assert list(stages.each([], "cells")) == [] and not capsys.readouterr().err


def test_stages_are_for_terminals(monkeypatch, capsys):
    stages.stage("in a log")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    stages.stage("compiling")
    told = capsys.readouterr()
    assert (told.err, told.out) == ("  compiling\n", "")


def test_there_are_studies():
    assert len(STUDIES) >= 5


@pytest.mark.parametrize("script", STUDIES, ids=lambda path: path.stem)
@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--sedes", "3"], "unknown setting --sedes; did you mean --seeds?"),
        (["--seeds", "x"], "seeds must be an integer, found 'x'."),
        (["--seeds", "1"], "--seeds must be at least 2, found 1."),
    ],
)
def test_a_study_refuses_in_one_sentence(script, options, told, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [str(script), *options])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(script), run_name="__main__")
    assert ended.value.code == 2
    printed = capsys.readouterr()
    assert printed.err == f"error: {told}\n" and not printed.out


def test_a_study_says_what_it_does_before_it_begins(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["a.py", "--seeds", "3", "--out", str(tmp_path / "out")])
    before: list[str] = []
    with pytest.raises(SystemExit) as ended:
        run_study("a.py", "A study.", lambda *_: before.append(capsys.readouterr().err), 30)
    assert ended.value.code == 0
    assert before == [f"a: a study of 3 seeds; its files go to {tmp_path / 'out'}\n"]


@pytest.mark.slow
def test_commands_speak_before_they_import_jax(tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    write_config(run, TINY)
    script = str(EXPERIMENTS / "catch.py")
    inspect = ["inspect", str(run), "--step", "3"]
    search = ["profile", "search", "--out", "here"]
    diagnosing = f"diagnosing {run}: 1,000 greedy steps in each of 8 environments of catch"
    commands = {
        diagnosing: ["diagnose", str(run)],
        f"evaluating {run}: 9 greedy episodes of catch": ["evaluate", str(run), "--episodes", "9"],
        f"playing {run}: 1 greedy episode of catch": ["play", str(run)],
        f"inspecting {run}: step 3 of a greedy episode of catch": inspect,
        "timing searches with cpp, linear, mctx; the table goes to here": search,
        f"timing a training chunk of {script}, and its parts": ["profile", "loop", script],
    }
    program = (
        "import sys\n"
        "sys.modules['jax'] = None\n"
        "from muzero_jax.cli import main\n"
        f"for args in {list(commands.values())!r}:\n"
        "    try:\n"
        "        main(args)\n"
        "    except ImportError:\n"
        "        pass\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.stderr.splitlines() == list(commands)
    assert done.returncode == 0 and not done.stdout
