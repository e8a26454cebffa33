"""Figures of measured searches: how the time grows, and where it goes."""

import csv
import itertools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from muzero_jax.reports.extras import import_extra

Row = Mapping[str, str]

_COLOURS = {"cpp": "#009E73", "linear": "#0072B2", "mctx": "#D55E00"}
# Columns that belong to one figure: what is searched, and how.
SETTING = ("num_actions", "embedding", "prior", "policy")


def plot_search_costs(table: Path, out: Path) -> list[Path]:
    """Draws `search_costs.csv` to PNGs, two for each network, prior and policy.

    Args:
      table: the CSV.
      out: folder of the figures; it is made.

    Returns:
      The figures: milliseconds against simulations, a line a batch size and engine; and a map of
      the cost over batch size and simulations, in units of the network alone.

    Raises:
      MissingExtraError: matplotlib is not installed.
    """
    with table.open(newline="", encoding="utf-8") as file:
        rows = sorted(csv.DictReader(file), key=_setting)
    out.mkdir(parents=True, exist_ok=True)
    paths = []
    for setting, group in itertools.groupby(rows, key=_setting):
        members = list(group)
        name = "{3}_{0}actions_{1}wide_{2}".format(*setting)
        title = "{3} policy, {0} actions, embedding {1}, {2}".format(*setting)
        title = title.replace("embedding 0, ", "run ")
        for kind, draw in (("scaling", _draw_scaling), ("map", _draw_maps)):
            path = out / f"search_{kind}_{name}.png"
            _figure(title, members, draw).savefig(path, format="png", dpi=150)
            paths.append(path)
    return paths


def _setting(row: Row) -> tuple[str, ...]:
    return tuple(row[name] for name in SETTING)


def _figure(title: str, rows: Sequence[Row], draw: Callable[[Any, Sequence[Row]], None]) -> Any:
    figures = import_extra("matplotlib.figure", purpose="Figures", package="matplotlib")
    figure = figures.Figure(figsize=(8.4, 4.6), layout="constrained", facecolor="white")
    figure.suptitle(title, fontsize=11)
    draw(figure, rows)
    return figure


def _draw_scaling(figure: Any, rows: Sequence[Row]) -> None:
    axes = figure.subplots()
    batches = sorted({int(row["batch"]) for row in rows})
    for (engine, batch), group in itertools.groupby(
        sorted(rows, key=_line), key=lambda row: (row["engine"], int(row["batch"]))
    ):
        points = [(int(row["num_simulations"]), float(row["milliseconds"])) for row in group]
        width = 1.0 + 1.6 * batches.index(batch) / max(len(batches) - 1, 1)
        axes.plot(
            *zip(*points, strict=True),
            marker="o",
            markersize=4,
            linewidth=width,
            color=_COLOURS.get(engine, "#444444"),
            label=f"{engine}, {batch} roots",
        )
    axes.set(xscale="log", yscale="log", xlabel="simulations", ylabel="milliseconds a search")
    simulations = sorted({int(row["num_simulations"]) for row in rows})
    axes.set_xticks(simulations, [str(n) for n in simulations])
    axes.minorticks_off()
    axes.grid(color="#E6E6E6")
    axes.legend(frameon=False, fontsize=8)


def _line(row: Row) -> tuple[str, int, int]:
    return row["engine"], int(row["batch"]), int(row["num_simulations"])


def _draw_maps(figure: Any, rows: Sequence[Row]) -> None:
    engines = sorted({row["engine"] for row in rows})
    batches = sorted({int(row["batch"]) for row in rows})
    simulations = sorted({int(row["num_simulations"]) for row in rows})
    worst = max(float(row["ratio_to_network_only"]) for row in rows)
    for axes, engine in zip(
        figure.subplots(1, len(engines), squeeze=False)[0], engines, strict=True
    ):
        ratios = [[float("nan")] * len(simulations) for _ in batches]
        for row in rows:
            if row["engine"] == engine:
                i = batches.index(int(row["batch"]))
                j = simulations.index(int(row["num_simulations"]))
                ratios[i][j] = float(row["ratio_to_network_only"])
                axes.text(j, i, f"{ratios[i][j]:.1f}", ha="center", va="center", fontsize=9)
        axes.imshow(
            ratios, cmap="YlOrRd", norm="log", vmin=1, vmax=max(worst * 2, 2), aspect="auto"
        )
        axes.set(xlabel="simulations", ylabel="roots")
        axes.set_title(f"{engine} over network alone", fontsize=10)
        axes.set_xticks(range(len(simulations)), [str(n) for n in simulations])
        axes.set_yticks(range(len(batches)), [str(n) for n in batches])
