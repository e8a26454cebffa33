import csv
import json
import subprocess
import sys

import numpy as np
import pytest
import yaml

from muzero_jax.reports.curves import return_curve, score_curve
from muzero_jax.reports.extras import MissingExtraError
from muzero_jax.reports.plots import plot_runs
from muzero_jax.reports.runs import RunFolderError, group_runs, read_run
from muzero_jax.reports.statistics import bootstrap_interval

_PNG = b"\x89PNG\r\n\x1a\n"
_COLUMNS = "env_steps num_updates train_seconds episodes score_mean score_std score_min score_max"


def write_run(folder, scores=(10, 20, 30), *, name="cartpole", seed=0, ratio=4.0, seconds=1.0):
    """A run folder with an evaluation and a metrics row at every 1,000 steps."""
    folder.mkdir(parents=True)
    config = {
        "name": name,
        "seed": seed,
        "replay": {"ratio": ratio},
        "logging": {"tensorboard": seed == 0},
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    with (folder / "evaluation.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(_COLUMNS.split())
        for i, score in enumerate(scores, start=1):
            writer.writerow([1000 * i, 10 * i, seconds * i, 32, score, 5, score - 2, score + 50])
    rows = [
        {
            "env_steps": 1000 * i,
            "time/train_seconds": seconds * i,
            "episode/return": score / 2 if i > 1 else float("nan"),
            "loss/value": 100.0**-i,
            "loss/policy": 1.0 / i,
        }
        for i, score in enumerate(scores, start=1)
    ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def is_picture(path):
    return path.read_bytes().startswith(_PNG) and path.stat().st_size > 10_000


def test_one_run_becomes_a_picture_in_a_new_folder(tmp_path):
    out = tmp_path / "pictures" / "curve.png"
    plot_runs([write_run(tmp_path / "run")], out)
    assert is_picture(out)


def test_seeds_and_settings_become_a_picture(tmp_path):
    folders = [
        write_run(tmp_path / f"{ratio}-{seed}", seed=seed, ratio=ratio)
        for ratio in (1.0, 4.0)
        for seed in range(3)
    ]
    plot_runs(folders, tmp_path / "curve.png")
    assert is_picture(tmp_path / "curve.png")


def test_repetitions_are_one_group_and_settings_tell_namesakes_apart(tmp_path):
    runs = [
        read_run(write_run(tmp_path / "a", seed=0)),
        read_run(write_run(tmp_path / "b", seed=0, ratio=1.0)),
        read_run(write_run(tmp_path / "c", seed=1)),
        read_run(write_run(tmp_path / "d", seed=0, name="catch")),
    ]
    groups = group_runs(runs)
    labels = {group.label: [run.path.name for run in group.runs] for group in groups}
    assert labels == {
        "cartpole (ratio=4)": ["a", "c"],
        "cartpole (ratio=1)": ["b"],
        "catch": ["d"],
    }


def test_one_run_shows_its_episodes_and_never_leaves_their_range(tmp_path):
    (group,) = group_runs([read_run(write_run(tmp_path / "run"))])
    curve = score_curve(group.runs)
    np.testing.assert_array_equal(curve.env_steps, [1000, 2000, 3000])
    np.testing.assert_array_equal(curve.value, [10, 20, 30])
    # One standard deviation is 5 both ways, but the worst episode is only 2 below the mean.
    np.testing.assert_array_equal(curve.low, [8, 18, 28])
    np.testing.assert_array_equal(curve.high, [15, 25, 35])


def test_seeds_show_their_iqm_and_interval_where_half_of_them_have_got_to(tmp_path):
    ends = {0: (1, 5, 100), 1: (2, 6, 100), 2: (3, 10), 3: (90,)}
    runs = [write_run(tmp_path / str(s), v, seed=s, seconds=s + 1) for s, v in ends.items()]
    (group,) = group_runs([read_run(run) for run in runs])
    curve = score_curve(group.runs)
    np.testing.assert_array_equal(curve.env_steps, [1000, 2000, 3000])
    # The middle two of 1 2 3 90; the mean of 5 6 10; the mean of 100 100.
    np.testing.assert_array_equal(curve.value, [2.5, 7, 100])
    interval = bootstrap_interval([5, 6, 10], num_resamples=2_000)
    assert (curve.low[1], curve.high[1]) == (interval.low, interval.high)
    # The medians of 1 2 3 4 seconds, of 2 4 6 and of 3 6.
    np.testing.assert_array_equal(curve.seconds, [2.5, 4, 4.5])


def test_training_returns_skip_chunks_without_a_finished_episode(tmp_path):
    (group,) = group_runs([read_run(write_run(tmp_path / "run"))])
    curve = return_curve(group.runs)
    np.testing.assert_array_equal(curve.env_steps, [2000, 3000])
    np.testing.assert_array_equal(curve.value, [10, 15])


def test_rows_are_ordered_and_the_last_of_two_at_the_same_step_counts(tmp_path):
    folder = write_run(tmp_path / "run")
    with (folder / "evaluation.csv").open("a") as file:
        file.write("3000,30,3,100,31,5,0,50\n500,5,0.5,32,9,5,0,50\n")
    evaluation = read_run(folder).evaluation
    np.testing.assert_array_equal(evaluation["env_steps"], [500, 1000, 2000, 3000])
    np.testing.assert_array_equal(evaluation["score_mean"], [9, 10, 20, 31])


def test_torn_lines_and_missing_columns_are_done_without(tmp_path):
    folder = write_run(tmp_path / "run")
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"env_steps": 4000, "loss/va')
    with (folder / "evaluation.csv").open("a") as file:
        file.write("4000,40,")
    (folder / "config.yaml").write_text("name: [")
    run = read_run(folder)
    assert (run.experiment, run.seed) == ("run", None)
    assert run.metrics["env_steps"].size == run.evaluation["env_steps"].size == 3


def test_runs_with_one_file_are_drawn_and_runs_without_curves_left_out(tmp_path):
    folders = [write_run(tmp_path / kept) for kept in ("evaluation.csv", "metrics.jsonl")]
    for folder in folders:
        for name in {"evaluation.csv", "metrics.jsonl", "config.yaml"} - {folder.name}:
            (folder / name).unlink()
    (tmp_path / "empty").mkdir()
    plot_runs([tmp_path / "empty", *folders], tmp_path / "curve.png")
    assert is_picture(tmp_path / "curve.png")


def test_unknown_training_times_leave_one_panel(tmp_path):
    folder = write_run(tmp_path / "run")
    (folder / "metrics.jsonl").unlink()
    (folder / "evaluation.csv").write_text("env_steps,score_mean\n1000,3\n2000,4\n")
    plot_runs([folder], tmp_path / "curve.png")
    assert is_picture(tmp_path / "curve.png")


def test_nothing_to_plot_is_one_sentence(tmp_path):
    folder = write_run(tmp_path / "run", ())
    with pytest.raises(RunFolderError, match=r"nothing to plot yet: .* in \S+run\.$"):
        plot_runs([folder], tmp_path / "curve.png")
    with pytest.raises(RunFolderError, match="no run folder"):
        plot_runs([tmp_path / "nowhere"], tmp_path / "curve.png")
    with pytest.raises(RunFolderError, match="in no folder"):
        plot_runs([], tmp_path / "curve.png")
    assert not (tmp_path / "curve.png").exists()


def test_a_missing_matplotlib_is_one_sentence(tmp_path, monkeypatch):
    loaded = [name for name in sys.modules if name.startswith("matplotlib.")]
    for name in ["matplotlib", *loaded]:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(
        MissingExtraError, match=r"need matplotlib.*pip install 'muzero-jax\[viz\]'"
    ):
        plot_runs([write_run(tmp_path / "run")], tmp_path / "curve.png")


def test_plotting_chooses_no_backend_and_importing_loads_no_matplotlib(tmp_path):
    write_run(tmp_path / "run")
    program = f"""
import sys
from pathlib import Path
from muzero_jax.reports.plots import plot_runs
assert "matplotlib" not in sys.modules and "jax" not in sys.modules
plot_runs([Path({str(tmp_path / "run")!r})], Path({str(tmp_path / "curve.png")!r}))
assert "matplotlib.pyplot" not in sys.modules
"""
    subprocess.run([sys.executable, "-W", "error", "-c", program], check=True)
