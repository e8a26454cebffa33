"""Figures of measured searches: how the time grows, and where it goes."""

from pathlib import Path
from typing import Any

import numpy as np

from muzero_jax.reports.extras import import_extra
from muzero_jax.reports.plots import GRID, new_figure, save_figure

_COLOURS = {"cpp": "#009E73", "linear": "#0072B2", "mctx": "#D55E00"}
SETTING = ("num_actions", "embedding", "prior", "policy")
"""The columns whose values choose the figure: what is searched, and how."""


def plot_search_costs(table: Path, out: Path) -> list[Path]:
    """Draws `search_costs.csv` to PNGs, two for each network, prior and policy.

    Args:
      table: the CSV.
      out: folder of the figures; it is made where it is missing.

    Returns:
      The figures: milliseconds against simulations, with a line for each batch size and engine; and
      a map of the cost over batch size and simulations, in units of the network alone.

    Raises:
      MissingExtraError: matplotlib or pandas is not installed.
    """
    pandas = import_extra("pandas", purpose="Figures", package="pandas")
    paths = []
    for setting, rows in pandas.read_csv(table).groupby(list(SETTING)):
        name = "{3}_{0}actions_{1}wide_{2}".format(*setting)
        title = "{3} policy, {0} actions, embedding {1}, {2}".format(*setting)
        title = title.replace("embedding 0, ", "run ")
        for kind, draw in (("scaling", _draw_scaling), ("map", _draw_maps)):
            paths.append(out / f"search_{kind}_{name}.png")
            figure = new_figure((8.4, 4.6))
            figure.suptitle(title, fontsize=11)
            draw(figure, rows)
            save_figure(figure, paths[-1])
    return paths


def _draw_scaling(figure: Any, rows: Any) -> None:
    axes = figure.subplots()
    batches = sorted(rows.batch.unique())
    for (engine, batch), line in rows.groupby(["engine", "batch"]):
        points = line.sort_values("num_simulations")
        width = 1.0 + 1.6 * batches.index(batch) / max(len(batches) - 1, 1)
        style = {"color": _COLOURS.get(engine, "#444444"), "linewidth": width, "markersize": 4}
        label = f"{engine}, {batch} roots"
        axes.plot(points.num_simulations, points.milliseconds, "o-", label=label, **style)
    axes.set(xscale="log", yscale="log", xlabel="simulations", ylabel="milliseconds a search")
    simulations = sorted(rows.num_simulations.unique())
    axes.set_xticks(simulations, map(str, simulations))
    axes.minorticks_off()
    axes.grid(color=GRID)
    axes.legend(frameon=False, fontsize=8)


def _draw_maps(figure: Any, rows: Any) -> None:
    ratios = rows.pivot_table("ratio_to_network_only", ["engine", "batch"], "num_simulations")
    scale = {"norm": "log", "vmin": 1, "vmax": max(2 * rows.ratio_to_network_only.max(), 2)}
    engines = sorted(rows.engine.unique())
    panels = figure.subplots(1, len(engines), squeeze=False)[0]
    for axes, engine in zip(panels, engines, strict=True):
        found = ratios.loc[engine].reindex(sorted(rows.batch.unique()))
        axes.imshow(found, cmap="YlOrRd", aspect="auto", **scale)
        for (row, column), ratio in np.ndenumerate(found):
            if np.isfinite(ratio):
                axes.text(column, row, f"{ratio:.1f}", ha="center", va="center", fontsize=9)
        axes.set(xlabel="simulations", ylabel="roots")
        axes.set_title(f"{engine} over network alone", fontsize=10)
        axes.set_xticks(range(found.shape[1]), map(str, found.columns))
        axes.set_yticks(range(found.shape[0]), map(str, found.index))
