"""What a search costs beside the network calls that it cannot avoid, and why: how deep it goes.

The engines and a loop of nothing but the same network calls are compiled, and timed in turns, so
that a machine that drifts cannot flatter one of them.
"""

import dataclasses
import itertools
import math
import operator
import statistics
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from muzero_jax.core.types import Array, PyTree
from muzero_jax.profiling.search_workloads import SearchCell, Workload
from muzero_jax.profiling.timing import program_facts, timed_compile, timed_in_turns
from muzero_jax.search.policies import SearchOutput

ENGINES = ("cpp", "linear", "mctx")
CELL_FIELDS = dataclasses.fields(SearchCell)


@dataclasses.dataclass(frozen=True)
class SearchCost(SearchCell):
    """One engine's cost of one search, the medians of repeated runs.

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

    @property
    def cell(self) -> SearchCell:
        """The search that was measured."""
        return SearchCell(*(getattr(self, field.name) for field in CELL_FIELDS))


def grid(**axes: Sequence[Any]) -> list[SearchCell]:
    """All combinations of the values of each field of a cell, the quick ones first."""
    cells = (
        SearchCell(**dict(zip(axes, values, strict=True)))
        for values in itertools.product(*axes.values())
    )
    return sorted(
        cells,
        key=lambda cell: cell.batch * cell.num_simulations**2 * cell.num_actions * cell.embedding,
    )


def measure_search(
    workload: Workload, engines: Sequence[str] = ENGINES, num_repeats: int = 7
) -> list[SearchCost]:
    """Times one search with each engine.

    Args:
      workload: the search, its network and its roots.
      engines: the engines to compare.
      num_repeats: timed runs of each program, after one to warm up.
    """
    args = workload.args
    compiled = {engine: timed_compile(workload.search(engine), *args) for engine in engines}
    compiled["network"] = timed_compile(lambda *args: _network_only(workload, *args), *args)
    programs = {name: (program, args) for name, (program, _) in compiled.items()}
    times = timed_in_turns(programs, num_repeats)
    facts = _tree_facts(jax.jit(workload.search("linear", keeps_tree=True))(*args))
    return [
        SearchCost(
            **dataclasses.asdict(workload.cell),
            engine=engine,
            compile_seconds=compiled[engine][1],
            **_time_facts(workload.cell, engine, times, facts["depth_mean"]),
            **program_facts(compiled[engine][0]),
            **facts,
        )
        for engine in engines
    ]


def _network_only(workload: Workload, params: Any, rng_key: Any, root: Any, _: Any) -> PyTree:
    """As many network calls as a search makes, each depending on the one before."""
    cell = workload.cell

    def body(i: Array, embedding: PyTree) -> PyTree:
        action = jnp.full(cell.batch, i % cell.num_actions, jnp.int32)
        output, embedding = workload.recurrent_fn(params, rng_key, action, embedding)
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


def _time_facts(
    cell: SearchCell, engine: str, times: dict[str, list[float]], depth_mean: float
) -> dict[str, Any]:
    seconds, network = statistics.median(times[engine]), statistics.median(times["network"])
    quartiles = statistics.quantiles(times[engine], n=4) if len(times[engine]) > 1 else [0, 0, 0]
    mctx_seconds = statistics.median(times["mctx"]) if "mctx" in times else 0.0
    searched = cell.batch * cell.num_simulations
    # A path from the root to a leaf at depth d passes d nodes and the leaf.
    path_nodes = searched * (depth_mean + 1)
    return {
        "milliseconds": 1e3 * seconds,
        "spread": (quartiles[2] - quartiles[0]) / seconds,
        "speedup_vs_mctx": mctx_seconds / seconds,
        "ratio_to_network_only": seconds / network,
        "network_milliseconds": 1e3 * network,
        "tree_share": max(0.0, 1 - network / seconds),
        "microseconds_per_simulation_per_root": 1e6 * seconds / searched,
        "nanoseconds_per_path_node": 1e9 * max(0.0, seconds - network) / path_nodes,
    }


def growth_exponents(costs: Sequence[SearchCost]) -> list[dict[str, Any]]:
    """How the time grows with the simulations and with the batch: slopes in logarithms.

    Returns:
      An entry for each group of costs that differ in one `axis` only: what they have in common, and
      the least-squares `exponent`.
    """
    found = []
    for axis in ("num_simulations", "batch"):
        names = [field.name for field in CELL_FIELDS if field.name != axis] + ["engine"]
        group = operator.attrgetter(*names)
        for common, items in itertools.groupby(sorted(costs, key=group), key=group):
            members = list(items)
            sizes = [math.log(getattr(cost, axis)) for cost in members]
            if len(set(sizes)) > 1:
                times = [math.log(cost.milliseconds) for cost in members]
                slope = statistics.linear_regression(sizes, times).slope
                shared = dict(zip(names, common, strict=True))
                found.append({"axis": axis, **shared, "exponent": slope})
    return found
