"""The screen: lines from any thread, a picture, and terminals that are slow, closed or broken."""

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from pseudo_terminal import in_terminal

from muzero_jax.tracking import screen as screen_module
from muzero_jax.tracking.screen import Row, Screen

PICTURE = [Row("run", "the picture", 0.5)]


@pytest.fixture
def quick_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures are drawn here too, where there is no terminal, and almost without pause."""
    monkeypatch.setattr(screen_module, "is_live", lambda: True)
    monkeypatch.setattr(screen_module, "_SECONDS_BETWEEN_DRAWINGS", 0.01)


def test_lines_come_out_in_order_also_those_before_and_after(
    capsys: pytest.CaptureFixture[str],
) -> None:
    screen = Screen(list)
    screen.print("early")
    with screen:
        for number in range(3):
            screen.print(f"line {number}")
    screen.print("late")
    assert capsys.readouterr().out.split("\n") == [
        "early",
        "line 0",
        "line 1",
        "line 2",
        "late",
        "",
    ]


@pytest.mark.usefixtures("quick_pictures")
def test_one_thread_prints_and_draws(capsys: pytest.CaptureFixture[str]) -> None:
    drawn_by: set[str] = set()

    def rows() -> list[Row]:
        drawn_by.add(threading.current_thread().name)
        return PICTURE

    with Screen(rows) as screen:

        def write() -> None:
            for _ in range(50):
                screen.print("[/no] markup :smile:")

        writers = [threading.Thread(target=write) for _ in range(4)]
        for writer in writers:
            writer.start()
        for writer in writers:
            writer.join()
    assert drawn_by == {"screen"}
    shown = capsys.readouterr().out
    assert shown.count("[/no] markup :smile:") == 200
    assert "the picture" in shown


@pytest.mark.usefixtures("quick_pictures")
def test_a_picture_that_fails_ends_and_the_lines_go_on(capsys: pytest.CaptureFixture[str]) -> None:
    calls = 0

    def rows() -> list[Row]:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise ZeroDivisionError("division by zero")
        return PICTURE

    with Screen(rows) as screen:
        while calls < 2:
            time.sleep(0.01)
        time.sleep(0.05)
        screen.print("a line afterwards")
        time.sleep(0.05)
    shown = capsys.readouterr().out
    assert calls == 2
    assert shown.count("notice: the live display has ended (ZeroDivisionError: division by") == 1
    assert shown.endswith("a line afterwards\n")


@contextlib.contextmanager
def piped_stdout() -> Iterator[int]:
    """The reading end of a pipe that is stdout for a while."""
    reader, writer = os.pipe()
    with os.fdopen(writer, "w") as stdout, pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stdout", stdout)
        yield reader


def test_nobody_waits_for_a_terminal_that_takes_nothing() -> None:
    line = "x" * 10_000
    began = time.perf_counter()
    read = bytearray()
    with piped_stdout() as pipe, Screen(list) as screen:
        for _ in range(100):  # Many times what a pipe holds.
            screen.print(line)
        assert time.perf_counter() - began < 5.0

        def drain() -> None:
            while len(read) < 100 * 10_001:
                read.extend(os.read(pipe, 65536))

        reading = threading.Thread(target=drain, daemon=True)
        reading.start()
    reading.join(timeout=10)
    assert len(read) == 100 * 10_001


@pytest.mark.parametrize("has_picture", [False, True])
def test_where_nobody_reads_any_more_the_screen_is_silent(
    has_picture: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(screen_module, "is_live", lambda: has_picture)
    with piped_stdout() as pipe:
        os.close(pipe)
        stdout = sys.stdout
        with Screen(lambda: PICTURE) as screen:
            for _ in range(3):
                screen.print("nobody reads this")
        screen.print("nor this")
        assert sys.stdout is stdout
        print("and what others print does not fail", flush=True)


_UNREAD = """
import sys, time
from muzero_jax.tracking.screen import Row, Screen
from muzero_jax.process.signals import StopRequest
screen = Screen(lambda: [Row("run", "x" * 500)])
with StopRequest(lambda number: screen.print("heard")) as stop, screen:
    for number in range(200):
        screen.print("y" * 1000)
    while stop.signal_number is None:
        time.sleep(0.01)
    open("heard", "w").close()
    time.sleep(60)
"""


@pytest.mark.slow
def test_a_second_ctrl_c_ends_a_process_whose_terminal_nobody_reads(tmp_path: Path) -> None:
    with in_terminal("-c", _UNREAD, cwd=tmp_path) as terminal:
        assert terminal.read_until("yyy", 60)
        time.sleep(1.0)  # The terminal is full by now: the screen's thread waits in its write.
        os.kill(terminal.process.pid, signal.SIGINT)
        deadline = time.monotonic() + 10
        while not (tmp_path / "heard").exists():
            assert time.monotonic() < deadline
            time.sleep(0.01)
        os.kill(terminal.process.pid, signal.SIGINT)
        assert terminal.process.wait(timeout=10) == 130
