"""What the scripts of studies share: their options, and the files that they leave."""

import argparse
import csv
import dataclasses
import math
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from muzero_jax.cli.benchmark import SentenceParser, positive
from muzero_jax.cli.guard import run_guarded
from muzero_jax.core.stages import announce
from muzero_jax.reports.extras import import_extra


@dataclasses.dataclass(frozen=True)
class StudyFiles:
    """Where a study leaves what it found.

    Attributes:
      name: name of the study.
      results: folder of the CSVs.
      figures: folder of the figures.
    """

    name: str
    results: Path
    figures: Path

    def figure(self, suffix: str = ".png") -> Path:
        """The path of a figure."""
        return self.figures / f"{self.name}{suffix}"

    def write_rows(self, rows: Sequence[Mapping[str, Any]], suffix: str = "") -> None:
        """Writes a CSV with the columns of the first row; what is not finite stays empty."""
        path = self.results / f"{self.name}{suffix}.csv"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows({name: _cell(value) for name, value in row.items()} for row in rows)


def _cell(value: Any) -> Any:
    if not isinstance(value, float):
        return value
    return f"{value:.6g}" if math.isfinite(value) else ""


def run_study(script: str, doc: str, study: Callable[[StudyFiles, int], None], seeds: int) -> None:
    """Runs the study of a script, and exits.

    Args:
      script: path of the script.
      doc: docstring of the script.
      study: runs the study; takes the files to write and the number of seeds.
      seeds: how many seeds the study has unless the command line says otherwise.
    """

    def work(args: list[str]) -> None:
        start = time.perf_counter()
        options = _parse(doc, seeds, args)
        here = Path(script).resolve().parent
        files = StudyFiles(
            Path(script).stem,
            options.out or here / "results",
            options.out or here.parent / "docs" / "images",
        )
        announce(f"{files.name}: a study of {options.seeds} seeds; its files go to {files.results}")
        _run(files, study, options.seeds)
        print(f"{files.name}: {time.perf_counter() - start:.0f} s; files in {files.results}")

    sys.exit(run_guarded(work, sys.argv[1:]))


def _parse(doc: str, seeds: int, args: Sequence[str]) -> argparse.Namespace:
    """The options of a study's script.

    Raises:
      ConfigError: an option is unknown, or its value is not allowed.
    """
    parser = SentenceParser(
        prog=f"python {sys.argv[0]}",
        description=doc,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--seeds", type=positive, default=seeds, help=f"default {seeds}")
    parser.add_argument(
        "--out",
        type=Path,
        help="folder of the CSVs and figures; by default experiments/results and docs/images",
    )
    options = parser.parse_args(args)
    if options.seeds < 2:
        parser.error(f"--seeds must be at least 2, found {options.seeds}")
    return options


def _run(files: StudyFiles, study: Callable[[StudyFiles, int], None], num_seeds: int) -> None:
    from muzero_jax.process.jax_process import prepare_jax

    prepare_jax()
    # What would stop the study at its end stops it at its beginning.
    import_extra("matplotlib.figure", purpose="Studies", package="matplotlib")
    for folder in (files.results, files.figures):
        folder.mkdir(parents=True, exist_ok=True)
    study(files, num_seeds)
