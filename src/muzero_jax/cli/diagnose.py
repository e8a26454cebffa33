"""`muzero diagnose`: which limit binds the learning of a run, in numbers with advice."""

import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from muzero_jax.cli.options import Between, parse_options
from muzero_jax.cli.runs import RunOptions
from muzero_jax.config import ConfigError
from muzero_jax.core.files import refuse_links
from muzero_jax.core.output_paths import check_file
from muzero_jax.process.jax_process import prepare_jax

if TYPE_CHECKING:
    from muzero_jax.viewing.diagnosis import RunDiagnosis

_FIGURE_FILE = "diagnosis.png"


@dataclasses.dataclass(frozen=True)
class DiagnoseOptions(RunOptions):
    """Says which limit binds the learning of a run, with one line of advice for each number.

    The ring is read for its distinct observations, for an agent with a replay. The agent plays
    greedy episodes: how often it explores applies to every agent with discrete actions, and the
    error of its values to every agent that learns values and has a setting called discount. The
    preferences of the prior need an agent that searches. The errors of the model along the agent's
    own and along random actions need an agent with a learned model. What does not apply is said.
    """

    depth: Annotated[int, Between(1, 1_000)] = 5
    """Steps for which the learned model is unrolled."""
    steps: Annotated[int, Between(1, 100_000)] = 1_000
    """Greedy steps that are played in each of 8 environments; at least as many as the depth."""
    true_model: bool = False
    """Also compare the score with that of the same search of the true environment, which costs
    environment steps for every simulation."""
    episodes: Annotated[int, Between(1, 100_000)] = 32
    """Complete episodes of that comparison."""
    out: Annotated[str, tyro.conf.arg(metavar="FILE")] = ""
    """PNG file for the errors of the model; by default diagnosis.png in the run folder."""
    json: bool = False
    """Print one JSON object."""


def diagnose(args: Sequence[str]) -> None:
    """Diagnoses a run: prints its numbers with advice, and draws the errors of its model."""
    options = parse_options(DiagnoseOptions, args, "muzero diagnose")
    run_dir = Path(options.run)
    if options.out:
        check_file(Path(options.out), "--out", "PNG")
    if options.steps < options.depth:
        raise ConfigError(f"--steps ({options.steps}) must be at least --depth ({options.depth}).")
    options.announce("diagnosing", f"{options.steps:,} greedy steps in each of 8 environments")
    if not options.out:
        refuse_links(run_dir)
    prepare_jax()
    from muzero_jax.training.diagnosis import DiagnosisSizes
    from muzero_jax.viewing.diagnosis import diagnose_run

    found = diagnose_run(
        run_dir,
        sizes=DiagnosisSizes(num_steps=options.steps, num_depths=options.depth),
        seed=options.seed,
        checkpoint=options.checkpoint,
        true_model_episodes=options.episodes if options.true_model else 0,
    )
    _show(found, options)


def _show(found: "RunDiagnosis", options: DiagnoseOptions) -> None:
    """Prints a diagnosis, and draws it where matplotlib is installed and a model was measured."""
    from rich.console import Console

    from muzero_jax.reports.diagnosis_plots import plot_model_errors
    from muzero_jax.reports.extras import MissingExtraError
    from muzero_jax.viewing.diagnosis import print_diagnosis

    if options.json:
        print(json.dumps(found.as_dict()))
    else:
        print_diagnosis(found, Console())
    if "model/value_error_at_depth_1_own" not in found.metrics:
        return
    out = Path(options.out or Path(options.run) / _FIGURE_FILE)
    title = f"{found.facts['experiment']} after {found.facts['env_steps']:,} environment steps"
    try:
        plot_model_errors(found.metrics, title, out)
    except MissingExtraError as error:
        if options.out:
            raise
        print(f"notice: the figure is left out. {error}", file=sys.stderr)
    else:
        print(f"figure: {out}", file=sys.stderr if options.json else sys.stdout)
