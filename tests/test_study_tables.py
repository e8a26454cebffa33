"""Tables of studies, and that those in the docs are of the committed CSVs."""

import dataclasses
from pathlib import Path

from muzero_jax.reports.results import replace_table
from muzero_jax.tabular.study_tables import STUDY_TABLES, StudyTable, make_study_table

ROOT = Path(__file__).parents[1]


def test_medians_with_quartiles_and_what_was_never_reached(tmp_path):
    (tmp_path / "s.csv").write_text(
        "arm,size,seed,steps\na,2,0,10\na,2,1,20\na,2,2,3000\na,10,0,\na,10,1,\na,10,2,5\nb,2,0,0.5\n"
    )
    across = StudyTable("s", ("arm",), (("steps", ""),), across="size")
    assert make_study_table(tmp_path, across).splitlines() == [
        "| arm | size 2 | size 10 |",
        "| --- | --- | --- |",
        "| a | 20 (10 to 3,000) | never (5 to never) |",
        "| b | 0.500 | - |",
    ]
    mean = dataclasses.replace(across, by=("arm", "size"), across="", statistic="mean")
    lines = make_study_table(tmp_path, mean).splitlines()
    assert lines[-1] == "| b | 2 | 0.500 ± 0.000 |"


def test_the_tables_of_the_docs_are_not_stale():
    page = (ROOT / "docs" / "tabular.md").read_text(encoding="utf-8")
    fresh = page
    for table in STUDY_TABLES:
        found = make_study_table(ROOT / "experiments" / "results", table)
        fresh = replace_table(fresh, found, table.study)
    assert page == fresh, "run: python scripts/make_study_tables.py"
