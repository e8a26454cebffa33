"""`muzero profile`: where the time of a search and of a training chunk goes."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import tyro

from muzero_jax.config import ConfigError
from muzero_jax.core.output_paths import check_folder
from muzero_jax.core.stages import announce
from muzero_jax.runs.run_folder import load_config

Policy = Literal["gumbel", "muzero"]
Engine = Literal["cpp", "linear", "mctx"]
Prior = Literal["flat", "sharp"]
_MOST = {"batch": 2**20, "simulations": 100_000, "actions": 2**17, "embedding": 2**17}
_MOST_REPEATS = 10_000


@dataclasses.dataclass(frozen=True)
class ProfileSearchOptions:
    """Times searches over a grid: all combinations of what is listed, quick ones first.

    Without a run a toy network is searched, whose trees are as deep as those of trained networks.
    An interrupted grid continues where it stopped when it is started again with the same --out.
    """

    run: Annotated[str, tyro.conf.arg(metavar="RUN")] = ""
    """Run folder: search its network at observations of its environment instead."""
    batch: tuple[int, ...] = (16, 64, 256)
    """Roots searched at once."""
    simulations: tuple[int, ...] = (8, 16, 32, 64, 128)
    """Simulations a search."""
    actions: tuple[int, ...] = (4,)
    """Actions of the toy network."""
    embedding: tuple[int, ...] = (64,)
    """Sizes of the toy network's embedding and layers."""
    prior: tuple[Prior, ...] = ("flat",)
    """Priors of the toy network."""
    policy: tuple[Policy, ...] = ("gumbel",)
    """Search policies."""
    engine: tuple[Engine, ...] = ("cpp", "linear", "mctx")
    """Engines, timed in turns."""
    repeats: int = 7
    """Timed runs of each program, after one to warm up."""
    out: Annotated[str, tyro.conf.arg(metavar="DIR")] = "profiles/search"
    """Folder of the CSV, the JSON and the figures."""
    trace: bool = False
    """Also write a trace of one search of the last cell, for TensorBoard or XProf."""


def profile_search(options: ProfileSearchOptions) -> None:
    """Measures the grid; prints a table; writes CSV, JSON and figures.

    Raises:
      ConfigError: an option cannot work, or there is nothing to draw with.
      RunError: the run cannot be read.
    """
    _check(options)
    announce(f"timing searches with {', '.join(options.engine)}; the table goes to {options.out}")
    from muzero_jax.process.jax_process import prepare_jax

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


def _check(options: ProfileSearchOptions) -> None:
    for name, most in _MOST.items():
        values = getattr(options, name)
        if not values or min(values) < 1 or max(values) > most:
            raise ConfigError(
                f"--{name} must be one or more integers between 1 and {most:,}, found {values}."
            )
    for name in ("prior", "policy", "engine"):
        if not getattr(options, name):
            raise ConfigError(f"--{name} needs at least one value.")
    if not 1 <= options.repeats <= _MOST_REPEATS:
        raise ConfigError(
            f"--repeats must be between 1 and {_MOST_REPEATS:,}, found {options.repeats}."
        )
    check_folder(Path(options.out), "--out")
    if options.run:
        load_config(Path(options.run))  # It refuses what is no run, or names a stranger's code.


def profile_loop(args: Sequence[str]) -> None:
    """Splits one training chunk of an experiment into its parts; prints them, and advice.

    Args:
      args: the experiment, `--repeats`, `--json`, and any settings of the experiment.

    Raises:
      ConfigError: a setting cannot work.
      EnvironmentCreationError: the environment cannot be made.
    """
    from muzero_jax.cli.benchmark import benchmark_parser, positive, read_experiment

    parser = benchmark_parser("Splits one training chunk of an experiment into its parts.")
    parser.prog = "muzero profile loop"
    parser.add_argument("experiment", help="name of an experiment, or path of its script")
    parser.add_argument("--repeats", type=positive, default=5, help="timed runs of each part")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options, overrides = parser.parse_known_args(args)
    config = read_experiment(options.experiment, overrides, parser.prog)
    announce(f"timing a training chunk of {options.experiment}, and its parts")
    from muzero_jax.process.jax_process import prepare_jax

    prepare_jax()
    from muzero_jax.profiling.loop_cost import measure_loop

    cost = measure_loop(config, options.repeats)
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
