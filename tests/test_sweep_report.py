"""The table and the page of a sweep, from folders written by hand."""

import csv
import json
import re
import shutil
import sys
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest
import yaml
from tiny_run import TINY

from muzero_jax.cli import main
from muzero_jax.reports import page_figures
from muzero_jax.reports.page_figures import TEXT_PIXELS, WIDTHS
from muzero_jax.reports.sweep_report import write_report
from muzero_jax.reports.sweep_summary import (
    effects,
    is_logarithmic,
    pareto_front,
    summarise_settings,
)
from muzero_jax.reports.sweep_table import SweepFolderError, read_sweep, write_table
from muzero_jax.sweeps.definition import Study
from muzero_jax.sweeps.search_space import parse_axis
from muzero_jax.sweeps.sweep_progress import SweepProgress


def _write_run(folder: Path, setting: int, seed: int, rate: float, *, score=None, seconds=1.0):
    run_dir = folder / f"members/setting-{setting:03}/seed-{seed}"
    run_dir.mkdir(parents=True)
    kind = ["linear", "cosine"][setting % 2]
    settings = {
        "seed": seed,
        "optimizer": {"learning_rate": rate, "schedule": kind},
        "name": "tiny",
    }
    (run_dir / "config.yaml").write_text(yaml.safe_dump(settings))
    metrics = {"env_steps": 64, "num_updates": 5, "time/train_seconds": 0.5, "loss/total": 2.0}
    (run_dir / "metrics.jsonl").write_text(json.dumps(metrics) + '\n{"env_steps": 12')
    if score is None:
        return run_dir
    result = {"score_mean": score, "score_std": 0.0, "env_steps": 128, "train_seconds": seconds}
    result |= {"runs_at_once": 2, "device": "cpu"}
    (run_dir / "result.json").write_text(json.dumps(result))
    lines = [
        "env_steps,num_updates,train_seconds,episodes,score_mean,score_std,score_min,score_max"
    ]
    lines += [f"{step},1,0.1,4,{score * step / 128},0,0,1" for step in (64, 128)]
    (run_dir / "evaluation.csv").write_text("\n".join(lines) + "\n")
    return run_dir


def _write_sweep(folder: Path) -> Path:
    """Three settings of two seeds: good and slow, bad and fast, and one that failed."""
    names = ("optimizer.learning_rate", "optimizer.schedule")
    values = ((0.001, "linear"), (0.01, "cosine"), (0.1, "linear"))
    sweep = {
        "experiment": "tiny",
        "seeds": [0, 1],
        "settings": [dict(zip(names, value, strict=True)) for value in values],
        "changed": {"search.num_simulations": 4, "logging.tensorboard": False},
        "base": {},
    }
    for seed in (0, 1):
        _write_run(folder, 0, seed, 0.001, score=10.0 + seed, seconds=8.0)
        _write_run(folder, 1, seed, 0.01, score=2.0, seconds=4.0)
    failed = _write_run(folder, 2, 0, 0.1)
    outcome = {"status": "failed", "reason": "loss/total was not finite <at> update 3."}
    (failed / "outcome.json").write_text(json.dumps(outcome))
    _write_run(folder, 2, 1, 0.1)
    (folder / "sweep.yaml").write_text(yaml.safe_dump(sweep, sort_keys=False))
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return _write_sweep(tmp_path / "sweep")


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_report(_write_sweep(tmp_path_factory.mktemp("sweeps") / "sweep")).read_text()


@pytest.fixture
def one_width(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages have the drawings for narrow pages only."""
    monkeypatch.setattr(page_figures, "WIDTHS", {"narrow": WIDTHS["narrow"]})


def test_rows_say_what_became_of_each_run(folder):
    sweep = read_sweep(folder)
    assert sweep.varied == ("optimizer.learning_rate", "optimizer.schedule")
    assert [row["status"] for row in sweep.rows] == ["finished"] * 4 + ["failed", "unfinished"]
    assert [row["env_steps"] for row in sweep.rows] == [128] * 4 + [64] * 2
    assert sweep.rows[0]["loss/total"] == 2.0
    assert sweep.rows[4]["train_seconds"] == 0.5


def test_the_csv_begins_with_what_was_varied(folder):
    sweep = read_sweep(folder)
    write_table(folder, sweep.rows, sweep.varied)
    with (folder / "table.csv").open(newline="") as file:
        header, *rows = list(csv.reader(file))
    assert header[:7] == [
        "setting",
        "seed",
        "status",
        "reason",
        "folder",
        "optimizer.learning_rate",
        "optimizer.schedule",
    ]
    assert len(header) == len(set(header)) and len(rows) == 6
    assert not list(folder.glob(".table*"))


def test_settings_are_ranked_by_the_iqm_over_seeds(folder):
    best, second, failed = summarise_settings(read_sweep(folder))
    assert (best.number, best.score.estimate, best.scores) == (0, 10.5, (10.0, 11.0))
    assert best.device_seconds == 4.0  # Two runs shared eight seconds.
    assert (second.number, second.device_seconds) == (1, 2.0)
    assert (failed.number, failed.score) == (2, None)
    assert [summary.number for summary in pareto_front([best, second, failed])] == [1, 0]


def test_the_effect_of_a_setting_is_over_all_runs_with_its_value(folder):
    sweep = read_sweep(folder)
    slow, fast = effects(sweep, "optimizer.learning_rate")
    assert (slow.value, slow.score.estimate) == (0.001, 10.5)
    assert (fast.value, fast.scores) == (0.01, (2.0, 2.0))
    assert [effect.value for effect in effects(sweep, "optimizer.schedule")] == ["cosine", "linear"]
    assert len(effects(sweep, "optimizer.learning_rate", most=1)) == 1
    assert is_logarithmic([0.001, 0.01]) and not is_logarithmic([1, 2])
    assert not is_logarithmic([0.0, 1.0]) and not is_logarithmic([True, False])


def test_one_seed_has_no_interval(page, folder, one_width):
    assert "over 2 seeds" in page
    for other in folder.glob("members/*/seed-0"):
        shutil.rmtree(other)
    told = write_report(folder).read_text()
    assert "Score 11 of one seed." in told and "seeds." not in told


class _Reader(HTMLParser):
    """Checks that tags are closed in order, and keeps what would be fetched."""

    def __init__(self):
        super().__init__()
        self.open: list[str] = []
        self.fetched: list[str] = []

    def handle_starttag(self, tag, attributes):
        if tag not in ("meta", "br"):
            self.open.append(tag)
        for name, value in attributes:
            if name in ("src", "href", "xlink:href") and not value.startswith("#"):
                self.fetched.append(value)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_page_is_whole_and_fetches_nothing(page):
    reader = _Reader()
    reader.feed(page)
    assert reader.open == [] and reader.fetched == []
    assert "url(http" not in page and "@import" not in page
    for heading in ("Learning curves", "Parallel coordinates", "Seeds", "Cost against score"):
        assert f"<h2>{heading}</h2>" in page
    for heading in ("Effect of learning_rate", "Effect of schedule", "Settings", "Failures"):
        assert f"<h2>{heading}</h2>" in page
    assert "loss/total was not finite &lt;at&gt; update 3." in page
    assert "<title>1: learning_rate=0.001, schedule=linear: 10.5, 4 s</title>" in page


def test_the_command_trains_the_best_setting_with_a_new_seed(page):
    (command,) = re.findall(r"<pre>(.*)</pre>", page)
    assert re.sub(r"</?span>", "", command) == (
        "muzero train tiny --seed 2 --search.num_simulations 4 --logging.no_tensorboard "
        "--optimizer.learning_rate 0.001 --optimizer.schedule linear"
    )


def test_a_sweep_without_a_finished_run_has_no_page(folder, tmp_path):
    for result in folder.glob("members/*/*/result.json"):
        result.unlink()
    with pytest.raises(SweepFolderError, match="nothing to report yet"):
        write_report(folder)
    assert not (folder / "report.html").exists()
    with pytest.raises(SweepFolderError, match=r"is not a sweep folder: it holds no sweep.yaml"):
        write_report(tmp_path)
    (folder / "sweep.yaml").write_text("- 1")
    with pytest.raises(SweepFolderError, match="cannot be used"):
        read_sweep(folder)


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("config.yaml", "[]", "config.yaml cannot be used: it holds no settings of a run with a"),
        ("config.yaml", "a: 1", "config.yaml cannot be used: it holds no settings of a run with a"),
        ("config.yaml", "seed: x", "config.yaml cannot be used: it holds no settings of a run"),
        (
            "outcome.json",
            '{"status": "lost"}',
            "outcome.json is damaged: there is no status 'lost'",
        ),
        ("outcome.json", '{"status": [1]}', "outcome.json is damaged: there is no status"),
        ("result.json", '{"score_std": 1}', "result.json is damaged: score_mean is no number"),
    ],
)
def test_a_damaged_file_of_a_run_is_named_in_one_sentence(folder, name, content, told, capsys):
    run_dir = folder / "members/setting-001/seed-1"
    (run_dir / name).write_text(content)
    assert main(["report", str(folder)]) == 2
    error = capsys.readouterr().err
    assert f"{run_dir}/{told}" in error and error.count("\n") == 1
    space = (parse_axis(TINY, "learning_rate=1e-3..1e-2"),)
    progress = SweepProgress(folder, Study("tiny", TINY, (0,), "rates", space, 6), "a study")
    with pytest.raises(SweepFolderError, match="seed-1"):
        progress.finish()


def test_a_folder_of_no_setting_is_named_in_one_sentence(folder, capsys):
    (folder / "members/setting-001").rename(folder / "members/setting-abc")
    assert main(["report", str(folder)]) == 2
    error = capsys.readouterr().err
    assert "setting-abc" in error and error.count("\n") == 1


def test_what_cannot_be_drawn_is_left_out(folder, one_width, tmp_path):
    for run_dir in folder.glob("members/*/*"):
        for name in ("metrics.jsonl", "evaluation.csv"):
            with (run_dir / name).open("ab") as file:
                file.write(b"\n\xff\xfe\n[1]\n" + b"[" * 100_000 + b"\n")
        with (run_dir / "evaluation.csv").open("a") as file:
            file.write("96,1,0.1,4,1e308,0,-1e308,inf\n")
        tree = yaml.safe_load((run_dir / "config.yaml").read_text())
        tree["optimizer"]["schedule"] = "\0\x07\u2603日本"
        (run_dir / "config.yaml").write_text(yaml.safe_dump(tree))
    assert read_sweep(folder).rows[0]["loss/total"] == 2.0
    write_report(folder)
    assert main(["plot", str(run_dir), "--out", str(tmp_path / "curves.png")]) == 0


_SVG = "{http://www.w3.org/2000/svg}"


def _drawings(page: str, name: str = "") -> list[ElementTree.Element]:
    """All drawings of a page, or those of one figure."""
    found = map(ElementTree.fromstring, re.findall(r"<svg .*?</svg>", page, re.DOTALL))
    return [drawing for drawing in found if name in ("", drawing.get("aria-label"))]


def _texts(drawing: ElementTree.Element) -> list[tuple[str, float, float, float]]:
    """Text, left edge, right edge and baseline in pixels of the level texts of a drawing."""
    boxes = []
    for element in drawing.iter(f"{_SVG}text"):
        style = dict(pair.split(": ") for pair in element.get("style").split("; "))
        assert style["font-size"] == f"{TEXT_PIXELS}px"
        if "rotate(-90" not in element.get("transform"):
            length = 0.56 * TEXT_PIXELS * len(element.text)
            left = float(element.get("x"))
            left -= {"start": 0, "middle": 0.5, "end": 1}[style["text-anchor"]] * length
            boxes.append((element.text, left, left + length, float(element.get("y"))))
    return boxes


_NAMES = ("optimizer.learning_rate", "optimizer.schedule")


@pytest.fixture(scope="module")
def varied_page(tmp_path_factory) -> str:
    """The page of 20 settings with long names, many values and scores that lie close together."""
    folder = tmp_path_factory.mktemp("sweeps") / "sweep"
    settings = []
    for number in range(20):
        rate = 1e-5 * 1.2**number
        kind = f"a_schedule_of_$my^own_<b>_with_number_{number % 5}"
        settings.append(dict(zip(_NAMES, (rate, kind), strict=True)))
        for seed in (0, 1):
            score = 100.0 + 7.3 * (number % 7) + seed
            run_dir = _write_run(folder, number, seed, rate, score=score, seconds=9.0 + number % 4)
            tree = yaml.safe_load((run_dir / "config.yaml").read_text())
            tree["optimizer"]["schedule"] = kind
            (run_dir / "config.yaml").write_text(yaml.safe_dump(tree))
    sweep = {"experiment": "tiny", "seeds": [0, 1], "settings": settings}
    (folder / "sweep.yaml").write_text(yaml.safe_dump(sweep, sort_keys=False))
    return write_report(folder).read_text()


def test_texts_of_figures_neither_touch_nor_leave_the_page(varied_page):
    drawings = _drawings(varied_page)
    assert len(drawings) == 2 * 3 + 4 * 2
    assert sum(len(_texts(drawing)) for drawing in drawings) > 100
    for drawing in drawings:
        _, _, width, height = map(float, drawing.get("viewBox").split())
        boxes = _texts(drawing)
        for index, (name, left, right, y) in enumerate(boxes):
            assert left >= 0 and right <= width and 0 < y < height, name
            for other, other_left, other_right, other_y in boxes[:index]:
                if abs(y - other_y) < TEXT_PIXELS:
                    assert right <= other_left or other_right <= left, (name, other)


def test_every_width_of_a_page_has_a_drawing_and_only_one(page):
    """Each drawing has text of 12 pixels in its own width, and is scaled from there."""
    kinds = [drawing.get("class") for drawing in _drawings(page, "Learning curves")]
    assert kinds == list(WIDTHS) == ["narrow", "middle", "broad"]
    assert [drawing.get("class") for drawing in _drawings(page, "Seeds")] == kinds[:2]
    for drawing in _drawings(page):
        assert drawing.get("viewBox").split()[2] == str(WIDTHS[drawing.get("class")])
        assert drawing.get("width") is None
    style = page[page.index("<style>") : page.index("</style>")]
    assert ".figure svg { display: none; width: 100%;" in style
    assert all(f".figure svg.{kind}" in style for kind in kinds)


def test_every_point_says_what_it_is(varied_page):
    told = {
        name: [
            title.text
            for drawing in _drawings(varied_page, name)[:1]
            for title in drawing.iter(f"{_SVG}title")
        ]
        for name in ("Learning curves", "Cost against score", "Seeds", "Parallel coordinates")
    }
    assert {name: len(titles) for name, titles in told.items()} == {
        "Learning curves": 20,
        "Cost against score": 20,
        "Seeds": 10,
        "Parallel coordinates": 20,
    }
    assert all("a_schedule_of_$my^own_<b>_with" in title for title in told["Learning curves"])
    section = varied_page[varied_page.index("<h2>Cost against score</h2>") :]
    front = re.findall(r"</span>(\d+): learning_rate", section[: section.index("</ul>")])
    written = {text for text, *_ in _texts(_drawings(section)[0])}
    assert front and front[0] in written


def test_a_missing_matplotlib_is_one_sentence_and_leaves_no_page(folder, monkeypatch, capsys):
    for name in [name for name in sys.modules if name.partition(".")[0] == "matplotlib"]:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert main(["report", str(folder)]) == 2
    # A slow machine also says what the command does.
    *_, error = capsys.readouterr().err.splitlines()
    assert error.startswith("error: Reports need matplotlib, which is not installed")
    assert not (folder / "report.html").exists()


@pytest.mark.parametrize("number", ["NaN", "-Infinity", "1e300", "1" + "0" * 400])
def test_a_score_that_cannot_be_is_named(number, folder, capsys):
    result = folder / "members/setting-000/seed-0/result.json"
    result.write_text(f'{{"score_mean": {number}, "score_std": 0.0, "train_seconds": 1.0}}')
    assert main(["report", str(folder)]) == 2
    assert f"{result} is damaged: score_mean is no number in it" in capsys.readouterr().err


def test_a_strangers_text_is_no_markup_and_no_formula(varied_page):
    reader = _Reader()
    reader.feed(varied_page)
    assert reader.open == [] and "<b>" not in varied_page
    assert "a_schedule_of_$my^own_&lt;b&gt;_with_number_0" in varied_page


def test_no_line_is_seen_in_a_band_of_parallel_coordinates(varied_page):
    """The bands are drawn over the lines, and all texts over the bands."""
    for drawing in _drawings(varied_page, "Parallel coordinates"):
        kinds = [
            "text" if element.tag == f"{_SVG}text" else _kind_of_path(element)
            for element in drawing.iter()
            if element.tag in (f"{_SVG}text", f"{_SVG}path")
        ]
        drawn = [kind for kind in kinds if kind]
        assert drawn == ["line"] * 20 + ["band"] * 3 + ["text"] * drawn.count("text")
        assert {"learning_rate", "schedule", "score"} <= {text for text, *_ in _texts(drawing)}


def _kind_of_path(path: ElementTree.Element) -> str:
    style = path.get("style") or ""
    if "fill: #f3f4f7" in style:
        return "band"
    return "line" if "fill: none" in style else ""
