"""`muzero profile`: where the time of a search and of a training chunk goes."""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from muzero_jax.config import ConfigError, ExperimentConfig

Policy = Literal["gumbel", "muzero"]
Engine = Literal["linear", "mctx"]
Prior = Literal["flat", "sharp"]


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
    engine: tuple[Engine, ...] = ("linear", "mctx")
    """Engines, timed in turns."""
    repeats: int = 7
    """Timed runs of each program, after one to warm up."""
    out: Annotated[str, tyro.conf.arg(metavar="DIR")] = "profiles/search"
    """Folder of the CSV, the JSON and the figures."""
    trace: bool = False
    """Also write a trace of one search of the last cell, for TensorBoard or XProf."""


@dataclasses.dataclass(frozen=True)
class ProfileLoopOptions:
    """Splits one training chunk of an experiment into its parts, and says what would help."""

    experiment: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="EXPERIMENT")]
    """Name of an experiment, or path of its script."""
    settings: Annotated[ExperimentConfig, tyro.conf.arg(name="")]
    repeats: int = 5
    """Timed chunks of each variant."""
    json: bool = False
    """Print one JSON object."""


def profile_search(options: ProfileSearchOptions) -> None:
    """Measures the grid; prints a table; writes CSV, JSON and figures.

    Raises:
      ConfigError: an option cannot work, or there is nothing to draw with.
      RunError: the run cannot be read.
    """
    from muzero_jax.analysis.extras import MissingExtraError
    from muzero_jax.profiling.search_grid import measure_grid

    for name in ("batch", "simulations", "actions", "embedding"):
        values = getattr(options, name)
        if not values or min(values) < 1:
            raise ConfigError(
                f"--{name} must be one or more integers of at least 1, found {values}."
            )
    for name in ("prior", "policy", "engine"):
        if not getattr(options, name):
            raise ConfigError(f"--{name} needs at least one value.")
    if options.repeats < 1:
        raise ConfigError(f"--repeats must be at least 1, found {options.repeats}.")
    try:
        measure_grid(
            Path(options.out),
            run_dir=Path(options.run) if options.run else None,
            batch=options.batch,
            num_simulations=options.simulations,
            num_actions=options.actions,
            embedding=options.embedding,
            prior=options.prior,
            policy=options.policy,
            engines=options.engine,
            num_repeats=options.repeats,
            with_trace=options.trace,
        )
    except MissingExtraError as error:
        raise ConfigError(str(error)) from error


COMMANDS: Mapping[str, tuple[type[Any], Callable[[Any], None]]] = {
    "search": (ProfileSearchOptions, profile_search),
}
