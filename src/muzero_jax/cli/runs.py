"""The commands on finished and unfinished runs, and `muzero list`.

Each takes its command line, and raises a `ConfigError` or a `RunError` of one sentence where an
option cannot work, or the run cannot be used.
"""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import tyro

from muzero_jax.agents.registry import BUILT_IN
from muzero_jax.cli.experiments import describe_experiment, find_experiments
from muzero_jax.cli.options import Between, Seed, parse_options
from muzero_jax.config import ConfigError
from muzero_jax.core.dotted import flatten
from muzero_jax.core.files import refuse_links
from muzero_jax.core.output_paths import FileKind, check_file, check_folder
from muzero_jax.core.stages import announce, stage
from muzero_jax.process.jax_process import prepare_jax, require_jax
from muzero_jax.runs.run_folder import load_config

_Episodes = Annotated[int, Between(1, 100_000)]


@dataclasses.dataclass(frozen=True)
class RunOptions:
    """Options of a command that uses a checkpoint of a run."""

    run: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="RUN")]
    """Run folder."""
    checkpoint: Annotated[str, tyro.conf.arg(metavar="STEP")] = ""
    """Checkpoint to use, by its number of environment steps, or best; the newest by default."""
    seed: Seed = 0
    """Seed of the environments; the runs' own evaluations use others."""

    def announce(self, doing: str, what: str) -> None:
        """Says what a command does with the run; refuses what is no run."""
        announce(f"{doing} {self.run}: {what} of {load_config(Path(self.run)).environment.name}")


@dataclasses.dataclass(frozen=True)
class ChangedEnvironment:
    """The environment, where it shall be another than the run's."""

    name: str | None = None
    """Environment to play in, such as another variant of the run's; by default the run's own."""
    time_limit: int | None = None
    """Steps after which an episode is truncated; by default as in the run."""


@dataclasses.dataclass(frozen=True)
class ChangedEvaluation:
    """The evaluation, where it shall be another than the run's."""

    max_episode_steps: int | None = None
    """Steps after which an episode that has not ended is cut; by default as in the run."""
    num_envs: int | None = None
    """Episodes that run at a time; by default as in the run."""


@dataclasses.dataclass(frozen=True)
class ChangedSearch:
    """The search, where it shall be another than the run's."""

    num_simulations: Annotated[int | None, Between(1, 100_000)] = None
    """Simulations a search; by default as in the run."""


@dataclasses.dataclass(frozen=True)
class EpisodeOptions(RunOptions):
    """Options of a command that plays episodes with a checkpoint of a run."""

    environment: ChangedEnvironment = ChangedEnvironment()
    search: ChangedSearch = ChangedSearch()
    evaluation: ChangedEvaluation = ChangedEvaluation()
    episodes: _Episodes = 1
    """Complete episodes."""

    def count(self) -> str:
        """How many episodes are played, in words."""
        return f"{self.episodes} greedy episode{'s' if self.episodes > 1 else ''}"

    def changes(self) -> dict[str, Any]:
        """The settings that shall be others than in the run, by dotted name."""
        names = ("environment", "search", "evaluation")
        sections = {name: vars(getattr(self, name)) for name in names}
        return {name: value for name, value in flatten(sections).items() if value is not None}


@dataclasses.dataclass(frozen=True)
class EvaluateOptions(EpisodeOptions):
    """Plays complete greedy episodes, without noise, with a checkpoint of a run."""

    episodes: _Episodes = 100
    """Complete episodes."""
    acting: str = ""
    """Way of acting, for example prior, or last where averaged parameters are the agent's score;
    by default the agent's first, that of the score."""
    json: bool = False
    """Print one JSON object."""


def evaluate(args: Sequence[str]) -> None:
    """Evaluates the agent of a run, and prints its score."""
    options = parse_options(EvaluateOptions, args, "muzero evaluate")
    options.announce("evaluating", options.count())
    result = _evaluate(options)
    if options.json:
        return print(json.dumps(result))
    cut = result["episodes_cut"]
    told = f", of which {cut} did not end and were cut" if cut else ""
    return print(
        f"score {result['score_mean']:.4g} ± {result['score_std']:.3g} (from "
        f"{result['score_min']:.4g} to {result['score_max']:.4g}) over {result['episodes']} greedy "
        f"episodes of {result['length_mean']:.4g} steps on average{told}, after "
        f"{result['env_steps']:,} environment steps of training"
    )


@dataclasses.dataclass(frozen=True)
class PlayOptions(EpisodeOptions):
    """Plays greedy episodes with a checkpoint of a run, in the terminal and to a GIF."""

    gif: str = ""
    """GIF file to draw them to; by default play.gif in the run folder."""


def play(args: Sequence[str]) -> None:
    """Shows episodes of a run."""
    options = parse_options(PlayOptions, args, "muzero play")
    run_dir, gif = Path(options.run), _output(options.gif, "--gif", "GIF", Path(options.run))
    options.announce("playing", options.count())
    prepare_jax()
    from muzero_jax.viewing.play import play_run

    play_run(
        run_dir,
        episodes=options.episodes,
        gif_path=gif,
        seed=options.seed,
        checkpoint=options.checkpoint,
        changes=options.changes(),
    )


@dataclasses.dataclass(frozen=True)
class InspectOptions(RunOptions):
    """Draws the search tree of one decision of a greedy episode, and prints its numbers."""

    step: Annotated[int, Between(0)] = 0
    """Step of the episode, from 0."""
    out: Annotated[str, tyro.conf.arg(metavar="DIR")] = ""
    """Folder of the pictures; by default inspect/ in the run folder."""


def inspect(args: Sequence[str]) -> None:
    """Shows one decision of a run's agent."""
    options = parse_options(InspectOptions, args, "muzero inspect")
    run_dir = Path(options.run)
    out = Path(options.out or run_dir / "inspect")
    check_folder(out, "--out")
    if not options.out:
        refuse_links(run_dir)
    options.announce("inspecting", f"step {options.step} of a greedy episode")
    prepare_jax()
    from muzero_jax.viewing.inspection import inspect_run

    inspect_run(
        run_dir, step=options.step, seed=options.seed, out=out, checkpoint=options.checkpoint
    )


@dataclasses.dataclass(frozen=True)
class PlotOptions:
    """Draws learning curves; runs that differ in their seeds only become one."""

    runs: Annotated[tyro.conf.Positional[tuple[str, ...]], tyro.conf.arg(metavar="RUN...")]
    """Run folders."""
    out: str = "learning_curves.png"
    """PNG file."""


def plot(args: Sequence[str]) -> None:
    """Draws learning curves to a file, and prints its path."""
    from muzero_jax.reports.plots import plot_runs

    options = parse_options(PlotOptions, args, "muzero plot")
    runs, out = [Path(run) for run in options.runs], Path(options.out)
    check_file(out, "--out", "PNG")
    stage(f"drawing the learning curves of {len(runs)} runs")
    plot_runs(runs, out)
    print(out)


@dataclasses.dataclass(frozen=True)
class ReportOptions:
    """Shows a sweep, finished or not, as one HTML page that opens without a network."""

    sweep: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="SWEEP")]
    """Sweep folder."""
    out: Annotated[str, tyro.conf.arg(metavar="FILE")] = ""
    """HTML file; by default report.html in the sweep folder."""


def report(args: Sequence[str]) -> None:
    """Writes the page of a sweep, and prints its path."""
    from muzero_jax.reports.sweep_report import write_report

    options = parse_options(ReportOptions, args, "muzero report")
    sweep, out = Path(options.sweep), _output(options.out, "--out", "HTML", Path(options.sweep))
    stage(f"reading the runs of {sweep}, and drawing them")
    print(write_report(sweep, out))


@dataclasses.dataclass(frozen=True)
class ListOptions:
    """Lists experiments, agents and environments."""


def list_all(args: Sequence[str]) -> None:
    """Prints the names of all experiments, agents and environments."""
    parse_options(ListOptions, args, "muzero list")
    require_jax()
    from muzero_jax.envs.registry import list_environments

    print("experiments (muzero train NAME):")
    for name, path in find_experiments().items():
        print(f"  {name:<20} {describe_experiment(path)}")
    print("\nagents (--agent NAME, or MODULE:DEFINITION for your own):")
    print(*(f"  {name}" for name in BUILT_IN), sep="\n")
    for suite, names in list_environments().items():
        print(f"\nenvironments, {suite} (--environment.name NAME):")
        print(*(f"  {name}" for name in names), sep="\n")


def _output(named: str, option: str, kind: FileKind, folder: Path) -> Path | None:
    """The file that an option names; None where it stands in the `folder`, without any links."""
    if named:
        check_file(Path(named), option, kind)
        return Path(named)
    refuse_links(folder)
    return None


def _evaluate(options: EvaluateOptions) -> dict[str, Any]:
    prepare_jax()
    from muzero_jax.core.keys import fresh_evaluation_key
    from muzero_jax.runs.build import load_run
    from muzero_jax.tracking.tracker import summarise
    from muzero_jax.training.evaluation import Evaluate

    run = load_run(Path(options.run), options.checkpoint, options.changes())
    episodes = options.episodes
    config = dataclasses.replace(run.config.evaluation, num_episodes=1, final_num_episodes=episodes)
    rng_key = fresh_evaluation_key(options.seed, run.num_env_steps)
    modes, acting = run.agent.greedy, options.acting
    if acting and acting not in modes:
        raise ConfigError(f"--acting must be one of {', '.join(modes)}, found {acting!r}.")
    evaluate = Evaluate(run.env, run.agent, config, act=modes.get(acting))
    stage("compiling")
    evaluate.prepare(run.agent_state)
    stage("playing")
    result = evaluate(run.agent_state, rng_key, episodes)
    return {
        **summarise(result),
        "env_steps": run.num_env_steps,
        "environment": run.config.environment.name,
        "experiment": run.config.name,
        "evaluation_seed": options.seed,
    }
