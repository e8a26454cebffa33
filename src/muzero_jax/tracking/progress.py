"""Shows a run while it goes: a live display in a terminal, a few plain lines elsewhere."""

import math
import time
from collections.abc import Iterator, Mapping
from typing import Self

from muzero_jax.config import ExperimentConfig
from muzero_jax.core.stages import clock
from muzero_jax.tracking.screen import Row, Screen


class Listener:
    """Hears what happens in a run, and ignores it unless a method is overridden."""

    def activity(self, text: str) -> None:
        """Hears what the run does now, for example `compiling`."""

    def metrics(self, row: Mapping[str, float]) -> None:
        """Hears the counters and metrics of a chunk."""

    def evaluation(self, row: Mapping[str, float]) -> None:
        """Hears the row of an evaluation."""

    def note(self, text: str) -> None:
        """Hears a line that stays visible."""


def make_display(
    config: ExperimentConfig, total_env_steps: int, title: str, is_silent: bool = False
) -> "Display":
    """A live display where a terminal can show it, else plain lines.

    Args:
      config: settings of the run.
      total_env_steps: environment steps at which the run is finished.
      title: line above the live display that names the run.
      is_silent: whether nothing is shown at all.
    """
    return Display() if is_silent else _RunDisplay(config.name, total_env_steps, title)


class Display(Listener):
    """A listener that is a context manager; this one shows nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        return None


class _RunDisplay(Display):
    """Shows notes, and in a terminal a bar with the newest numbers; elsewhere each evaluation.

    The run's thread only replaces attributes, which the screen's thread reads when it draws.
    """

    def __init__(self, name: str, total_env_steps: int, title: str):
        self._name, self._total, self._title = name, total_env_steps, title
        self._screen = Screen(self.rows)
        self._activity, self._since = "", 0.0
        self._metrics: Mapping[str, float] = {}
        self._evaluation: Mapping[str, float] = {}

    def __enter__(self) -> Self:
        self._screen.__enter__()
        if self._screen.has_picture:
            self.note(self._title)
        return self

    def __exit__(self, *error: object) -> None:
        self._activity = ""
        self._screen.__exit__(*error)

    def activity(self, text: str) -> None:
        self._since, self._activity = time.perf_counter(), text

    def metrics(self, row: Mapping[str, float]) -> None:
        self._metrics = {name: value for name, value in row.items() if math.isfinite(value)}

    def evaluation(self, row: Mapping[str, float]) -> None:
        self._evaluation = row
        if not self._screen.has_picture:
            self.note(f"{row['env_steps']:,.0f} steps, {row['train_seconds']:.1f} s: {_score(row)}")

    def note(self, text: str) -> None:
        self._screen.print(text)

    def rows(self) -> list[Row]:
        """The rows of the picture."""
        row, evaluation = self._metrics, self._evaluation
        steps = int(row.get("env_steps", 0))
        rows = [Row(self._name, f"{steps:,}/{self._total:,} steps", steps / self._total)]
        rows += _numbers(row, self._total) if row else []
        if evaluation:
            after = f"after {evaluation['env_steps']:,.0f} steps"
            rows.append(Row("evaluation", f"{_score(evaluation)}, {after}"))
        if self._activity:
            seconds = time.perf_counter() - self._since
            patience = f", {seconds:.0f} s" if seconds >= 2 else ""
            rows.append(Row("now", f"{self._activity}{patience}"))
        return rows


def _numbers(row: Mapping[str, float], total_env_steps: int) -> Iterator[Row]:
    """The newest numbers of a run, from the metrics of a chunk."""
    steps, updates = row["time/env_steps_per_second"], row["time/updates_per_second"]
    yield Row("speed", f"{steps:,.0f} steps/s, {updates:,.0f} updates/s")
    trained, compiled = row["time/train_seconds"], row["time/compile_seconds"]
    left = trained / row["env_steps"] * (total_env_steps - row["env_steps"])
    times = f"{clock(trained)} trained, {clock(left)} left, {compiled:.1f} s to compile"
    yield Row("time", times)
    if "episode/return" in row:
        depth = row.get("search/depth_mean")
        searched = "" if depth is None else f", search depth {depth:.1f}"
        episodes = f"return {row['episode/return']:.4g}, length {row['episode/length']:.4g}"
        yield Row("training", f"{episodes}{searched}")
    names = sorted(name for name in row if name.startswith("loss/"))
    names.sort(key=lambda name: name != "loss/total")
    if names:
        losses = (f"{name.removeprefix('loss/')} {row[name]:.3f}" for name in names)
        yield Row("losses", "  ".join(losses))


def _score(row: Mapping[str, float]) -> str:
    mean, std = row["score_mean"], row["score_std"]
    return f"score {mean:.4g} ± {std:.3g} over {row['episodes']:.0f} episodes"
