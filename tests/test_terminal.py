"""Standard output in any encoding, closed, or read by nobody; signals of a terminal that closes."""

import io
import json
import os
import pty
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import pytest

from muzero_jax.cli import main
from muzero_jax.core import terminal
from muzero_jax.core.terminal import UNREAD_EXIT_CODE, run_program
from muzero_jax.process.signals import StopRequest

TEXT = "score 0.5 ± 0.1, 3 µs, → ╭─╮ │ 中\n"
IN_ASCII = "score 0.5 +- 0.1, 3 us, > +-+ | \\u4e2d\n"


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """The two ends of a pipe; the test closes the reading end."""
    reader, writer = os.pipe()
    yield reader, writer
    os.close(writer)


def _printed_to(
    writer: int, monkeypatch: pytest.MonkeyPatch, encoding: str = "utf-8", errors: str = "strict"
) -> io.TextIOWrapper:
    """Makes a stream as Python makes them the standard output."""
    raw = io.FileIO(writer, "w", closefd=False)
    stream = io.TextIOWrapper(io.BufferedWriter(raw), encoding=encoding, errors=errors)
    monkeypatch.setattr(sys, "stdout", stream)
    return stream


def _print(text: str, times: int = 1) -> Callable[[], int]:
    def work() -> int:
        for _ in range(times):
            print(text, end="", flush=True)
        return 0

    return work


@pytest.mark.parametrize(
    ("encoding", "expected"),
    [
        ("utf-8", TEXT.encode()),
        ("ascii", IN_ASCII.encode()),
        ("latin-1", "score 0.5 ± 0.1, 3 µs, > +-+ | \\u4e2d\n".encode("latin-1")),
        ("cp1252", "score 0.5 ± 0.1, 3 µs, > +-+ | \\u4e2d\n".encode("cp1252")),
        ("utf-16-le", TEXT.encode("utf-16-le")),
        ("cp037", IN_ASCII.replace("+- 0", "± 0").replace("us", "µs").encode("cp037")),
    ],
)
def test_every_encoding_can_be_printed_in(
    pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch, encoding: str, expected: bytes
) -> None:
    before = _printed_to(pipe[1], monkeypatch, encoding)
    assert run_program(_print(TEXT)) == 0
    assert sys.stdout is before
    assert os.read(pipe[0], 1000) == expected
    os.close(pipe[0])


def test_a_name_that_is_no_text_is_printed_byte_by_byte(
    pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    _printed_to(pipe[1], monkeypatch)
    assert run_program(_print(os.fsdecode(b"runs/\xff\xfe ") + "± a")) == 0
    assert os.read(pipe[0], 1000) == b"runs/\xff\xfe " + "± a".encode()
    _printed_to(pipe[1], monkeypatch, "utf-16-le")
    assert run_program(_print(os.fsdecode(b"\xff"))) == 0
    assert os.read(pipe[0], 1000) == "\\udcff".encode("utf-16-le")
    os.close(pipe[0])


def test_what_the_user_chose_for_other_characters_stays(
    pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    _printed_to(pipe[1], monkeypatch, "ascii", errors="replace")
    assert run_program(_print("±")) == 0
    assert os.read(pipe[0], 1000) == b"?"
    os.close(pipe[0])


def test_output_that_nobody_reads_does_not_disturb_who_works(
    pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = _printed_to(pipe[1], monkeypatch)
    os.close(pipe[0])
    assert run_program(_print(TEXT, times=3)) == 0
    before.flush()  # The interpreter does this when it ends.


def test_output_that_nobody_reads_ends_who_shows_something(
    pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch, capfd: Any
) -> None:
    before = _printed_to(pipe[1], monkeypatch)
    os.close(pipe[0])
    heard = []

    def work() -> int:
        # An error in a thread would be lost.
        thread = threading.Thread(target=_print(TEXT))
        thread.start()
        thread.join()
        heard.append("thread")
        print(TEXT, flush=True)
        heard.append("more")
        return 0

    assert run_program(work, needs_reader=True) == UNREAD_EXIT_CODE == 128 + signal.SIGPIPE
    assert heard == ["thread"]
    # argparse and tyro exit like this after they have shown their help.
    assert run_program(_leave, needs_reader=True) == UNREAD_EXIT_CODE
    before.flush()
    assert capfd.readouterr().err == ""


def _leave() -> int:
    print(TEXT)
    raise SystemExit(0)


@pytest.mark.parametrize(
    ("needs_reader", "exit_code", "word"), [(True, 1, "error"), (False, 0, "notice")]
)
def test_output_that_cannot_be_written_is_told_of(
    monkeypatch: pytest.MonkeyPatch, capsys: Any, needs_reader: bool, exit_code: int, word: str
) -> None:
    descriptor = os.open(os.devnull, os.O_RDONLY)
    _printed_to(descriptor, monkeypatch)
    assert run_program(_print(TEXT), needs_reader) == exit_code
    told = f"{word}: the output cannot be written: Bad file descriptor.\n"
    assert capsys.readouterr().err == told
    os.close(descriptor)


def test_a_descriptor_that_does_not_wait_is_waited_for(
    pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    os.set_blocking(pipe[1], False)
    _printed_to(pipe[1], monkeypatch)
    received = []

    def read() -> None:
        while sum(map(len, received)) < 300_000:
            received.append(os.read(pipe[0], 65_536))

    thread = threading.Timer(0.2, read)
    thread.start()
    assert run_program(_print("x" * 300_000)) == 0
    thread.join()
    os.close(pipe[0])
    assert b"".join(received) == b"x" * 300_000


def test_streams_of_others_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    notebook = io.StringIO()
    monkeypatch.setattr(sys, "stdout", notebook)
    assert run_program(_print(TEXT), needs_reader=True) == 0
    assert notebook.getvalue() == TEXT


def test_a_live_display_needs_a_terminal_that_can_show_it(monkeypatch: pytest.MonkeyPatch) -> None:
    class Screen(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, "stdout", Screen())
    monkeypatch.setattr(sys, "stderr", Screen())
    monkeypatch.setenv("COLUMNS", "80")
    for name, is_live in {"xterm": True, "dumb": False, "": False}.items():
        monkeypatch.setenv("TERM", name)
        assert terminal.is_live() == is_live
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "1")
    assert not terminal.is_live()
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(sys, "stdout", None)
    assert not terminal.is_live()


@pytest.mark.parametrize("columns", ["1", "3", "20"])
@pytest.mark.parametrize("args", [["train", "catch"], ["evaluate"], ["sweep"]])
def test_help_fits_a_narrow_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: Any, columns: str, args: list[str]
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    with pytest.raises(SystemExit):
        main([*args, "--help"])
    assert max(map(len, capsys.readouterr().out.splitlines())) > 20
    assert os.environ["COLUMNS"] == columns


def test_a_system_without_file_locks_is_refused_in_a_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setitem(sys.modules, "fcntl", None)
    assert main(["train", "catch"]) == 2
    told = capsys.readouterr().err
    assert told.startswith("error: muzero_jax runs on Linux and macOS") and told.count("\n") == 1


def test_a_closed_terminal_is_heard_and_under_nohup_it_is_not() -> None:
    with StopRequest(lambda number: None) as stop:
        os.kill(os.getpid(), signal.SIGHUP)
        _wait_for(lambda: stop.signal_number is not None)
        assert stop.signal_number == signal.SIGHUP
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with StopRequest(lambda number: None) as stop:
            os.kill(os.getpid(), signal.SIGHUP)
            os.kill(os.getpid(), signal.SIGTERM)
            _wait_for(lambda: stop.signal_number is not None)
            assert stop.signal_number == signal.SIGTERM
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def _wait_for(condition: Callable[[], bool]) -> None:
    waited = threading.Event()
    for _ in range(500):
        if condition():
            return
        waited.wait(0.01)
    raise AssertionError("nothing was heard")


# Makes a terminal that of the session, so that the session hears when it is closed.
_TAKE_TERMINAL = (
    "import fcntl, os, sys, termios\n"
    "fcntl.ioctl(0, termios.TIOCSCTTY, 0)\n"
    "os.execv(sys.executable, [sys.executable, *sys.argv[1:]])\n"
)


def _muzero(*args: str, before: str = "", **options: Any) -> subprocess.Popen[str]:
    """Starts the command, which finds the programs that this process has compiled."""
    cache = str(jax.config.values["jax_compilation_cache_dir"])
    paths = [str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]
    environment = {"MUZERO_CACHE_DIR": cache, "PYTHONPATH": os.pathsep.join(paths)}
    command = [sys.executable, *(["-c", before] if before else []), "-m", "muzero_jax", *args]
    more = options.pop("env", {})
    environment = {**os.environ, **environment, **more}
    return subprocess.Popen(command, env=environment, encoding="utf-8", **options)


@pytest.mark.slow
@pytest.mark.parametrize("args", [["list"], ["--help"], ["train", "catch", "--help"]])
def test_a_closed_pipe_ends_a_command_that_shows_something_quietly(args: list[str]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    process = _muzero(*args, stdout=writer, stderr=subprocess.PIPE)
    os.close(writer)
    assert process.communicate(timeout=200)[1] == ""
    assert process.returncode == 141


@pytest.mark.slow
def test_closed_streams_are_no_files_of_the_program() -> None:
    program = (
        "import os, sys\n"
        "from muzero_jax.cli import main\n"
        "from muzero_jax.core.terminal import run_program\n"
        "def work():\n"
        "    print('shown'); print('told', file=sys.stderr)\n"
        "    number = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)\n"
        "    return 0 if number > 2 else 1\n"
        "sys.exit(run_program(work))\n"
    )
    command = f'"{sys.executable}" -c "$0" /dev/null <&- >&- 2>&-'
    assert subprocess.run(["sh", "-c", command, program], check=False).returncode == 0


@pytest.fixture
def experiment(tmp_path: Path) -> str:
    """A script of the tiny experiment."""
    script = tmp_path / "tiny.py"
    script.write_text("from tiny_run import TINY as CONFIG\n", encoding="utf-8")
    return str(script)


@pytest.mark.slow
def test_training_goes_on_where_nobody_reads_and_in_any_encoding(
    tmp_path: Path, experiment: str
) -> None:
    run = tmp_path / "run"
    process = _muzero(
        *("train", experiment, "--out", str(run)),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={"PYTHONIOENCODING": "ascii"},
    )
    assert process.stdout is not None
    assert " +- " in process.stdout.readline()
    process.stdout.close()
    assert process.wait(timeout=300) == 0
    assert json.loads((run / "result.json").read_text(encoding="utf-8"))["env_steps"] == 512


@pytest.mark.slow
def test_a_terminal_that_closes_saves_the_run(tmp_path: Path, experiment: str) -> None:
    run = tmp_path / "run"
    screen, terminal_end = pty.openpty()
    process = _muzero(
        *("train", experiment, "--out", str(run)),
        *("--training.num_env_steps", "1000000", "--logging.checkpoint_interval", "1000000"),
        stdin=terminal_end,
        stdout=terminal_end,
        stderr=terminal_end,
        start_new_session=True,
        before=_TAKE_TERMINAL,
        env={"TERM": "xterm", "COLUMNS": "80"},
    )
    os.close(terminal_end)
    shown = b""
    try:
        while b"episodes, after" not in shown:
            shown += os.read(screen, 65_536)
        os.close(screen)
        assert process.wait(timeout=120) == 128 + signal.SIGHUP
    finally:
        process.kill()
        process.wait()
    (saved,) = (run / "checkpoints").iterdir()
    assert int(saved.name) >= 128
