"""The search profiler: what it measures, keeps, continues and draws."""

import csv
import dataclasses
import json

import jax
import numpy as np
import pytest
from tiny_run import TINY

from muzero_jax.cli import profile
from muzero_jax.config import ConfigError
from muzero_jax.profiling import search_grid
from muzero_jax.profiling.search_cost import SearchCost, grid, growth_exponents, measure_search
from muzero_jax.profiling.search_workloads import SearchCell, toy_workload, trained_workload
from muzero_jax.runs.build import LoadedRun, build
from muzero_jax.tabular.presets import tabular

_PNG = b"\x89PNG\r\n\x1a\n"
AXES = {
    "batch": (2, 4),
    "num_simulations": (2, 4),
    "num_actions": (3,),
    "embedding": (8,),
    "prior": ("flat",),
    "policy": ("gumbel",),
}
GRID = {"axes": AXES, "engines": ("linear", "mctx"), "num_repeats": 2}


def cost_of(cell, engine="linear", milliseconds=1.0):
    values = {name: field.type(0) for name, field in SearchCost.__dataclass_fields__.items()}
    values |= {**vars(cell), "engine": engine, "milliseconds": milliseconds}
    return SearchCost(**values)


@pytest.mark.parametrize("policy", ["gumbel", "muzero"])
def test_all_engines_are_measured_on_the_same_trees(policy):
    """A sharp prior, besides, is sharper than a flat one, and its trees are deeper."""
    cell = SearchCell(8, 40, 4, 64, "sharp", policy)
    costs = measure_search(toy_workload(cell), num_repeats=2)
    assert [cost.engine for cost in costs] == ["cpp", "linear", "mctx"]
    for cost in costs:
        assert cost.cell == cell
        assert cost.speedup_vs_mctx == pytest.approx(costs[-1].milliseconds / cost.milliseconds)
        assert cost.network_milliseconds > 0 and 0 <= cost.tree_share < 1
        assert cost.microseconds_per_simulation_per_root == pytest.approx(
            1e3 * cost.milliseconds / (8 * 40)
        )
        assert 1 <= cost.depth_mean <= cost.depth_max <= 40
        assert 0 <= cost.prior_entropy < 0.3 and cost.value_spread > 0
        assert cost.peak_bytes > 0 and cost.flops > 0 and cost.compile_seconds > 0
    if policy == "muzero":
        flat_cell = dataclasses.replace(cell, prior="flat")
        (flat,) = measure_search(toy_workload(flat_cell), ["linear"], num_repeats=1)
        assert flat.prior_entropy > 0.3 and flat.depth_mean < costs[0].depth_mean
        assert flat.speedup_vs_mctx == 0  # mctx was not asked


def test_the_growth_of_a_power_law_is_its_exponent():
    costs = [
        cost_of(SearchCell(b, n, 3, 8, "flat", "gumbel"), engine, b**0.5 * n**power)
        for b in (2, 8)
        for n in (4, 16, 64)
        for engine, power in (("linear", 1.0), ("mctx", 2.0))
    ]
    found = growth_exponents(costs)
    simulations = {
        (line["batch"], line["engine"]): line["exponent"]
        for line in found
        if line["axis"] == "num_simulations"
    }
    assert simulations == {
        (b, engine): pytest.approx(power)
        for b in (2, 8)
        for engine, power in (("linear", 1.0), ("mctx", 2.0))
    }
    over_batch = [line["exponent"] for line in found if line["axis"] == "batch"]
    assert over_batch == [pytest.approx(0.5)] * 6
    assert not growth_exponents(costs[:1])


def test_the_grid_is_all_combinations_and_starts_with_the_quick_ones():
    axes = {"batch": (64, 2), "num_simulations": (100, 3), "num_actions": (4,), "embedding": (8,)}
    cells = grid(**axes, prior=("flat", "sharp"), policy=("gumbel", "muzero"))
    assert len(cells) == len(set(cells)) == 16
    assert (cells[0].batch, cells[0].num_simulations) == (2, 3)
    assert (cells[-1].batch, cells[-1].num_simulations) == (64, 100)


def test_an_interrupted_grid_goes_on_where_it_stopped(tmp_path, monkeypatch, capsys):
    measured = []

    def measure(workload, engines, num_repeats):
        cell = workload.cell
        measured.append(cell)
        if len(measured) == 3:
            raise KeyboardInterrupt
        return [cost_of(cell, engine, 1.0 + cell.num_simulations) for engine in engines]

    monkeypatch.setattr(search_grid, "measure_search", measure)
    with pytest.raises(KeyboardInterrupt):
        search_grid.measure_grid(tmp_path, **GRID)
    assert len((tmp_path / "search_costs.csv").read_text().splitlines()) == 1 + 2 * 2
    search_grid.measure_grid(tmp_path, **GRID)
    assert len(measured) == 3 + 2 and measured[2] == measured[3]
    search_grid.measure_grid(tmp_path, **GRID)
    assert len(measured) == 5
    with (tmp_path / "search_costs.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 8 and {row["engine"] for row in rows} == {"linear", "mctx"}
    saved = json.loads((tmp_path / "search_costs.json").read_text())
    assert len(saved["cells"]) == 8 and len(saved["exponents"]) == 2 * (2 + 2)
    assert "time ~ num_simulations^" in capsys.readouterr().out
    figures = sorted(tmp_path.glob("*.png"))
    assert [path.name.split("_")[1] for path in figures] == ["map", "scaling"]
    assert all(path.read_bytes().startswith(_PNG) for path in figures)


def test_a_trace_can_be_written(tmp_path, monkeypatch):
    monkeypatch.setattr(
        search_grid, "measure_search", lambda workload, *_: [cost_of(workload.cell)]
    )
    small = {"axes": {**AXES, "batch": (2,), "num_simulations": (2,)}, "engines": ("linear",)}
    search_grid.measure_grid(tmp_path, **small, with_trace=True)
    assert list((tmp_path / "trace").rglob("*.xplane.pb"))


def test_a_trained_run_is_searched_from_its_own_observations(tmp_path, monkeypatch):
    parts = build(TINY)
    agent_state = jax.jit(parts.train.init)(jax.random.key(0)).agent
    run = LoadedRun(TINY, parts.env, parts.agent, agent_state, 0)
    workload = trained_workload(run, SearchCell(5, 3, 3, 0, "tiny", "gumbel"))
    assert workload.root.prior_logits.shape == (5, 3)
    embeddings = np.asarray(workload.root.embedding)
    assert len(np.unique(embeddings, axis=0)) > 1
    assert workload.config == TINY.learner.search
    monkeypatch.setattr(search_grid, "load_run", lambda run_dir: run)
    axes = {**AXES, "batch": (5,), "num_simulations": (3,)}
    (cost,) = search_grid.measure_grid(tmp_path, axes=axes, engines=("linear",), run_dir=tmp_path)
    assert (cost.prior, cost.embedding, cost.num_actions) == ("tiny", 0, 3)
    other = dataclasses.replace(run, config=tabular("tiny", "line", "q_learning"))
    with pytest.raises(ConfigError, match="tiny is a run of the agent q_learning; searches are"):
        trained_workload(other, cost.cell)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (["--batch", "16", "0"], "--batch must be between 1 and 1,048,576, found 0"),
        (["--simulations", ","], "--simulations needs at least one value"),
        (["--engine="], "--engine needs"),
        (["--repeats", "0"], "--repeats must be"),
    ],
)
def test_a_wrong_option_is_one_sentence(change, complaint):
    with pytest.raises(ConfigError, match=complaint):
        profile.profile(["search", *change])
