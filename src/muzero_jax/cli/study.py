"""What the scripts of studies share: their options, and the files that they leave."""

import csv
import dataclasses
import math
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import tyro

from muzero_jax.cli.guard import run_guarded
from muzero_jax.cli.options import Between, parse_options, with_defaults
from muzero_jax.core.stages import announce
from muzero_jax.process.jax_process import prepare_jax
from muzero_jax.reports.extras import import_extra


@dataclasses.dataclass(frozen=True)
class StudyFiles:
    """The name of a study, and the folders of its CSVs and of its figures."""

    name: str
    results: Path
    figures: Path

    def figure(self, suffix: str = ".png") -> Path:
        """The path of a figure."""
        return self.figures / f"{self.name}{suffix}"

    def write_rows(self, rows: Sequence[Mapping[str, Any]], suffix: str = "") -> None:
        """Writes a CSV with the columns of the first row; what is not finite stays empty."""
        path = self.results / f"{self.name}{suffix}.csv"
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows({name: _cell(value) for name, value in row.items()} for row in rows)


def _cell(value: Any) -> Any:
    if not isinstance(value, float):
        return value
    return f"{value:.6g}" if math.isfinite(value) else ""


@dataclasses.dataclass(frozen=True)
class StudyOptions:
    """Options of a study's script."""

    seeds: int = 2
    """How many seeds the study has."""
    out: Annotated[str, tyro.conf.arg(metavar="DIR")] = ""
    """Folder of the CSVs and figures; by default experiments/results and docs/images."""


def run_study(script: str, doc: str, study: Callable[[StudyFiles, int], None], seeds: int) -> None:
    """Runs the study of a script, and exits.

    Args:
      script: path of the script.
      doc: docstring of the script.
      study: runs the study; takes the files to write and the number of seeds.
      seeds: how many seeds the study has unless the command line says otherwise.
    """
    kind = with_defaults(StudyOptions, {"seeds": (Annotated[int, Between(2)], seeds)})
    kind.__doc__ = doc

    def work(args: list[str]) -> None:
        start = time.perf_counter()
        options: StudyOptions = parse_options(kind, args, f"python {sys.argv[0]}")
        here, out = Path(script).resolve().parent, Path(options.out) if options.out else None
        files = StudyFiles(
            Path(script).stem, out or here / "results", out or here.parent / "docs" / "images"
        )
        announce(f"{files.name}: a study of {options.seeds} seeds; its files go to {files.results}")
        prepare_jax()
        # What would stop the study at its end stops it at its beginning.
        import_extra("matplotlib.figure", purpose="Studies", package="matplotlib")
        for folder in (files.results, files.figures):
            folder.mkdir(parents=True, exist_ok=True)
        study(files, options.seeds)
        print(f"{files.name}: {time.perf_counter() - start:.0f} s; files in {files.results}")

    sys.exit(run_guarded(work, sys.argv[1:]))
