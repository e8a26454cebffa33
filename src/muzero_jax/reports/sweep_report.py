"""A sweep as one HTML page that opens without a network."""

import shlex
from collections.abc import Iterable, Iterator, Sequence
from html import escape
from pathlib import Path
from typing import Any

from muzero_jax.core.dotted import describe_setting, short_value
from muzero_jax.core.file_names import REPORT_FILE, TABLE_FILE
from muzero_jax.core.files import write_text
from muzero_jax.reports.statistics import Interval
from muzero_jax.reports.sweep_figures import (
    cost_against_score,
    learning_curves,
    marginal_effect,
    parallel_coordinates,
    seed_scatter,
)
from muzero_jax.reports.sweep_summary import (
    Effect,
    SettingSummary,
    device_seconds,
    effects,
    summarise_settings,
)
from muzero_jax.reports.sweep_table import STATUSES, SweepFolderError, SweepRecord, read_sweep

_MOST_ROWS = 100
_NOTES = {
    "curves": "Greedy evaluation score, interquartile mean over seeds with its 95 % bootstrap "
    "interval. The best settings are coloured; a line shows its setting under the mouse.",
    "lines": "Each line is a setting, from its values down to its score; the brighter, the better.",
    "seeds": "Every dot is a run; the bar is the interquartile mean with its 95 % interval. One "
    "lucky seed does not make a good setting. The table of settings says what the ranks are.",
    "cost": "Every dot is a setting. The line joins the settings that no other beats in both score "
    "and cost; they are numbered by their ranks where there is room, and named below the chart.",
    "effect": "All finished runs with a value, whatever else they differ in: interquartile mean "
    "and 95 % interval.",
}


def write_report(folder: Path, out: Path | None = None) -> Path:
    """Writes the page of a sweep, whether the sweep is finished or not; returns the file.

    Args:
      folder: the sweep's folder.
      out: the HTML file to write; `report.html` in the sweep's folder where None.

    Raises:
      SweepFolderError: the folder is not a sweep folder, or no run of the sweep has a score yet.
      MissingExtraError: matplotlib is not installed.
    """
    sweep = read_sweep(folder)
    summaries = summarise_settings(sweep)
    if not any(summary.score for summary in summaries):
        raise SweepFolderError(f"there is nothing to report yet: no run in {folder} is finished.")
    out = out or folder / REPORT_FILE
    out.parent.mkdir(parents=True, exist_ok=True)
    write_text(out, _page(sweep, summaries))
    return out


def _page(sweep: SweepRecord, summaries: Sequence[SettingSummary]) -> str:
    count = "1 setting" if len(summaries) == 1 else f"{len(summaries)} settings"
    title = f"{escape(Path(sweep.experiment).stem)}: {count}"
    sections = "".join(_sections(sweep, summaries))
    style = Path(__file__).with_name("sweep_report.css").read_text(encoding="utf-8")
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{title}</title>\n<style>\n{style}</style>\n</head>\n<body>\n<main>\n"
        f"<h1>{title}</h1>\n{_facts(sweep, summaries)}\n{_best(sweep, summaries[0])}\n"
        f'<div class="cards">\n{sections}</div>\n</main>\n</body>\n</html>\n'
    )


def _sections(sweep: SweepRecord, summaries: Sequence[SettingSummary]) -> Iterator[str]:
    varied = [name for name in sweep.varied if len({str(row.get(name)) for row in sweep.rows}) > 1]
    curves = learning_curves(sweep, summaries)
    yield _section("Learning curves", _NOTES["curves"], curves, wide=True)
    if varied:
        lines = parallel_coordinates(summaries, varied)
        yield _section("Parallel coordinates", _NOTES["lines"], lines, wide=True)
    yield _section("Seeds", _NOTES["seeds"], seed_scatter(summaries))
    yield _section("Cost against score", _NOTES["cost"], cost_against_score(summaries))
    for name in varied:
        short, found = name.rpartition(".")[2], effects(sweep, name)
        content = marginal_effect(short, found) + _effects_table(found)
        yield _section(f"Effect of {short}", _NOTES["effect"], content)
    yield _ranking(summaries, sweep.varied)
    yield _failures(sweep)


def _section(heading: str, note: str, content: str, *, wide: bool = False) -> str:
    kind = ' class="wide"' if wide else ""
    told = f"<p>{note}</p>\n" if note else ""
    return f"<section{kind}>\n<h2>{escape(heading)}</h2>\n{told}{content}\n</section>\n"


def _facts(sweep: SweepRecord, summaries: Sequence[SettingSummary]) -> str:
    statuses = [row["status"] for row in sweep.rows]
    devices = dict.fromkeys(str(row["device"]) for row in sweep.rows if "device" in row)
    facts = {
        "Experiment": Path(sweep.experiment).stem,
        "Settings": str(len(summaries)),
        **{f"Runs {name}": str(statuses.count(name)) for name in STATUSES if name in statuses},
        "Device hours of training": f"{sum(map(device_seconds, sweep.rows)) / 3600:.3g}",
        "Device": ", ".join(devices),
    }
    items = [f"<div><dt>{escape(k)}</dt><dd>{escape(v)}</dd></div>" for k, v in facts.items()]
    return f"<dl>{''.join(items)}</dl>"


def _best(sweep: SweepRecord, best: SettingSummary) -> str:
    """The best setting, with a command that trains it with a seed that the sweep has not used."""
    seeds = [row["seed"] for row in sweep.rows]
    changes = {**sweep.changed, **best.values}
    options = [["--seed", str(max(seeds) + 1)], *(_option(k, v) for k, v in changes.items())]
    # A line may end between two options only, not after the hyphens of one.
    parts = [shlex.join(part) for part in (["muzero", "train", sweep.experiment], *options)]
    command = " ".join(f"<span>{escape(part)}</span>" for part in parts)
    told = f"Score {best.estimate:.4g} of one seed."
    if len(best.scores) > 1:
        estimate, interval, count = _score_cells(best.scores, best.score)
        told = f"Interquartile mean {estimate}, 95 % interval {interval}, over {count} seeds."
    told += " With a seed that the sweep has not used:"
    return f"<h2>Best setting</h2><p>{told}</p><pre>{command}</pre>"


def _option(name: str, value: Any) -> list[str]:
    if isinstance(value, bool):
        section, dot, last = name.rpartition(".")
        return [f"--{name}" if value else f"--{section}{dot}no_{last}"]
    return [f"--{name}", *map(str, value if isinstance(value, list) else [value])]


_SCORE_COLUMNS = ("score (IQM)", "95 % interval", "runs")


def _score_cells(scores: Sequence[float], score: Interval | None) -> list[str]:
    """The cells below `_SCORE_COLUMNS`; one score has no interval."""
    interval = f"{score.low:.4g} to {score.high:.4g}" if score and len(scores) > 1 else ""
    return [f"{score.estimate:.4g}" if score else "", interval, str(len(scores))]


def _effects_table(found: Iterable[Effect]) -> str:
    rows = [[short_value(one.value), *_score_cells(one.scores, one.score)] for one in found]
    return _table(["value", *_SCORE_COLUMNS], rows)


def _ranking(summaries: Sequence[SettingSummary], varied: Sequence[str]) -> str:
    # The scores come first, where a narrow window shows them without scrolling.
    header = ["#", *_SCORE_COLUMNS, "device s", *(name.rpartition(".")[2] for name in varied)]
    rows = []
    for rank, one in enumerate(summaries[:_MOST_ROWS], start=1):
        measured = [*_score_cells(one.scores, one.score), f"{one.device_seconds:.3g}"]
        if not one.score:
            measured = [", ".join(dict.fromkeys(one.statuses)), "", "0", ""]
        rows.append([str(rank), *measured, *(short_value(one.values[name]) for name in varied)])
    note = f"The best {_MOST_ROWS}; {TABLE_FILE} has all." if len(summaries) > _MOST_ROWS else ""
    return _section("Settings", note, _table(header, rows), wide=True)


def _failures(sweep: SweepRecord) -> str:
    failed = [row for row in sweep.rows if row["status"] == "failed"]
    if not failed:
        return ""
    settings = [describe_setting({name: row.get(name) for name in sweep.varied}) for row in failed]
    pairs = zip(settings, failed, strict=True)
    rows = [[setting, str(row["seed"]), str(row["reason"])] for setting, row in pairs]
    return _section("Failures", "", _table(["setting", "seed", "reason"], rows), wide=True)


def _table(header: Iterable[str], rows: Iterable[Sequence[str]]) -> str:
    head = "".join(f"<th>{escape(name)}</th>" for name in header)
    body = "".join("<tr>" + "".join(_cell(cell) for cell in row) + "</tr>\n" for row in rows)
    table = f"<table><thead><tr>{head}</tr></thead><tbody>\n{body}</tbody></table>"
    return f'<div class="scroll">{table}</div>'


def _cell(text: str) -> str:
    return f"<td{' class=long' if len(text) > 40 else ''}>{escape(text)}</td>"
