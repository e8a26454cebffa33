"""A grid of measured searches: kept on disk as it grows, shown, and drawn."""

import csv
import dataclasses
import io
import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import rich.box
from rich.console import Console
from rich.table import Table

from muzero_jax.config import SearchConfig
from muzero_jax.core.files import write_json, write_text
from muzero_jax.core.stages import each, stage
from muzero_jax.profiling.search_cost import (
    SearchCell,
    SearchCost,
    grid,
    growth_exponents,
    measure_search,
    toy_workload,
)
from muzero_jax.profiling.search_trace import trace_search
from muzero_jax.profiling.trained_workload import TrainedNetwork
from muzero_jax.reports.search_plots import SETTING, plot_search_costs

Measured = list[tuple[SearchCell, SearchCost]]


def measure_grid(
    out: Path,
    *,
    run_dir: Path | None,
    batch: Sequence[int],
    num_simulations: Sequence[int],
    num_actions: Sequence[int],
    embedding: Sequence[int],
    prior: Sequence[str],
    policy: Sequence[str],
    engines: Sequence[str],
    num_repeats: int,
    with_trace: bool,
) -> Measured:
    """Measures all combinations that `out` does not hold yet, and writes them there.

    Args:
      out: folder of `search_costs.csv`, which grows cell by cell, and of what is made from it.
      run_dir: search a trained run's network; the toy network where None.
      batch: numbers of roots.
      num_simulations: simulations a search.
      num_actions: actions of the toy network.
      embedding: sizes of the toy network's embedding.
      prior: priors of the toy network.
      policy: policies of the search.
      engines: timed in turns.
      num_repeats: timed runs of each program.
      with_trace: also write a profile of one search of the last cell.

    Raises:
      RunError: the run cannot be read.
      MissingExtraError: matplotlib is not installed; everything else is written by then.
    """
    network = TrainedNetwork(run_dir) if run_dir else None
    if network:
        num_actions, embedding, prior = [network.num_actions], [0], [network.name]
    cells = grid(batch, num_simulations, num_actions, embedding, prior, policy)
    table = _Table(out / "search_costs.csv")
    console = Console()
    missing = [cell for cell in cells if not table.holds(cell, engines)]
    for cell in each(missing, "grid cells"):
        stage(str(cell))
        workload = network.workload(cell.batch) if network else toy_workload(cell)
        config = network.search if network else None
        table.add(cell, measure_search(cell, workload, engines, num_repeats, config))
    measured = table.of(cells, engines)
    exponents = _exponents(measured)
    write_json(out / "search_costs.json", _as_json(measured, exponents))
    _show(console, measured, exponents)
    if with_trace:
        workload = network.workload(cells[-1].batch) if network else toy_workload(cells[-1])
        config = network.search if network else SearchConfig(min_qvalue_range=1e-8)
        trace_search(cells[-1], workload, config, out / "trace")
        console.print(f"trace: tensorboard --logdir {out / 'trace'}", highlight=False)
    for path in plot_search_costs(out / "search_costs.csv", out):
        console.print(f"figure: {path}", highlight=False, soft_wrap=True)
    return measured


class _Table:
    """`search_costs.csv`: a line a cell and engine, whole lines only."""

    def __init__(self, path: Path):
        self.path = path
        self.names = [f.name for kind in (SearchCell, SearchCost) for f in dataclasses.fields(kind)]
        path.parent.mkdir(parents=True, exist_ok=True)
        self.lines = _read_lines(path, self.names)

    def holds(self, cell: SearchCell, engines: Sequence[str]) -> bool:
        known = {cost.engine for other, cost in self.lines if other == cell}
        return known.issuperset(engines)

    def add(self, cell: SearchCell, costs: Sequence[SearchCost]) -> None:
        fresh = {cost.engine for cost in costs}
        self.lines = [x for x in self.lines if x[0] != cell or x[1].engine not in fresh]
        self.lines += [(cell, cost) for cost in costs]
        text = io.StringIO()
        writer = csv.DictWriter(text, self.names)
        writer.writeheader()
        for line in self.lines:
            writer.writerow({k: v for part in line for k, v in dataclasses.asdict(part).items()})
        write_text(self.path, text.getvalue())

    def of(self, cells: Sequence[SearchCell], engines: Sequence[str]) -> Measured:
        return [x for x in self.lines if x[0] in cells and x[1].engine in engines]


def _read_lines(path: Path, names: list[str]) -> Measured:
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    # A table of another version is begun again.
    if rows and list(rows[0]) != names:
        return []
    return [(_parse(SearchCell, row), _parse(SearchCost, row)) for row in rows]


def _parse(kind: Any, row: dict[str, str]) -> Any:
    types: dict[str, Any] = {field.name: field.type for field in dataclasses.fields(kind)}
    return kind(**{name: read(row[name]) for name, read in types.items()})


def _exponents(measured: Measured) -> list[dict[str, Any]]:
    found = []
    for axis in ("num_simulations", "batch"):
        for cell, engine, exponent in growth_exponents(measured, axis):
            others = {k: v for k, v in dataclasses.asdict(cell).items() if k != axis}
            found.append({"axis": axis, **others, "engine": engine, "exponent": exponent})
    return found


def _as_json(measured: Measured, exponents: list[dict[str, Any]]) -> dict[str, Any]:
    cells = [{**dataclasses.asdict(cell), **dataclasses.asdict(cost)} for cell, cost in measured]
    device = jax.devices()[0].device_kind
    return {"device": device, "jax": jax.__version__, "cells": cells, "exponents": exponents}


_Columns = dict[str, Callable[[SearchCost], str]]

_TIMES: _Columns = {
    "ms": lambda c: f"{c.milliseconds:.2f}",
    "±": lambda c: f"{c.spread:.0%}",
    "µs/sim/root": lambda c: f"{c.microseconds_per_simulation_per_root:.2f}",
    "x network": lambda c: f"{c.ratio_to_network_only:.1f}",
    "x mctx": lambda c: f"{c.speedup_vs_mctx:.1f}" if c.speedup_vs_mctx else "",
    "tree": lambda c: f"{c.tree_share:.0%}",
    "depth": lambda c: f"{c.depth_mean:.1f}/{c.depth_max:.1f}",
}

# XLA's analysis counts the body of a loop once.
_PROGRAMS: _Columns = {
    "s to compile": lambda c: f"{c.compile_seconds:.1f}",
    "peak MB": lambda c: f"{c.peak_bytes / 1e6:.2f}",
    "Mflop": lambda c: f"{c.flops / 1e6:.2f}",
    "MB moved": lambda c: f"{c.bytes_accessed / 1e6:.2f}",
}


def _show(console: Console, measured: Measured, exponents: list[dict[str, Any]]) -> None:
    """Tables for each network, prior and policy, and how the time grows in it."""
    for setting, items in itertools.groupby(sorted(measured, key=_order), key=_setting):
        costs = list(items)
        for title, columns in ((_title(setting), _TIMES), ("the compiled programs", _PROGRAMS)):
            table = Table(title=title, title_justify="left", box=rich.box.SIMPLE)
            table.collapse_padding, table.pad_edge = True, False
            for name in ("roots", "sims", "engine", *columns):
                table.add_column(name, justify="right", no_wrap=True)
            for cell, cost in costs:
                shown = [text(cost) for text in columns.values()]
                table.add_row(str(cell.batch), str(cell.num_simulations), cost.engine, *shown)
            console.print(table)
        for line in exponents:
            if tuple(line[name] for name in SETTING) == setting:
                others = ("num_simulations", "batch")
                fixed = ", ".join(f"{name} {line[name]}" for name in others if name in line)
                growth = f"{line['axis']}^{line['exponent']:.2f}"
                console.print(f"{line['engine']}: time ~ {growth} ({fixed})", highlight=False)


def _setting(item: tuple[SearchCell, SearchCost]) -> tuple[Any, ...]:
    return tuple(getattr(item[0], name) for name in SETTING)


def _order(item: tuple[SearchCell, SearchCost]) -> tuple[Any, ...]:
    return *_setting(item), item[0].batch, item[0].num_simulations, item[1].engine


def _title(setting: tuple[Any, ...]) -> str:
    num_actions, embedding, prior, policy = setting
    network = f"toy network of width {embedding}, {prior} prior" if embedding else f"run {prior}"
    return f"{policy} policy, {num_actions} actions, {network}"
