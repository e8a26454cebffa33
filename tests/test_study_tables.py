"""Tables of studies; tests/test_results.py compares the tables in the docs."""

import dataclasses
import runpy
from pathlib import Path


def test_medians_with_quartiles_and_what_was_never_reached(tmp_path):
    root = Path(__file__).resolve().parents[1]
    script = runpy.run_path(str(root / "scripts" / "make_results_table.py"))
    make_study_table = script["make_study_table"]
    (tmp_path / "s.csv").write_text(
        "arm,size,seed,steps\na,2,0,10\na,2,1,20\na,2,2,3000\na,10,0,\na,10,1,\na,10,2,5\nb,2,0,0.5\n"
    )
    across = script["StudyTable"]("s", ("arm",), (("steps", ""),), across="size")
    assert make_study_table(tmp_path, across).splitlines() == [
        "| arm | size 2 | size 10 |",
        "| --- | --- | --- |",
        "| a | 20 (10 to 3,000) | never (5 to never) |",
        "| b | 0.500 | - |",
    ]
    mean = dataclasses.replace(across, by=("arm", "size"), across="", statistic="mean")
    lines = make_study_table(tmp_path, mean).splitlines()
    assert lines[-1] == "| b | 2 | 0.500 ± 0.000 |"
