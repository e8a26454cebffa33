"""A grid of measured searches: kept on disk as it grows, shown, and drawn."""

import csv
import dataclasses
import functools
import io
import itertools
import operator
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import rich.box
from rich.console import Console
from rich.table import Table

from muzero_jax.core.files import write_json, write_text
from muzero_jax.core.stages import each, stage
from muzero_jax.profiling.search_cost import SearchCost, grid, growth_exponents, measure_search
from muzero_jax.profiling.search_workloads import (
    SearchCell,
    Workload,
    toy_workload,
    trained_workload,
)
from muzero_jax.profiling.timing import timed_call, timed_compile
from muzero_jax.reports.search_plots import SETTING, plot_search_costs
from muzero_jax.runs.build import load_run


def measure_grid(
    out: Path,
    *,
    axes: Mapping[str, Sequence[Any]],
    engines: Sequence[str],
    run_dir: Path | None = None,
    num_repeats: int = 7,
    with_trace: bool = False,
) -> list[SearchCost]:
    """Measures all combinations that `out` does not hold yet, and writes them there.

    Args:
      out: folder of `search_costs.csv`, which grows cell by cell, and of what is made from it.
      axes: the values of each field of `SearchCell`.
      engines: timed in turns.
      run_dir: search a trained run's network; the toy network where None.
      num_repeats: timed runs of each program.
      with_trace: also write a profile of one search of the last cell.

    Raises:
      RunError: the run cannot be read.
      MissingExtraError: matplotlib is not installed; everything else is written by then.
    """
    workload_of: Callable[[SearchCell], Workload] = toy_workload
    if run_dir:
        run = load_run(run_dir)
        num_actions: Sequence[Any] = [run.env.spec.num_actions]
        axes = {**axes, "num_actions": num_actions, "embedding": [0], "prior": [run.config.name]}
        workload_of = functools.partial(trained_workload, run)
    cells = grid(**axes)
    table = _Table(out / "search_costs.csv")
    missing = [cell for cell in cells if not table.holds(cell, engines)]
    for cell in each(missing, "grid cells"):
        stage(str(cell))
        table.add(measure_search(workload_of(cell), engines, num_repeats))
    measured = [cost for cost in table.costs if cost.cell in cells and cost.engine in engines]
    exponents = growth_exponents(measured)
    write_json(out / "search_costs.json", _as_json(measured, exponents))
    console = Console()
    _show(console, measured, exponents)
    if with_trace:
        _trace(workload_of(cells[-1]), out / "trace")
        console.print(f"trace: tensorboard --logdir {out / 'trace'}", highlight=False)
    for path in plot_search_costs(out / "search_costs.csv", out):
        console.print(f"figure: {path}", highlight=False, soft_wrap=True)
    return measured


class _Table:
    """`search_costs.csv`: a line for each cost, whole lines only; another version's is replaced."""

    def __init__(self, path: Path):
        self.path, self.fields = path, dataclasses.fields(SearchCost)
        path.parent.mkdir(parents=True, exist_ok=True)
        text = path.read_text(encoding="utf-8") if path.exists() else ""
        reader = csv.DictReader(io.StringIO(text))
        is_ours = reader.fieldnames == [field.name for field in self.fields]
        self.costs = [self._parse(row) for row in reader] if is_ours else []

    def _parse(self, row: dict[str, str]) -> SearchCost:
        types: dict[str, Any] = {field.name: field.type for field in self.fields}
        return SearchCost(**{name: types[name](text) for name, text in row.items()})

    def holds(self, cell: SearchCell, engines: Sequence[str]) -> bool:
        return {cost.engine for cost in self.costs if cost.cell == cell}.issuperset(engines)

    def add(self, costs: Sequence[SearchCost]) -> None:
        fresh = {(cost.cell, cost.engine) for cost in costs}
        self.costs = [x for x in self.costs if (x.cell, x.engine) not in fresh] + list(costs)
        text = io.StringIO()
        writer = csv.DictWriter(text, [field.name for field in self.fields])
        writer.writeheader()
        writer.writerows(map(dataclasses.asdict, self.costs))
        write_text(self.path, text.getvalue())


def _trace(workload: Workload, out: Path) -> None:
    """Runs one search after a warm-up, with JAX's profiler on, for TensorBoard and XProf."""
    program, _ = timed_compile(workload.search("linear"), *workload.args)
    timed_call(program, *workload.args)
    with jax.profiler.trace(str(out)):
        timed_call(program, *workload.args)


def _as_json(measured: list[SearchCost], exponents: list[dict[str, Any]]) -> dict[str, Any]:
    cells = [dataclasses.asdict(cost) for cost in measured]
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


def _show(console: Console, measured: list[SearchCost], exponents: list[dict[str, Any]]) -> None:
    """Tables for each network, prior and policy, and how the time grows in it."""
    order = operator.attrgetter(*SETTING, "batch", "num_simulations", "engine")
    setting_of = operator.attrgetter(*SETTING)
    for setting, items in itertools.groupby(sorted(measured, key=order), key=setting_of):
        costs = list(items)
        for title, columns in ((_title(setting), _TIMES), ("the compiled programs", _PROGRAMS)):
            table = Table(title=title, title_justify="left", box=rich.box.SIMPLE)
            table.collapse_padding, table.pad_edge = True, False
            for name in ("roots", "sims", "engine", *columns):
                table.add_column(name, justify="right", no_wrap=True)
            for cost in costs:
                shown = [text(cost) for text in columns.values()]
                table.add_row(str(cost.batch), str(cost.num_simulations), cost.engine, *shown)
            console.print(table)
        for line in exponents:
            if tuple(line[name] for name in SETTING) == setting:
                others = ("num_simulations", "batch")
                fixed = ", ".join(f"{name} {line[name]}" for name in others if name in line)
                growth = f"{line['axis']}^{line['exponent']:.2f}"
                console.print(f"{line['engine']}: time ~ {growth} ({fixed})", highlight=False)


def _title(setting: tuple[Any, ...]) -> str:
    num_actions, embedding, prior, policy = setting
    network = f"toy network of width {embedding}, {prior} prior" if embedding else f"run {prior}"
    return f"{policy} policy, {num_actions} actions, {network}"
