"""What a search costs beside the network calls that it cannot avoid, and why: how deep it goes.

The engines and a loop of nothing but the same network calls are compiled, and timed in turns, so
that a machine that drifts cannot flatter one of them.
"""

import dataclasses
import functools
import itertools
import math
import statistics
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from muzero_jax.config import SearchConfig
from muzero_jax.core.types import Array, Params, PRNGKey, PyTree
from muzero_jax.profiling.timing import Compiled, timed_compile, timed_in_turns
from muzero_jax.profiling.toy_network import ToyNetwork
from muzero_jax.search.policies import (
    RecurrentFn,
    RootFnOutput,
    SearchNoise,
    SearchOutput,
    make_search,
)

ENGINES = ("cpp", "linear", "mctx")
PRIORS = {"flat": 1.0, "sharp": 6.0}
# Of the toy network's weights. With it a Gumbel search of 200 simulations among 4 actions goes 28
# levels deep on average and 72 at the deepest, flat or sharp, and a PUCT search with a sharp prior
# 89 and 188. Of seeds 0 to 7 the deepest go 28 and 72, and 92 and 191; the shallowest 14 and 37,
# and 44 and 117.
TOY_SEED = 6


@dataclasses.dataclass(frozen=True)
class SearchCell:
    """One search to measure.

    Attributes:
      batch: roots.
      num_simulations: N.
      num_actions: A.
      embedding: size of the toy network's embedding and layers; 0 for a trained run's network.
      prior: the prior of the toy network, "flat" or "sharp"; or the name of a trained run.
      policy: "gumbel" or "muzero".
    """

    batch: int
    num_simulations: int
    num_actions: int
    embedding: int
    prior: str
    policy: str

    def __str__(self) -> str:
        return (
            f"{self.policy} B={self.batch} N={self.num_simulations} A={self.num_actions} "
            f"E={self.embedding or 'run'} {self.prior}"
        )


def grid(
    batch: Sequence[int],
    num_simulations: Sequence[int],
    num_actions: Sequence[int],
    embedding: Sequence[int],
    prior: Sequence[str],
    policy: Sequence[str],
) -> list[SearchCell]:
    """All combinations, the quick ones first.

    Args:
      batch: numbers of roots.
      num_simulations: numbers of simulations.
      num_actions: numbers of actions of the toy network.
      embedding: sizes of the toy network's embedding.
      prior: priors of the toy network.
      policy: policies of the search.
    """
    cells = itertools.product(batch, num_simulations, num_actions, embedding, prior, policy)
    return sorted(
        (SearchCell(*cell) for cell in cells),
        key=lambda cell: cell.batch * cell.num_simulations**2 * cell.num_actions * cell.embedding,
    )


@dataclasses.dataclass(frozen=True)
class Workload:
    """What is searched: a network and the roots.

    Attributes:
      params: the parameters of the network.
      root: `(prior_logits [B, A], value [B], embedding [B, ...])`.
      recurrent_fn: the model.
      legal_action_mask: `[B, A]` bool.
    """

    params: Params
    root: RootFnOutput
    recurrent_fn: RecurrentFn
    legal_action_mask: Array


@dataclasses.dataclass(frozen=True)
class SearchCost:
    """One engine's cost of one cell, the medians of repeated runs.

    Attributes:
      engine: "cpp", "linear" or "mctx".
      milliseconds: time of one search.
      spread: the middle half of the runs, as a share of the median.
      speedup_vs_mctx: mctx's milliseconds over these; 0 where mctx was not measured.
      ratio_to_network_only: these milliseconds over those of the network calls alone.
      network_milliseconds: time of the network calls alone.
      tree_share: share of the search that is not the network.
      microseconds_per_simulation_per_root: time of the whole search, divided.
      nanoseconds_per_path_node: time of the tree work, for each node that a simulation passed.
      depth_mean: mean depth of the leaves, in edges.
      depth_max: depth of the deepest leaf of a tree, the mean over trees.
      value_spread: standard deviation of the network's values in the tree.
      prior_entropy: mean entropy of the priors in the tree, as a share of the greatest possible.
      compile_seconds: seconds to trace and compile.
      peak_bytes: arguments, results and temporaries of the compiled program.
      flops: operations of the compiled program by its own analysis; a loop's body counts once.
      bytes_accessed: bytes that it reads and writes, by the same analysis.
    """

    engine: str
    milliseconds: float
    spread: float
    speedup_vs_mctx: float
    ratio_to_network_only: float
    network_milliseconds: float
    tree_share: float
    microseconds_per_simulation_per_root: float
    nanoseconds_per_path_node: float
    depth_mean: float
    depth_max: float
    value_spread: float
    prior_entropy: float
    compile_seconds: float
    peak_bytes: int
    flops: float
    bytes_accessed: float


def toy_workload(cell: SearchCell, seed: int = TOY_SEED) -> Workload:
    """The toy network's."""
    network = ToyNetwork(cell.num_actions, cell.embedding, PRIORS[cell.prior])
    init_key, root_key = jax.random.split(jax.random.key(seed))
    weights = network.init(init_key)
    return Workload(
        params=weights,
        root=network.root(weights, root_key, cell.batch),
        recurrent_fn=network.recurrent_fn,
        legal_action_mask=jnp.ones((cell.batch, cell.num_actions), bool),
    )


def measure_search(
    cell: SearchCell,
    workload: Workload,
    engines: Sequence[str] = ENGINES,
    num_repeats: int = 7,
    config: SearchConfig | None = None,
) -> list[SearchCost]:
    """Times one cell with each engine.

    Args:
      cell: what to measure.
      workload: its network and roots.
      engines: the engines to compare.
      num_repeats: timed runs of each program, after one to warm up.
      config: other settings of the search; mctx's defaults where None.
    """
    config = config or SearchConfig(min_qvalue_range=1e-8)
    args = workload.params, jax.random.key(0), workload.root, workload.legal_action_mask
    programs, compile_seconds = {}, {}
    for engine in engines:
        run = functools.partial(search_alone, cell_settings(config, cell, engine), workload)
        programs[engine], compile_seconds[engine] = timed_compile(run, *args)
    network = functools.partial(_network_only, cell, workload.recurrent_fn)
    programs["network"], _ = timed_compile(network, *args)
    times = timed_in_turns({name: (p, args) for name, p in programs.items()}, num_repeats)
    whole = functools.partial(_search, cell_settings(config, cell, "linear"), workload)
    facts = _tree_facts(jax.jit(whole)(*args))
    return [
        _cost(cell, engine, times, programs[engine], compile_seconds[engine], facts)
        for engine in engines
    ]


def cell_settings(config: SearchConfig, cell: SearchCell, engine: str) -> SearchConfig:
    """The settings of the search of one cell.

    Args:
      config: the settings that the cell does not change.
      cell: the cell of the grid.
      engine: the engine.
    """
    changes: dict[str, Any] = {
        "engine": engine,
        "policy": cell.policy,
        "num_simulations": cell.num_simulations,
    }
    return dataclasses.replace(config, **changes)


def search_alone(config: SearchConfig, workload: Workload, *args: Any) -> SearchOutput:
    """As an agent uses it: the trees themselves are not kept."""
    return _search(config, workload, *args).replace(tree=None)


def _search(
    config: SearchConfig,
    workload: Workload,
    params: Params,
    rng_key: PRNGKey,
    root: RootFnOutput,
    legal_action_mask: Array,
) -> SearchOutput:
    noise = SearchNoise(1.0, config.dirichlet_alpha, config.dirichlet_fraction, 1.0)
    search = make_search(config)
    return search(params, rng_key, root, workload.recurrent_fn, legal_action_mask, noise)


def _network_only(
    cell: SearchCell,
    recurrent_fn: RecurrentFn,
    params: Params,
    rng_key: PRNGKey,
    root: RootFnOutput,
    legal_action_mask: Array,
) -> PyTree:
    """As many network calls as a search makes, each depending on the one before."""
    del legal_action_mask

    def body(i: Array, embedding: PyTree) -> PyTree:
        action = jnp.full(cell.batch, i % cell.num_actions, jnp.int32)
        output, embedding = recurrent_fn(params, rng_key, action, embedding)
        # Tiny, but enough that no head is left out.
        used = output.value + output.reward + output.discount + output.prior_logits.sum(axis=-1)
        return jax.tree.map(lambda x: x + (1e-9 * used.sum()).astype(x.dtype), embedding)

    return jax.lax.fori_loop(0, cell.num_simulations, body, root.embedding)


def _tree_facts(output: SearchOutput) -> dict[str, Any]:
    """Depth, value spread and prior entropy of the searched trees."""
    tree = output.tree
    assert tree is not None
    logits = jax.nn.log_softmax(tree.children_prior_logits[:, 1:])
    entropy = -(jnp.exp(logits) * logits).sum(axis=-1).mean()
    uniform = jnp.log(max(tree.num_actions, 2))
    return {
        "depth_mean": float(output.depth_mean.mean()),
        "depth_max": float(output.depth_max.mean()),
        "value_spread": float(tree.raw_values[:, 1:].std()),
        "prior_entropy": float(entropy / uniform),
    }


def _cost(
    cell: SearchCell,
    engine: str,
    times: dict[str, list[float]],
    program: Compiled,
    compile_seconds: float,
    facts: dict[str, Any],
) -> SearchCost:
    seconds, network = statistics.median(times[engine]), statistics.median(times["network"])
    quartiles = statistics.quantiles(times[engine], n=4) if len(times[engine]) > 1 else [0, 0, 0]
    mctx_seconds = statistics.median(times["mctx"]) if "mctx" in times else 0.0
    searched = cell.batch * cell.num_simulations
    # A path from the root to a leaf at depth d passes d nodes and the leaf.
    path_nodes = searched * (facts["depth_mean"] + 1)
    return SearchCost(
        engine=engine,
        milliseconds=1e3 * seconds,
        spread=(quartiles[2] - quartiles[0]) / seconds,
        speedup_vs_mctx=mctx_seconds / seconds,
        ratio_to_network_only=seconds / network,
        network_milliseconds=1e3 * network,
        tree_share=max(0.0, 1 - network / seconds),
        microseconds_per_simulation_per_root=1e6 * seconds / searched,
        nanoseconds_per_path_node=1e9 * max(0.0, seconds - network) / path_nodes,
        compile_seconds=compile_seconds,
        **_program_facts(program),
        **facts,
    )


def _program_facts(program: Any) -> dict[str, Any]:
    memory, cost = program.memory_analysis(), program.cost_analysis() or {}
    parts = ("argument", "output", "temp")
    return {
        "peak_bytes": sum(getattr(memory, f"{part}_size_in_bytes", 0) for part in parts),
        "flops": float(cost.get("flops", 0.0)),
        "bytes_accessed": float(cost.get("bytes accessed", 0.0)),
    }


def growth_exponents(
    costs: Sequence[tuple[SearchCell, SearchCost]], axis: str
) -> Iterator[tuple[SearchCell, str, float]]:
    """How the time grows with one attribute of the cells: the slope in logarithms.

    Args:
      costs: measured cells.
      axis: "batch" or "num_simulations".

    Yields:
      A cell of each group that differs in `axis` only, the engine, and the least-squares exponent.
    """

    def group(item: tuple[SearchCell, SearchCost]) -> tuple[Any, ...]:
        cell, cost = item
        others = {k: v for k, v in dataclasses.asdict(cell).items() if k != axis}
        return tuple(others.values()), cost.engine

    for (_, engine), items in itertools.groupby(sorted(costs, key=group), key=group):
        members = list(items)
        if len({getattr(cell, axis) for cell, _ in members}) > 1:
            sizes = [math.log(getattr(cell, axis)) for cell, _ in members]
            times = [math.log(cost.milliseconds) for _, cost in members]
            yield members[0][0], engine, statistics.linear_regression(sizes, times).slope
