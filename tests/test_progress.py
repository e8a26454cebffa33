"""What a run shows."""

import math

import pytest
from rich.console import Console
from tiny_run import TINY

from muzero_jax.tracking import progress
from muzero_jax.tracking.screen import picture

METRICS = {
    "env_steps": 128,
    "time/train_seconds": 60.0,
    "time/compile_seconds": 8.25,
    "time/env_steps_per_second": 4200.0,
    "time/updates_per_second": 130.0,
    "episode/return": 0.5,
    "episode/length": 9.0,
    "search/depth_mean": 2.25,
    "loss/value": 0.75,
    "loss/total": 1.5,
    "loss/reward": math.nan,
}
EVALUATION = {
    "env_steps": 128,
    "train_seconds": 60.0,
    "score_mean": 0.95,
    "score_std": 0.125,
    "episodes": 32,
}


def test_elsewhere_than_in_a_terminal_there_is_a_line_an_evaluation(
    capsys: pytest.CaptureFixture[str],
) -> None:
    display = progress.make_display(TINY, 512, "title")
    with display:
        display.activity("compiling")
        display.metrics(METRICS)
        display.evaluation(EVALUATION)
    assert capsys.readouterr().out == ("128 steps, 60.0 s: score 0.95 ± 0.125 over 32 episodes\n")


def test_live_display_shows_speed_times_losses_and_score() -> None:
    display = progress._RunDisplay("tiny", 512, "title")
    console = Console(width=100, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(picture(display.rows()))
    assert "tiny" in console.export_text()
    display.activity("training")
    display.metrics(METRICS)
    display.evaluation(EVALUATION)
    console.print(picture(display.rows()))
    shown = console.export_text()
    for text in (
        "128/512 steps",
        "4,200 steps/s, 130 updates/s",
        "1:00 trained, 3:00 left, 8.2 s to compile",
        "return 0.5, length 9, search depth 2.2",
        "total 1.500  value 0.750",
        "score 0.95 ± 0.125 over 32 episodes, after 128 steps",
        "training",
    ):
        assert text in shown
    assert "nan" not in shown
    console.file.close()


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0:00"), (59.6, "1:00"), (61.0, "1:01"), (3725.0, "1:02:05")]
)
def test_clock(seconds: float, text: str) -> None:
    assert progress.clock(seconds) == text
