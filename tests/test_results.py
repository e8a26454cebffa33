import csv
import importlib.util
import json
import shutil
import sys
from pathlib import Path

import pytest

from muzero_jax.cli.experiments import load_experiment
from muzero_jax.reports.results import (
    COLUMNS,
    ResultsError,
    is_score_file,
    make_table,
    read_scores,
    replace_table,
    summarise,
    update_scores,
)
from muzero_jax.settings import config_to_dict

BEGIN_MARKER, END_MARKER = "<!-- results:begin -->", "<!-- results:end -->"
_ROOT = Path(__file__).resolve().parents[1]


def load_script(name):
    spec = importlib.util.spec_from_file_location(name, _ROOT / "scripts" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def make_row(seed=0, score=490.0, **changes):
    return {
        "experiment": "cartpole",
        "seed": seed,
        "env_steps": 100_352,
        "num_updates": 3136,
        "episodes": 100,
        "score_mean": score,
        "score_std": 2.5,
        "score_min": score - 10,
        "score_max": 500.0,
        "train_seconds": 20.0,
        "compile_seconds": 8.0,
        "total_seconds": 30.0 + seed,
        "threshold": 475.0,
        "steps_to_threshold": 40_000 + 1000 * seed,
        "device": "2 cores of a test",
        "versions": "python 3.11.7, jax 0.10.2",
        "command": f"muzero train cartpole --seed {seed}",
        **changes,
    }


def write_scores(path, rows):
    for row in rows:
        update_scores(path, row)


def write_experiment(path, scores, **changes):
    write_scores(path, [make_row(seed, score, **changes) for seed, score in enumerate(scores)])


def known(table):
    """The rows of a table, with None for what is unknown."""
    return table.astype(object).where(table.notna(), None).to_dict("records")


# --- score files


def test_rows_survive_the_file_with_unknown_numbers_and_commas(tmp_path):
    rows = [
        make_row(0, 499.125, versions='a "quoted", one'),
        make_row(1, -3.5, total_seconds=None, threshold=None, steps_to_threshold=None),
    ]
    write_scores(tmp_path / "new" / "cartpole.csv", rows)
    assert known(read_scores(tmp_path / "new" / "cartpole.csv")) == rows


def test_update_replaces_the_row_of_its_seed_and_keeps_the_order(tmp_path):
    path = tmp_path / "cartpole.csv"
    for seed, score in ((3, 1.0), (1, 2.0), (3, 9.0)):
        update_scores(path, make_row(seed, score))
    update_scores(path, make_row(1, 5.0, device="another"))
    rows = known(read_scores(path))
    assert [(row["device"][:7], row["seed"], row["score_mean"]) for row in rows] == [
        ("2 cores", 1, 2.0),
        ("2 cores", 3, 9.0),
        ("another", 1, 5.0),
    ]
    assert [file.name for file in tmp_path.iterdir()] == ["cartpole.csv"]


def test_a_bad_cell_and_a_missing_column_are_named(tmp_path):
    path = tmp_path / "cartpole.csv"
    write_experiment(path, [490.0, 333.0])
    path.write_text(path.read_text().replace(",333,", ",33E,"))
    with pytest.raises(ResultsError, match=r"cartpole.csv is no table of scores: .*'33E'"):
        read_scores(path)
    path.write_text(",".join(COLUMNS[:-2]) + "\n")
    with pytest.raises(ResultsError, match=r"columns expected but not found: .*versions"):
        read_scores(path)


def test_other_measurements_are_told_apart(tmp_path):
    write_experiment(tmp_path / "scores.csv", [1.0])
    (tmp_path / "speed.csv").write_text("experiment,num_envs,env_steps_per_second\n")
    (tmp_path / "empty.csv").write_text("")
    assert is_score_file(tmp_path / "scores.csv")
    assert not is_score_file(tmp_path / "speed.csv")
    assert not is_score_file(tmp_path / "empty.csv")


# --- table


def test_table_has_a_row_for_each_experiment_and_device(tmp_path):
    # IQM of 10 100 490 500: the mean of 100 and 490.
    write_experiment(tmp_path / "cartpole.csv", [500.0, 490.0, 10.0, 100.0])
    write_experiment(
        tmp_path / "catch.csv", [1.0], experiment="catch", threshold=None, total_seconds=1234.0
    )
    (tmp_path / "speed.csv").write_text("experiment,env_steps_per_second\ncartpole,4000\n")
    lines = make_table(tmp_path).splitlines()
    assert lines[0].startswith("| Experiment | Seeds | Env steps | Score, IQM [95 %] |")
    cartpole, catch = lines[2], lines[3]
    assert cartpole.startswith("| cartpole | 4 | 100,352 | **295.0** [")
    assert "| 10.0 | 41,500 (to 475, 4 of 4) | 32 s | 8 s | 2 cores of a test |" in cartpole
    assert catch.startswith("| catch | 1 | 100,352 | **1.00** [1.00, 1.00] | 1.00 | - | 21 min |")
    assert "`muzero train cartpole --seed SEED`" in lines[-1]
    assert len({line.count("|") for line in lines[:4]}) == 1


def test_a_threshold_that_most_seeds_miss_has_no_median(tmp_path):
    rows = [make_row(0), *(make_row(seed, steps_to_threshold=None) for seed in (1, 2))]
    write_scores(tmp_path / "cartpole.csv", rows)
    assert "| not reached (to 475, 1 of 3) |" in make_table(tmp_path)


def test_unknown_wall_clocks_are_left_out_of_the_median(tmp_path):
    rows = [make_row(0, total_seconds=None), make_row(1), make_row(2, total_seconds=40.0)]
    write_scores(tmp_path / "cartpole.csv", rows)
    assert "| 36 s |" in make_table(tmp_path)  # The median of 31 and 40.
    write_scores(tmp_path / "cartpole.csv", [{**row, "total_seconds": None} for row in rows])
    assert "| - | 8 s |" in make_table(tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"env_steps": 5}, r"differ in env_steps \(100352 and 5\)"),
        ({"episodes": 32}, "differ in episodes"),
        ({"command": "muzero train cartpole --seed 1 --replay.ratio 8"}, "differ in command"),
    ],
)
def test_rows_that_are_no_repetitions_are_refused(changes, message, tmp_path):
    write_scores(tmp_path / "cartpole.csv", [make_row(0), make_row(1, **changes)])
    with pytest.raises(ResultsError, match=message):
        make_table(tmp_path)


def test_a_doubled_seed_is_refused(tmp_path):
    path = tmp_path / "cartpole.csv"
    write_scores(path, [make_row(0)])
    path.write_text(path.read_text() + path.read_text().splitlines()[1])
    with pytest.raises(ResultsError, match=r"comes twice: \[0, 0\]"):
        summarise(read_scores(path))


def test_devices_are_not_mixed(tmp_path):
    rows = [make_row(0), make_row(0, device="a GPU", episodes=10)]
    write_scores(tmp_path / "cartpole.csv", rows)
    groups = summarise(read_scores(tmp_path / "cartpole.csv"))
    assert list(groups) == [("cartpole", "2 cores of a test"), ("cartpole", "a GPU")]


def test_no_scores_are_no_table_and_no_folder_is_an_error(tmp_path):
    assert make_table(tmp_path) == ""
    empty = f"before {BEGIN_MARKER}\n{END_MARKER} after"
    assert replace_table(empty, "") == empty
    with pytest.raises(ResultsError, match="no folder"):
        make_table(tmp_path / "nowhere")


@pytest.mark.parametrize(
    "readme",
    ["nothing", f"{END_MARKER} {BEGIN_MARKER}", f"{BEGIN_MARKER}{BEGIN_MARKER}{END_MARKER}"],
)
def test_readme_without_a_place_for_the_table_is_refused(readme):
    with pytest.raises(ResultsError, match="once each"):
        replace_table(readme, "table")


def test_only_what_is_between_the_markers_changes():
    readme = f"before\n{BEGIN_MARKER}\nold\n{END_MARKER}\nafter\n"
    new = replace_table(readme, "| new |")
    assert new == f"before\n{BEGIN_MARKER}\n| new |\n{END_MARKER}\nafter\n"
    assert replace_table(new, "| new |") == new


# --- scripts


def test_check_tells_a_stale_table_from_a_fresh_one(tmp_path, capsys):
    script = load_script("make_results_table")
    results, readme = tmp_path / "experiments" / "results", tmp_path / "README.md"
    shutil.copytree(_ROOT / "experiments" / "results", results)
    shutil.copytree(_ROOT / "docs", tmp_path / "docs")
    readme.write_text(f"# Title\n{BEGIN_MARKER}\n{END_MARKER}\n")
    arguments = ["--root", str(tmp_path)]
    assert script.main([*arguments, "--check"]) == 1
    assert script.main(arguments) == 0
    assert script.main([*arguments, "--check"]) == 0
    update_scores(results / "cartpole.csv", make_row(0, 470.0, experiment="another"))
    assert script.main([*arguments, "--check"]) == 1
    assert "README.md is stale" in capsys.readouterr().err
    readme.write_text("no markers")
    assert script.main(arguments) == 2


def test_the_tables_of_this_project_are_not_stale():
    """Those of README.md and those of docs/tabular.md."""
    assert load_script("make_results_table").main(["--check"]) == 0


def test_the_columns_are_documented():
    text = (_ROOT / "experiments" / "results" / "README.md").read_text(encoding="utf-8")
    assert [name for name in COLUMNS if f"`{name}`" not in text] == []


_FAKE_MUZERO = """#!{python} -SE
import json, os, sys
from pathlib import Path
arguments = sys.argv[1:]
if "--resume" in arguments:
    run_dir = Path(arguments[arguments.index("--resume") + 1])
else:
    options = dict(zip(arguments[2::2], arguments[3::2]))
    run_dir = Path(options.pop("--out"))
    run_dir.mkdir()
    config = json.loads(Path({config!r}).read_text())
    for name, value in options.items():
        *sections, last = name[2:].split(".")
        section = config
        for part in sections:
            section = section[part]
        section[last] = json.loads(value)
    (run_dir / "config.yaml").write_text(json.dumps(config))
    curve = "env_steps,episodes,score_mean\\n1000,9,400\\n2000,9,480\\n"
    (run_dir / "evaluation.csv").write_text(curve)
    assert os.environ["MUZERO_CACHE_DIR"] == "" and "JAX_COMPILATION_CACHE_DIR" not in os.environ
    versions = {{"python": "3.11", "packages": {{"jax": "0.10.2"}}, "device": "cpu"}}
    (run_dir / "versions.json").write_text(json.dumps(versions))
    if "BREAK" in os.environ:
        sys.exit("broken")
scores = dict(score_mean=480.5, score_std=1.0, score_min=470.0, score_max=490.0)
times = dict(train_seconds=2.0, compile_seconds=1.0)
result = dict(env_steps=2000, episodes=100, num_updates=7, **scores, **times)
(run_dir / "result.json").write_text(json.dumps(result))
"""


@pytest.fixture
def run_seeds(tmp_path):
    """Calls the script with a stand-in for the muzero command, which needs no import of JAX."""
    config = config_to_dict(load_experiment("cartpole"))
    (tmp_path / "cartpole.json").write_text(json.dumps(config))
    program = tmp_path / "muzero"
    names = {"python": sys.executable, "config": str(tmp_path / "cartpole.json")}
    program.write_text(_FAKE_MUZERO.format(**names))
    program.chmod(0o755)
    fixed = ["--out", str(tmp_path / "runs"), "--results", str(tmp_path / "cartpole.csv")]
    main = load_script("run_seeds").main
    return lambda *arguments: main([*arguments, *fixed, "--program", str(program)])


def test_seeds_are_trained_in_turn_and_recorded(tmp_path, capsys, run_seeds):
    options = ("--threshold", "475", "--device", "a device", "--replay.ratio", "8")
    assert run_seeds("cartpole", "--seeds", "0", "4", *options) == 0
    table = read_scores(tmp_path / "cartpole.csv")
    assert table.seed.tolist() == [0, 4]
    row = table.iloc[1]
    assert row.command == "muzero train cartpole --seed 4 --replay.ratio 8"
    assert (row.score_mean, row.score_min, row.episodes, row.env_steps) == (480.5, 470.0, 100, 2000)
    assert (row.threshold, row.steps_to_threshold) == (475.0, 2000)
    assert (row.device, row.versions) == ("a device", "python 3.11, jax 0.10.2")
    assert 0 < row.total_seconds < 60
    assert "cartpole seed 4: score 480.50, lowest 470" in capsys.readouterr().out
    (rows,) = summarise(table).values()
    assert rows.command.iloc[0].endswith("--seed SEED --replay.ratio 8")


def test_finished_seeds_are_skipped_and_their_rows_kept(tmp_path, capsys, run_seeds):
    run_seeds("cartpole", "--seeds", "0")
    (before,) = known(read_scores(tmp_path / "cartpole.csv"))
    assert run_seeds("cartpole", "--seeds", "0", "1") == 0
    assert known(read_scores(tmp_path / "cartpole.csv"))[0] == before
    assert "seed 0: done before" in capsys.readouterr().out


def test_without_the_run_folders_the_results_say_what_is_done(tmp_path, capsys, run_seeds):
    run_seeds("cartpole", "--seeds", "0", "--device", "a device")
    shutil.rmtree(tmp_path / "runs")
    assert run_seeds("cartpole", "--seeds", "0", "--device", "a device") == 0
    assert "seed 0: recorded before" in capsys.readouterr().out
    assert not (tmp_path / "runs").exists()
    # Another command or device is another run.
    run_seeds("cartpole", "--seeds", "0", "--device", "another")
    assert (tmp_path / "runs" / "seed-0").exists()
    shutil.rmtree(tmp_path / "runs")
    run_seeds("cartpole", "--seeds", "0", "--device", "a device", "--replay.ratio", "8")
    assert (tmp_path / "runs" / "seed-0").exists()


def test_the_curves_hold_every_evaluation_of_every_seed_once(tmp_path, run_seeds):
    curves = tmp_path / "curves.csv"
    for _ in range(2):
        run_seeds("cartpole", "--seeds", "3", "0", "--curves", str(curves))
        (tmp_path / "runs" / "seed-0" / "result.json").unlink()
    rows = list(csv.DictReader(curves.read_text().splitlines()))
    assert [(row["seed"], row["env_steps"], row["evaluation_score"]) for row in rows] == [
        (seed, steps, score) for seed in "03" for steps, score in (("1000", "400"), ("2000", "480"))
    ]


def test_an_interrupted_seed_is_resumed_with_an_unknown_wall_clock(tmp_path, run_seeds):
    run_seeds("cartpole", "--seeds", "0")
    (tmp_path / "runs" / "seed-0" / "result.json").unlink()
    assert run_seeds("cartpole", "--seeds", "0") == 0
    (row,) = known(read_scores(tmp_path / "cartpole.csv"))
    assert (row["total_seconds"], row["score_mean"]) == (None, 480.5)
    assert "cores of" in row["device"]


def test_a_failing_seed_is_told_and_leaves_no_row(tmp_path, capsys, run_seeds, monkeypatch):
    monkeypatch.setenv("BREAK", "1")
    assert run_seeds("cartpole", "--seeds", "0") == 1
    assert not (tmp_path / "cartpole.csv").exists()
    assert "broken" in (tmp_path / "runs" / "seed-0.log").read_text()
    assert "Failed seeds: 0." in capsys.readouterr().err


def test_a_folder_of_other_settings_is_not_taken_for_this_one(tmp_path, capsys, run_seeds):
    """Whether the command line names them or the experiment has changed since."""
    run_seeds("cartpole", "--seeds", "0")
    assert run_seeds("cartpole", "--seeds", "0", "--replay.ratio", "8") == 1
    assert "has other settings: replay.ratio is 16.0, asked for 8.0" in capsys.readouterr().err
    with (tmp_path / "cartpole.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 1
    assert json.loads((tmp_path / "runs" / "seed-0" / "result.json").read_text())
