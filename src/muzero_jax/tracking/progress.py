"""Shows a run while it goes: a live display in a terminal, a few plain lines elsewhere."""

import math
import time
from collections.abc import Mapping
from typing import Any, Protocol, Self

from muzero_jax.config import ExperimentConfig
from muzero_jax.core.stages import clock
from muzero_jax.core.terminal import is_live
from muzero_jax.tracking.screen import Screen


class Listener(Protocol):
    """Hears what happens in a run, and ignores it unless a method is overridden."""

    def activity(self, text: str) -> None:
        """Hears what the run does now, for example `compiling`."""
        return None

    def metrics(self, row: Mapping[str, float]) -> None:
        """Hears the counters and metrics of a chunk."""
        return None

    def evaluation(self, row: Mapping[str, float]) -> None:
        """Hears the row of an evaluation."""
        return None

    def note(self, text: str) -> None:
        """Hears a line that stays visible."""
        return None


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
    if is_silent:
        return Display()
    if is_live():
        return _LiveDisplay(config.name, total_env_steps, title)
    return _PlainDisplay(Screen())


class Display(Listener):
    """A listener that is a context manager; this one shows nothing, and its subclasses do."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        return None


class _PlainDisplay(Display):
    """Shows notes, and a line for each evaluation, on a screen that is entered with the display."""

    def __init__(self, screen: Screen):
        self._screen = screen

    def __enter__(self) -> Self:
        self._screen.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._screen.__exit__(*error)

    def note(self, text: str) -> None:
        self._screen.print(text)

    def evaluation(self, row: Mapping[str, float]) -> None:
        self.note(f"{row['env_steps']:,.0f} steps, {row['train_seconds']:.1f} s: {_score(row)}")


class _LiveDisplay(_PlainDisplay):
    """Shows a bar with the run's progress, and below it the newest numbers.

    The run's thread only replaces attributes, which the screen's thread reads when it draws.
    """

    def __init__(self, name: str, total_env_steps: int, title: str):
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

        super().__init__(Screen(self._render, draws_per_second=8.0))
        columns = (
            TextColumn("{task.description}", style="bold", markup=False),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TextColumn("steps"),
        )
        self._bar = Progress(*columns, expand=True)
        self._task = self._bar.add_task(name, total=total_env_steps)
        self._total = total_env_steps
        self._activity, self._since = "", 0.0
        self._metrics: Mapping[str, float] = {}
        self._evaluation: Mapping[str, float] = {}
        self._screen.print(title, style="dim")

    def __exit__(self, *error: object) -> None:
        self._activity = ""
        super().__exit__(*error)

    def activity(self, text: str) -> None:
        self._since, self._activity = time.perf_counter(), text

    def metrics(self, row: Mapping[str, float]) -> None:
        self._metrics = {name: value for name, value in row.items() if math.isfinite(value)}

    def evaluation(self, row: Mapping[str, float]) -> None:
        self._evaluation = row

    def _render(self) -> Any:
        from rich.table import Table
        from rich.text import Text

        self._bar.update(self._task, completed=int(self._metrics.get("env_steps", 0)))
        table = Table.grid(padding=(0, 2))
        table.add_column(style="dim")
        table.add_column()
        for name, text in self._lines():
            table.add_row(name, Text(text))
        whole = Table.grid(expand=True)
        whole.add_row(self._bar)
        whole.add_row(table)
        return whole

    def _lines(self) -> list[tuple[str, str]]:
        """The rows below the bar, without those that are empty."""
        row, evaluation, lines = self._metrics, self._evaluation, []
        if row:
            lines += [("speed", _speed(row)), ("time", _times(row, self._total))]
            lines += [("training", _episodes(row)), ("losses", _losses(row))]
        if evaluation:
            after = f"after {evaluation['env_steps']:,.0f} steps"
            lines.append(("evaluation", f"{_score(evaluation)}, {after}"))
        lines.append(("now", self._now()))
        return [(name, text) for name, text in lines if text]

    def _now(self) -> str:
        """What the run does now, and for how long if it takes more than two seconds."""
        seconds = time.perf_counter() - self._since
        patience = f", {seconds:.0f} s" if seconds >= 2 else ""
        return f"{self._activity}{patience}" if self._activity else ""


def _speed(row: Mapping[str, float]) -> str:
    steps, updates = row["time/env_steps_per_second"], row["time/updates_per_second"]
    return f"{steps:,.0f} steps/s, {updates:,.0f} updates/s"


def _times(row: Mapping[str, float], total_env_steps: int) -> str:
    trained = row["time/train_seconds"]
    left = trained / row["env_steps"] * (total_env_steps - row["env_steps"])
    compiled = row["time/compile_seconds"]
    return f"{clock(trained)} trained, {clock(left)} left, {compiled:.1f} s to compile"


def _episodes(row: Mapping[str, float]) -> str:
    if "episode/return" not in row:
        return ""
    depth = f", search depth {row['search/depth_mean']:.1f}" if "search/depth_mean" in row else ""
    return f"return {row['episode/return']:.4g}, length {row['episode/length']:.4g}{depth}"


def _losses(row: Mapping[str, float]) -> str:
    names = sorted(name for name in row if name.startswith("loss/"))
    names.sort(key=lambda name: name != "loss/total")
    losses = {name.removeprefix("loss/"): row[name] for name in names}
    return "  ".join(f"{name} {value:.3f}" for name, value in losses.items())


def _score(row: Mapping[str, float]) -> str:
    mean, std = row["score_mean"], row["score_std"]
    return f"score {mean:.4g} ± {std:.3g} over {row['episodes']:.0f} episodes"
