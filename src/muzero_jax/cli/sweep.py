"""`muzero sweep`: many settings and seeds of an experiment. Nothing here imports JAX by itself."""

import argparse
import dataclasses
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from muzero_jax.cli.benchmark import SentenceParser
from muzero_jax.cli.experiments import is_built_in, load_experiment
from muzero_jax.cli.options import parse_train_options
from muzero_jax.config import ConfigError, ExperimentConfig
from muzero_jax.core.checks import require_seed
from muzero_jax.core.output_paths import check_folder
from muzero_jax.core.plain_yaml import read_yaml
from muzero_jax.core.settings import whole_number
from muzero_jax.core.trust import admit_file, code_references
from muzero_jax.settings import apply_settings
from muzero_jax.sweeps.definition import Study, Sweep
from muzero_jax.sweeps.search_space import (
    MOST_RUNS,
    Axis,
    all_settings,
    check_size,
    full_name,
    make_axis,
    make_settings,
    parse_axis,
)
from muzero_jax.sweeps.sweep_folder import load_sweep

_DESCRIPTION = """\
Trains an experiment with many settings and seeds; seeds and all traced settings share one compiled
program. The same command, or --resume DIR, goes on where a sweep was interrupted.

  muzero sweep cartpole --seeds 5 --set learning_rate=1e-4..1e-2:log num_simulations=4,16 --out D
  muzero sweep cartpole --seeds 5 --set learning_rate=1e-4..1e-2:log --samples 20 --out D
  muzero sweep cartpole --seeds 3 --set learning_rate=1e-4..1e-2:log --study lr --trials 30 --out D
  muzero sweep sweep.yaml --out D

Several processes may run the same study in one folder.
"""
_EPILOG = """\
--set NAME=1,2,3 lists values, NAME=low..high and NAME=low..high:log are ranges; the section of a
name may be left out where the rest is unique. A YAML file holds `experiment` and any of `seeds`,
`set` (NAME: values), `list` (a list of settings, each NAME: value), `points`, `samples`,
`sample_seed`, `study`, `trials`, `pruner`, `deterministic` and `base` (NAME: value, for all). Any
setting of the experiment can be added as --any.setting value.
"""
_YAML = (".yaml", ".yml")
# Options of the command line by name: their placeholder in the help, their kind, and the help.
_OPTIONS: Mapping[str, tuple[str, type | None, str]] = {
    "seeds": ("N", int, "seeds of each setting, from --seed on (default 1)"),
    "points": ("N", int, "values of each range in a grid (default 5)"),
    "samples": ("N", int, "draw N settings at random instead of a grid"),
    "sample_seed": ("N", int, "seed of the drawing (default 0)"),
    "study": ("NAME", str, "choose settings by what earlier ones scored (Optuna)"),
    "trials": ("N", int, "settings that the study tries"),
    "pruner": ("KIND", str, "hyperband, asha or none: what ends trials early"),
    "deterministic": (
        "",
        None,
        "run the trials of a study in rounds, one trial a device, so that the study finds the same "
        "when it is repeated; devices wait for the last trial of a round",
    ),
    "out": ("DIR", str, "folder of the runs and the table"),
    "resume": ("DIR", str, "continue the sweep in DIR"),
    "ray": ("ADDRESS", str, "use a Ray cluster: its address, auto, or local"),
    "devices": ("N", int, "devices to use (default all)"),
    "width": ("N", int, "runs at once (default: what fits)"),
}
_STUDY_OPTIONS = ("trials", "pruner", "deterministic")
_FROM_OPTIONS = ("seeds", "points", "samples", "sample_seed", "study", *_STUDY_OPTIONS)
_FILE_KEYS = ("experiment", "set", "list", "base", *_FROM_OPTIONS)


def sweep(args: Sequence[str]) -> None:
    """Runs what the command line says.

    Raises:
      ConfigError: an option or a setting cannot work; nothing is started.
      RunError: see `sweeps.runner.run_sweep`.
    """
    options, overrides = _parser().parse_known_args(args)
    definition, folder = _read(options, overrides)
    check_folder(folder, "--out")
    num_devices, width = options.devices or 0, options.width or 0
    for name, number in (("devices", num_devices), ("width", width)):
        if number < 0:
            raise ConfigError(f"--{name} must be at least 0, found {number}.")
    if options.ray and num_devices:
        raise ConfigError("--ray uses all devices of the cluster; leave out --devices.")
    from muzero_jax.process.jax_process import prepare_jax

    prepare_jax(chooses_devices=True)
    from muzero_jax.sweeps.runner import run_sweep

    ray = options.ray or ""
    counts = run_sweep(definition, folder, num_devices=num_devices, width=width, ray_address=ray)
    told = ", ".join(f"{number} {name}" for name, number in counts.items() if number)
    print(f"{told}; the table is {folder / 'table.csv'}, and `muzero report {folder}` shows it.")


def _read(options: argparse.Namespace, overrides: Sequence[str]) -> tuple[Sweep | Study, Path]:
    """The sweep that is asked for, and its folder."""
    if options.resume:
        others = [getattr(options, name) for name in ("experiment", "set", "out", *_FROM_OPTIONS)]
        if overrides or any(value not in (None, "", []) for value in others):
            raise ConfigError(f"--resume continues {options.resume} as it is; give no settings.")
        return load_sweep(Path(options.resume)), Path(options.resume)
    if not options.experiment:
        raise ConfigError("name an experiment or a YAML file first; `muzero list` shows all.")
    if not options.out:
        raise ConfigError("--out DIR is missing: where the runs and the table go.")
    return _define(_request(options, overrides), overrides), Path(options.out)


def _request(options: argparse.Namespace, overrides: Sequence[str]) -> dict[str, Any]:
    """What a YAML file says, with the options that win over it."""
    request = {"experiment": options.experiment}
    if options.experiment.endswith(_YAML):
        # What was typed is trusted; the rest comes from the file.
        typed = code_references([*overrides, options.set])
        typed += code_references([text.partition("=")[2] for text in (*overrides, *options.set)])
        request = _read_file(Path(options.experiment), typed)
    for name in _FROM_OPTIONS:
        if getattr(options, name) is not None:
            request[name] = getattr(options, name)
    return {**request, "typed": options.set}


def _read_file(path: Path, typed: Collection[str]) -> dict[str, Any]:
    tree = read_yaml(path, is_typed=True)
    if not isinstance(tree, Mapping) or "experiment" not in tree:
        raise ConfigError(f"{path} must hold a sweep: `experiment: NAME` and what is varied.")
    for key, kind, told in (
        ("set", dict, "NAME: values"),
        ("list", list, "a list of settings"),
        ("base", dict, "NAME: value"),
    ):
        if not isinstance(tree.get(key) or kind(), kind):
            raise ConfigError(f"{path}: `{key}` must be {told}, found {tree[key]!r}.")
    for key in tree:
        if key not in _FILE_KEYS:
            raise ConfigError(f"{path}: unknown {key!r}; there are {', '.join(_FILE_KEYS)}.")
    experiment = str(tree["experiment"])
    named = code_references([tree.get("base"), tree.get("list"), tree.get("set")])
    scripts = [] if is_built_in(experiment) else [experiment]
    admit_file(path, [*scripts, *(name for name in named if name not in typed)])
    return {**tree, "experiment": experiment}


def _define(request: Mapping[str, Any], overrides: Sequence[str]) -> Sweep | Study:
    before, changes = load_experiment(request["experiment"]), request.get("base") or {}
    start = apply_settings(before, {"agent": changes.get("agent", before.agent)})
    start = apply_settings(start, {full_name(start, name): x for name, x in changes.items()})
    base = parse_train_options(overrides, start, "muzero sweep", request["experiment"]).settings
    seeds = _seeds(request.get("seeds", 1), base.seed)
    base = dataclasses.replace(base, seed=0)
    own, now = all_settings(before), all_settings(base)
    changed = {k: v for k, v in now.items() if v != own.get(k) and k not in ("seed", "name")}
    shared = {"experiment": request["experiment"], "base": base, "seeds": seeds, "changed": changed}
    axes = [parse_axis(base, text) for text in request["typed"]]
    axes += [make_axis(base, name, values) for name, values in (request.get("set") or {}).items()]
    request = {**request, "axes": axes}
    if "study" in request:
        return _define_study(request, shared)
    return Sweep(**shared, settings=tuple(_settings(request, base)))


def _define_study(request: Mapping[str, Any], shared: dict[str, Any]) -> Study:
    for name in ("samples", "points", "list"):
        if name in request:
            raise ConfigError(f"a study chooses its settings itself; leave out {name}.")
    if "trials" not in request:
        raise ConfigError("a study needs --trials N: how many settings it tries.")
    for axis in request["axes"]:
        for agent in axis.grid(1) if axis.name == "agent" else ():
            apply_settings(shared["base"], {"agent": agent})  # It refuses what is no agent.
    return Study(
        **shared,
        is_deterministic=request.get("deterministic", False),
        name=str(request["study"]),
        space=tuple(request["axes"]),
        num_trials=_count(request, "trials", 1),
        pruner=request.get("pruner", "hyperband"),
        sample_seed=_sample_seed(request),
    )


def _settings(request: Mapping[str, Any], base: ExperimentConfig) -> list[dict[str, Any]]:
    """The settings of a sweep: those listed, times the grid or the samples of what varies."""
    for name in _STUDY_OPTIONS:
        if name in request:
            raise ConfigError(f"--{name} goes with --study NAME only.")
    num_samples = _count(request, "samples", 0)
    axes: list[Axis] = request["axes"]
    if num_samples and not axes:
        raise ConfigError("--samples needs --set: what to draw.")
    settings = make_settings(
        base,
        axes,
        num_points=_count(request, "points", 5),
        num_samples=num_samples,
        sample_seed=_sample_seed(request),
    )
    listed = [_listed(base, setting) for setting in request.get("list") or ()]
    check_size(len(listed or [{}]) * len(settings))
    return [{**one, **other} for one in listed or [{}] for other in settings]


def _sample_seed(request: Mapping[str, Any]) -> int:
    value = request.get("sample_seed", 0)
    seed = whole_number(value)
    return require_seed("sample_seed", value if seed is None else seed)


def _listed(base: ExperimentConfig, setting: Any) -> dict[str, Any]:
    if not isinstance(setting, Mapping):
        raise ConfigError(f"an entry of `list` must be NAME: value, found {setting!r}.")
    base = apply_settings(base, {"agent": setting.get("agent", base.agent)})
    axes = [make_axis(base, name, [value]) for name, value in setting.items()]
    return {axis.name: axis.grid(1)[0] for axis in axes}


def _seeds(asked: Any, first: int) -> tuple[int, ...]:
    """So many seeds from `first` on, or those of a list."""
    listed = [whole_number(seed) for seed in asked] if isinstance(asked, list) else [None]
    if None not in listed:
        return tuple(seed for seed in listed if seed is not None)
    number = whole_number(asked)
    if number is None or not 1 <= number <= MOST_RUNS:
        raise ConfigError(
            f"seeds must be a number between 1 and {MOST_RUNS:,}, or a list, found {asked!r}."
        )
    return tuple(range(first, first + number))


def _count(request: Mapping[str, Any], name: str, default: int) -> int:
    value = request.get(name, default)
    number = whole_number(value)
    if number is None or not min(default, 1) <= number <= MOST_RUNS:
        raise ConfigError(
            f"{name} must be an integer between 1 and {MOST_RUNS:,}, found {value!r}."
        )
    return number


def _parser() -> argparse.ArgumentParser:
    parser = SentenceParser(
        prog="muzero sweep",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("experiment", nargs="?", default="", help="its name, script, or YAML file")
    told = "settings to vary"
    parser.add_argument(
        "--set", nargs="+", default=[], action="extend", metavar="NAME=VALUES", help=told
    )
    for name, (metavar, kind, told) in _OPTIONS.items():
        flags = dict.fromkeys([f"--{name}", f"--{name.replace('_', '-')}"])
        if kind is None:
            parser.add_argument(*flags, action="store_const", const=True, help=told)
        else:
            parser.add_argument(*flags, type=kind, metavar=metavar, help=told)
    return parser
