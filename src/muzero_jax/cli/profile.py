"""`muzero profile`: where the time of a search and of a training chunk goes."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import tyro

from muzero_jax.cli.options import (
    Between,
    Count,
    ExperimentOptions,
    parse_experiment_options,
    parse_options,
)
from muzero_jax.config import ConfigError
from muzero_jax.core.output_paths import check_folder
from muzero_jax.core.stages import announce
from muzero_jax.process.jax_process import prepare_jax
from muzero_jax.runs.run_folder import load_config


def profile(args: Sequence[str]) -> None:
    """Does `muzero profile search` or `muzero profile loop EXPERIMENT`."""
    name, *rest = args or ["--help"]
    if name in ("-h", "--help"):
        print("usage: muzero profile {search,loop EXPERIMENT} ...; add --help for options")
    elif name == "loop":
        _profile_loop(parse_experiment_options(LoopOptions, rest, "muzero profile loop"))
    elif name == "search":
        _profile_search(parse_options(SearchOptions, rest, "muzero profile search"))
    else:
        raise ConfigError(f"unknown profile {name!r}; there are search and loop.")


@dataclasses.dataclass(frozen=True)
class SearchOptions:
    """Times searches over a grid: all combinations of what is listed, quick ones first.

    Without a run a toy network is searched, whose trees are as deep as those of trained networks.
    An interrupted grid continues where it stopped when it is started again with the same --out.
    """

    run: Annotated[str, tyro.conf.arg(metavar="RUN")] = ""
    """Run folder: search its network at observations of its environment instead."""
    batch: Annotated[tuple[int, ...], Between(1, 2**20)] = (16, 64, 256)
    """Roots searched at once."""
    simulations: Annotated[tuple[int, ...], Between(1, 100_000)] = (8, 16, 32, 64, 128)
    """Simulations a search."""
    actions: Annotated[tuple[int, ...], Between(1, 2**17)] = (4,)
    """Actions of the toy network."""
    embedding: Annotated[tuple[int, ...], Between(1, 2**17)] = (64,)
    """Sizes of the toy network's embedding and layers."""
    prior: tuple[Literal["flat", "sharp"], ...] = ("flat",)
    """Priors of the toy network."""
    policy: tuple[Literal["gumbel", "muzero"], ...] = ("gumbel",)
    """Search policies."""
    engine: tuple[Literal["cpp", "linear", "mctx"], ...] = ("cpp", "linear", "mctx")
    """Engines, timed in turns."""
    repeats: Annotated[int, Between(1, 10_000)] = 7
    """Timed runs of each program, after one to warm up."""
    out: Annotated[str, tyro.conf.arg(metavar="DIR")] = "profiles/search"
    """Folder of the CSV, the JSON and the figures."""
    trace: bool = False
    """Also write a trace of one search of the last cell, for TensorBoard or XProf."""


def _profile_search(options: SearchOptions) -> None:
    """Measures the grid; prints a table; writes CSV, JSON and figures."""
    check_folder(Path(options.out), "--out")
    if options.run:
        load_config(Path(options.run))  # It refuses what is no run, or names a stranger's code.
    announce(f"timing searches with {', '.join(options.engine)}; the table goes to {options.out}")
    prepare_jax()
    from muzero_jax.profiling.search_grid import measure_grid

    measure_grid(
        Path(options.out),
        axes={
            "batch": options.batch,
            "num_simulations": options.simulations,
            "num_actions": options.actions,
            "embedding": options.embedding,
            "prior": options.prior,
            "policy": options.policy,
        },
        engines=options.engine,
        run_dir=Path(options.run) if options.run else None,
        num_repeats=options.repeats,
        with_trace=options.trace,
    )


@dataclasses.dataclass(frozen=True)
class LoopOptions(ExperimentOptions):
    """Splits one training chunk of an experiment, with any of its settings, into its parts."""

    repeats: Count = 5
    """Timed runs of each part."""
    json: bool = False
    """Print one JSON object."""


def _profile_loop(options: LoopOptions) -> None:
    """Prints the parts of one training chunk, and advice."""
    announce(f"timing a training chunk of {options.experiment}, and its parts")
    prepare_jax()
    from muzero_jax.profiling.loop_cost import measure_loop

    cost = measure_loop(options.settings, options.repeats)
    if options.json:
        found = {"chunk": cost.chunk, **dataclasses.asdict(cost), "advice": cost.advice()}
        return print(json.dumps(found))
    for name, milliseconds in cost.parts.items():
        bar = "#" * round(40 * milliseconds / cost.chunk)
        print(f"{name:17} {milliseconds:9.2f} ms  {milliseconds / cost.chunk:4.0%}  {bar}")
    efficiency = cost.loop_efficiency
    told = "" if efficiency is None else f"  loop efficiency {efficiency:.2f}"
    print(f"{'chunk':17} {cost.chunk:9.2f} ms{told}")
    return print(*cost.advice(), sep="\n")
