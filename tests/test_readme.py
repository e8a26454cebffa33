"""The README's quickstart runs, and the page stays short."""

import re
from pathlib import Path

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


def test_quickstart_runs_and_is_short():
    (quickstart,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert len(quickstart.splitlines()) <= 15
    # Fewer environments and iterations take less time, and show as much.
    sizes = "TrainingConfig(num_envs=4, iterations_per_chunk=4)"
    assert "import EnvironmentConfig, " in quickstart and "ExperimentConfig(\n" in quickstart
    quickstart = quickstart.replace(
        "import EnvironmentConfig, ", "import TrainingConfig, EnvironmentConfig, "
    )
    quickstart = quickstart.replace("ExperimentConfig(\n", f"ExperimentConfig(training={sizes},\n")
    names = {}
    exec(compile(quickstart, "README.md", "exec"), names)
    assert names["metrics"]["episode/return"].shape == (3,)
    assert (abs(names["metrics"]["episode/return"]) <= 1.0).all()


def test_readme_is_short_and_its_links_exist():
    assert len(README.splitlines()) < 250
    targets = re.findall(r"\]\(([^)#:]+)\)", README)
    missing = [name for name in targets if not (Path(__file__).parents[1] / name).exists()]
    assert targets and not missing
