"""Trains an experiment with several seeds, one process after the other, and records their scores.

    python scripts/run_seeds.py cartpole --seeds 0 1 2 --out runs/cartpole \
        --results experiments/results/cartpole.csv --threshold 475 [--any.setting value]

The same command, run again, goes on where it was interrupted: it skips finished seeds and resumes
others. Without the run folders it goes on from the results alone: it skips the seeds that they hold
for the same command.
"""

import argparse
import os
import platform
import shlex
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from muzero_jax.cli.options import parse_experiment_options
from muzero_jax.cli.train import TrainOptions
from muzero_jax.config import ConfigError
from muzero_jax.core.dotted import flatten
from muzero_jax.core.file_names import CONFIG_FILE, RESULT_FILE, VERSIONS_FILE
from muzero_jax.core.files import read_json
from muzero_jax.core.terminal import run_program
from muzero_jax.reports.results import IDENTITY, read_scores, update_curves, update_scores
from muzero_jax.reports.runs import read_run
from muzero_jax.settings import config_to_dict


def main(arguments: list[str] | None = None) -> int:
    """Trains the seeds that are not done; returns the exit code."""
    options, overrides = _parse(arguments)
    try:
        failed = [seed for seed in options.seeds if not _run_seed(options, overrides, seed)]
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("Interrupted; the same command goes on from here.", file=sys.stderr)
        return 130
    if failed:
        print(f"Failed seeds: {' '.join(map(str, failed))}.", file=sys.stderr)
    return 1 if failed else 0


def _parse(arguments: list[str] | None) -> tuple[argparse.Namespace, list[str]]:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0],
        epilog="Anything else is passed on to `muzero train`.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("experiment")
    add("--seeds", type=int, nargs="+", required=True)
    add("--out", type=Path, required=True, help="folder of the run folders seed-0, seed-1, ...")
    add("--results", type=Path, required=True, help="the CSV that gets a row for each seed")
    add("--name", help="name of the rows (default: the experiment's name)")
    add("--curves", type=Path, help="a CSV that gets a row for each evaluation of each seed")
    add("--threshold", type=float, help="record the steps of the first evaluation at this score")
    add("--device", help="name of the device in the rows (default: the accelerator or processor)")
    program = str(Path(sys.executable).with_name("muzero"))
    add("--program", default=program, help="the muzero command (default: the one of this Python)")
    return parser.parse_known_args(arguments)


def _run_seed(options: argparse.Namespace, overrides: Sequence[str], seed: int) -> bool:
    """Trains one seed unless it is done, and records its score; returns whether that worked."""
    run_dir = options.out / f"seed-{seed}"
    title = f"{options.name or options.experiment} seed {seed}"
    arguments = ["train", options.experiment, "--seed", str(seed), *overrides]
    command = shlex.join(["muzero", *arguments])
    if changed := _changed_settings(run_dir, options.experiment, [*overrides, f"--seed={seed}"]):
        print(f"{title}: {run_dir} has other settings: {', '.join(changed)}", file=sys.stderr)
        return False
    if not run_dir.exists() and _is_recorded(options, seed, command):
        print(f"{title}: recorded before")
        return True
    was_done = (run_dir / RESULT_FILE).exists()
    total_seconds = None if was_done else _train(options.program, arguments, command, run_dir)
    if not (run_dir / RESULT_FILE).exists():
        print(f"{title}: failed, see {_log_of(run_dir)}", file=sys.stderr)
        return False
    row = _make_row(options, run_dir, seed, total_seconds, command)
    if was_done and _holds(options.results, row):
        print(f"{title}: done before")
        return True
    if options.curves:
        update_curves(options.curves, row["experiment"], seed, read_run(run_dir).evaluation)
    update_scores(options.results, row)
    print(f"{title}: {_describe(row)}", flush=True)
    return True


def _changed_settings(run_dir: Path, experiment: str, overrides: Sequence[str]) -> list[str]:
    """The settings in which the run folder differs from the command line, in words."""
    if not (run_dir / CONFIG_FILE).exists():
        return []
    asked = parse_experiment_options(TrainOptions, [experiment, *overrides], "run_seeds.py")
    now, then = flatten(config_to_dict(asked.settings)), read_run(run_dir).settings
    return [
        f"{name} is {then.get(name)}, asked for {now.get(name)}"
        for name in {**now, **then}
        if now.get(name) != then.get(name)
    ]


def _train(program: str, arguments: Sequence[str], command: str, run_dir: Path) -> float | None:
    """Runs the process; returns its wall-clock in seconds, or None where it resumed a run."""
    resumes = (run_dir / CONFIG_FILE).exists()
    target = ["train", "--resume", str(run_dir)] if resumes else [*arguments, "--out", str(run_dir)]
    run_dir.parent.mkdir(parents=True, exist_ok=True)
    # Without the compilation cache each seed compiles as on a new machine.
    cold = {k: v for k, v in os.environ.items() if k != "JAX_COMPILATION_CACHE_DIR"}
    cold["MUZERO_CACHE_DIR"] = ""
    with _log_of(run_dir).open("a" if resumes else "w", encoding="utf-8") as log:
        print(command, file=log, flush=True)
        start = time.perf_counter()
        process = subprocess.Popen([program, *target], stdout=log, stderr=log, env=cold)
        try:
            process.wait()
        except KeyboardInterrupt:
            # Ctrl-C reaches the process as well, which saves its run and exits.
            process.wait()
            raise
    return None if resumes else time.perf_counter() - start


def _is_recorded(options: argparse.Namespace, seed: int, command: str) -> bool:
    """Whether the results have a row of the seed by the same command, on the device if named."""
    if not options.results.exists():
        return False
    table = read_scores(options.results)
    same = {"experiment": options.name or options.experiment, "seed": seed, "command": command}
    if options.device:
        same["device"] = options.device
    return bool((table[list(same)] == list(same.values())).all(axis=1).any())


def _holds(path: Path, row: Mapping[str, Any]) -> bool:
    """Whether a score file has the row already, perhaps with other scores."""
    if not path.exists():
        return False
    return bool((read_scores(path)[IDENTITY] == [row[name] for name in IDENTITY]).all(axis=1).any())


def _describe(row: Mapping[str, Any]) -> str:
    episodes, seconds = row["episodes"], row["total_seconds"]
    parts = [
        f"score {row['score_mean']:.2f}, lowest {row['score_min']:g} of {episodes} episodes",
        f"{row['env_steps']:,} env steps",
        f"{seconds:.1f} s" if seconds else "unknown wall-clock",
    ]
    if row["threshold"] is not None:
        steps = row["steps_to_threshold"]
        reached = "not reached" if steps is None else f"reached after {steps:,} steps"
        parts.append(f"{row['threshold']:g} {reached}")
    return ", ".join(parts)


def _log_of(run_dir: Path) -> Path:
    return run_dir.with_name(f"{run_dir.name}.log")


def _make_row(
    options: argparse.Namespace, run_dir: Path, seed: int, total_seconds: float | None, command: str
) -> dict[str, Any]:
    result, versions = read_json(run_dir / RESULT_FILE), read_json(run_dir / VERSIONS_FILE)
    packages = {"python": versions["python"], **versions["packages"]}
    measured = ("env_steps", "episodes", "score_mean", "score_std", "score_min", "score_max")
    return {
        "experiment": options.name or options.experiment,
        "seed": seed,
        **{name: result[name] for name in (*measured, "train_seconds", "compile_seconds")},
        "num_updates": result.get("num_updates"),
        "total_seconds": total_seconds,
        "threshold": options.threshold,
        "steps_to_threshold": _steps_to(options.threshold, run_dir),
        "device": options.device or _describe_device(versions["device"]),
        "versions": ", ".join(f"{name} {version}" for name, version in packages.items()),
        "command": command,
    }


def _steps_to(threshold: float | None, run_dir: Path) -> int | None:
    """Environment steps at the first evaluation whose mean reached the threshold."""
    evaluation = read_run(run_dir).evaluation
    if threshold is None or not evaluation:
        return None
    reached = evaluation["env_steps"][evaluation["score_mean"] >= threshold]
    return int(reached[0]) if reached.size else None


def _describe_device(kind: str) -> str:
    """The accelerator that JAX found, or the number of usable cores and the processor's model."""
    if kind.lower() != "cpu":
        return kind
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{cores} cores of {models[0] if models else platform.machine()}"


if __name__ == "__main__":
    sys.exit(run_program(main))
