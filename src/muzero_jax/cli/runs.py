"""The commands on finished and unfinished runs, and `muzero list`."""

import dataclasses
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from muzero_jax.agents.registry import BUILT_IN
from muzero_jax.cli.experiments import describe_experiment, find_experiments
from muzero_jax.cli.run_options import (
    EvaluateOptions,
    InspectOptions,
    ListOptions,
    PlayOptions,
    PlotOptions,
    ReportOptions,
    check_episodes,
    check_seed,
)
from muzero_jax.config import ConfigError
from muzero_jax.core.files import refuse_links
from muzero_jax.core.output_paths import check_file, check_folder
from muzero_jax.core.stages import announce, announced_if_slow, stage
from muzero_jax.process.jax_process import prepare_jax, require_jax
from muzero_jax.runs.run_folder import load_config


def evaluate(options: EvaluateOptions) -> None:
    """Evaluates the agent of a run, and prints its score.

    Raises:
      ConfigError: an option cannot work.
      RunError: the run cannot be read, or its agent does not fit the environment.
    """
    check_episodes(options.episodes)
    check_seed(options.seed)
    _announce("evaluating", options.run, _count(options.episodes))
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


def play(options: PlayOptions) -> None:
    """Shows episodes of a run.

    Raises:
      ConfigError: an option cannot work, or a package for drawing is missing.
      RunError: the run cannot be read.
    """
    check_episodes(options.episodes)
    check_seed(options.seed)
    gif = Path(options.gif) if options.gif else None
    if gif is None:
        refuse_links(Path(options.run))
    else:
        check_file(gif, "--gif", "GIF")
    _announce("playing", options.run, _count(options.episodes))
    prepare_jax()
    from muzero_jax.viewing.play import play_run

    play_run(
        Path(options.run),
        episodes=options.episodes,
        gif_path=gif,
        seed=options.seed,
        checkpoint=options.checkpoint,
        changes={**options.environment.changes(), **options.evaluation.changes()},
    )


def inspect(options: InspectOptions) -> None:
    """Shows one decision of a run's agent.

    Raises:
      ConfigError: an option cannot work, or a package for drawing is missing.
      RunError: the run cannot be read, or its episode ends before the step.
    """
    if options.step < 0:
        raise ConfigError(f"--step must be at least 0, found {options.step}.")
    check_seed(options.seed)
    run_dir = Path(options.run)
    out = Path(options.out) if options.out else run_dir / "inspect"
    if options.out:
        check_folder(out, "--out")
    else:
        refuse_links(run_dir)
    _announce("inspecting", options.run, f"step {options.step} of a greedy episode")
    prepare_jax()
    from muzero_jax.viewing.inspection import inspect_run

    inspect_run(
        run_dir, step=options.step, seed=options.seed, out=out, checkpoint=options.checkpoint
    )


def plot(options: PlotOptions) -> None:
    """Draws learning curves to a file, and prints its path.

    Raises:
      ConfigError: there is nothing to draw, or a package for drawing is missing.
    """
    from muzero_jax.reports.plots import plot_runs

    if not options.runs:
        raise ConfigError("name at least one run folder to plot.")
    runs, out = [Path(run) for run in options.runs], Path(options.out)
    check_file(out, "--out", "PNG")
    with announced_if_slow(f"drawing the learning curves of {len(runs)} runs"):
        plot_runs(runs, out)
    print(out)


def report(options: ReportOptions) -> None:
    """Writes the page of a sweep, and prints its path.

    Raises:
      ConfigError: there is nothing to show.
    """
    from muzero_jax.reports.sweep_report import write_report

    sweep, asked = Path(options.sweep), Path(options.out) if options.out else None
    if asked is None:
        refuse_links(sweep)
    else:
        check_file(asked, "--out", "HTML")
    with announced_if_slow(f"reading the runs of {options.sweep}, and drawing them"):
        out = write_report(sweep, asked)
    print(out)


def list_all(options: ListOptions) -> None:
    """Prints the names of all experiments and environments."""
    del options
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


def _count(episodes: int) -> str:
    return f"{episodes} greedy episode{'s' if episodes > 1 else ''}"


def _announce(doing: str, run: str, what: str) -> None:
    """Says what the command is `doing` with a run, before anything large is imported.

    Raises:
      InvalidRunError: the folder is not a run folder.
    """
    announce(f"{doing} {run}: {what} of {load_config(Path(run)).environment.name}")


def _evaluate(options: EvaluateOptions) -> dict[str, Any]:
    prepare_jax()
    from muzero_jax.core.keys import fresh_evaluation_key
    from muzero_jax.runs.build import load_run
    from muzero_jax.tracking.tracker import summarise
    from muzero_jax.training.evaluation import Evaluate

    changes = {**options.environment.changes(), **options.evaluation.changes()}
    run = load_run(Path(options.run), options.checkpoint, changes)
    episodes = options.episodes
    config = dataclasses.replace(run.config.evaluation, num_episodes=1, final_num_episodes=episodes)
    rng_key = fresh_evaluation_key(options.seed, run.num_env_steps)
    evaluate = Evaluate(run.env, run.agent, config, act=_acting(run.agent.greedy, options.acting))
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


def _acting(modes: Mapping[str, Any], name: str) -> Any:
    """The agent's acting mode of a name; None, for the first mode, where the name is empty.

    Raises:
      ConfigError: the agent has no such mode.
    """
    if name and name not in modes:
        raise ConfigError(f"--acting must be one of {', '.join(modes)}, found {name!r}.")
    return modes.get(name)


COMMANDS: Mapping[str, tuple[type[Any], Callable[[Any], None]]] = {
    "evaluate": (EvaluateOptions, evaluate),
    "play": (PlayOptions, play),
    "inspect": (InspectOptions, inspect),
    "plot": (PlotOptions, plot),
    "report": (ReportOptions, report),
    "list": (ListOptions, list_all),
}
