"""The search profiler: what it measures, keeps, continues and draws."""

import csv
import json

import numpy as np
import pytest

from muzero_jax.cli import profile
from muzero_jax.config import ConfigError
from muzero_jax.profiling import search_grid
from muzero_jax.profiling.search_cost import (
    SearchCell,
    SearchCost,
    grid,
    growth_exponents,
    measure_search,
    toy_workload,
)

_PNG = b"\x89PNG\r\n\x1a\n"
CELL = SearchCell(4, 6, 3, 8, "sharp", "gumbel")
GRID = {
    "run_dir": None,
    "batch": (2, 4),
    "num_simulations": (2, 4),
    "num_actions": (3,),
    "embedding": (8,),
    "prior": ("flat",),
    "policy": ("gumbel",),
    "engines": ("linear", "mctx"),
    "num_repeats": 2,
    "with_trace": False,
}


def cost_of(engine="linear", milliseconds=1.0):
    fields = SearchCost.__dataclass_fields__
    values = {name: field.type(0) for name, field in fields.items() if name != "engine"}
    return SearchCost(engine=engine, **{**values, "milliseconds": milliseconds})


@pytest.mark.parametrize("policy", ["gumbel", "muzero"])
def test_all_engines_are_measured_on_the_same_trees(policy):
    cell = SearchCell(4, 6, 3, 8, "sharp", policy)
    costs = measure_search(cell, toy_workload(cell), num_repeats=2)
    assert [cost.engine for cost in costs] == ["cpp", "linear", "mctx"]
    for cost in costs:
        assert cost.speedup_vs_mctx == pytest.approx(costs[-1].milliseconds / cost.milliseconds)
        assert cost.network_milliseconds > 0 and 0 <= cost.tree_share < 1
        assert cost.microseconds_per_simulation_per_root == pytest.approx(
            1e3 * cost.milliseconds / (4 * 6)
        )
        assert 1 <= cost.depth_mean <= cost.depth_max <= 6
        assert 0 <= cost.prior_entropy <= 1 and cost.value_spread > 0
        assert cost.peak_bytes > 0 and cost.flops > 0 and cost.compile_seconds > 0


def test_a_sharp_prior_is_sharper_and_its_trees_are_deeper():
    flat, sharp = (
        measure_search(cell, toy_workload(cell), ["linear"], num_repeats=1)[0]
        for cell in (SearchCell(8, 40, 4, 64, prior, "muzero") for prior in ("flat", "sharp"))
    )
    assert sharp.prior_entropy < 0.3 < flat.prior_entropy
    assert sharp.depth_mean > flat.depth_mean
    assert sharp.speedup_vs_mctx == 0  # mctx was not asked


def test_the_growth_of_a_power_law_is_its_exponent():
    costs = [
        (SearchCell(b, n, 3, 8, "flat", "gumbel"), cost_of(engine, b**0.5 * n**power))
        for b in (2, 8)
        for n in (4, 16, 64)
        for engine, power in (("linear", 1.0), ("mctx", 2.0))
    ]
    found = {
        (cell.batch, engine): x for cell, engine, x in growth_exponents(costs, "num_simulations")
    }
    assert found == {
        (b, engine): pytest.approx(power)
        for b in (2, 8)
        for engine, power in (("linear", 1.0), ("mctx", 2.0))
    }
    assert all(x == pytest.approx(0.5) for *_, x in growth_exponents(costs, "batch"))
    assert not list(growth_exponents(costs[:1], "batch"))


def test_the_grid_is_all_combinations_and_starts_with_the_quick_ones():
    cells = grid((64, 2), (100, 3), (4,), (8,), ("flat", "sharp"), ("gumbel", "muzero"))
    assert len(cells) == len(set(cells)) == 16
    assert (cells[0].batch, cells[0].num_simulations) == (2, 3)
    assert (cells[-1].batch, cells[-1].num_simulations) == (64, 100)


def test_an_interrupted_grid_goes_on_where_it_stopped(tmp_path, monkeypatch, capsys):
    measured = []

    def measure(cell, workload, engines, num_repeats, config):
        measured.append(cell)
        if len(measured) == 3:
            raise KeyboardInterrupt
        return [cost_of(engine, 1.0 + cell.num_simulations) for engine in engines]

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


def test_a_trace_can_be_written(tmp_path):
    small = {"batch": (2,), "num_simulations": (2,), "with_trace": True, "num_repeats": 1}
    search_grid.measure_grid(tmp_path, **{**GRID, **small})
    assert list((tmp_path / "trace").rglob("*.xplane.pb"))


@pytest.mark.slow
def test_a_trained_run_is_searched_from_its_own_observations(tmp_path):
    from tiny_run import TINY

    from muzero_jax.profiling.trained_workload import TrainedNetwork
    from muzero_jax.runs.runner import train

    train(TINY, tmp_path / "run")
    network = TrainedNetwork(tmp_path / "run")
    workload = network.workload(5)
    assert workload.root.prior_logits.shape == (5, network.num_actions) == (5, 3)
    embeddings = np.asarray(workload.root.embedding)
    assert len(np.unique(embeddings, axis=0)) > 1
    options = {"run_dir": tmp_path / "run", "batch": (5,), "num_simulations": (3,)}
    (cell, _), _ = search_grid.measure_grid(tmp_path / "out", **{**GRID, **options})
    assert (cell.prior, cell.embedding, cell.num_actions) == ("tiny", 0, 3)


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
