"""`muzero sweep`: many settings and seeds of an experiment. Nothing here imports JAX by itself."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import tyro

from muzero_jax.cli.experiments import is_built_in, load_experiment
from muzero_jax.cli.guard import asks_for_help
from muzero_jax.cli.options import (
    Between,
    ExperimentOptions,
    Seed,
    experiment_first,
    option_value,
    parse_options,
    untyped_references,
)
from muzero_jax.config import ConfigError, ExperimentConfig
from muzero_jax.core.output_paths import check_folder
from muzero_jax.core.plain_yaml import read_yaml
from muzero_jax.core.settings import convert
from muzero_jax.core.trust import admit_file
from muzero_jax.process.jax_process import prepare_jax
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

_Number = Annotated[int | None, Between(1, MOST_RUNS), tyro.conf.arg(metavar="N")]
_Folder = Annotated[str, tyro.conf.arg(metavar="DIR")]


@dataclasses.dataclass(frozen=True)
class SweepOptions(ExperimentOptions):
    """Trains an experiment with many settings and seeds; a YAML file may say the same.

    Seeds and all traced settings share one compiled program. The same command, or --resume DIR,
    goes on where a sweep was interrupted. Several processes may run the same study in one folder.

      muzero sweep cartpole --seeds 5 --set learning_rate=1e-4..1e-2:log num_simulations=4,8 --out D
      muzero sweep cartpole --seeds 5 --set learning_rate=1e-4..1e-2:log --samples 20 --out D
      muzero sweep cartpole --seeds 3 --set epsilon=0..0.2 --study s --trials 30 --out D
      muzero sweep sweep.yaml --out D

    --set NAME=1,2,3 lists values, NAME=low..high and NAME=low..high:log are ranges; the section of
    a name may be left out where the rest is unique. A YAML file holds `experiment` and any of
    `seeds`, `set` (NAME: values), `list` (a list of settings, each NAME: value), `points`,
    `samples`, `sample_seed`, `study`, `trials`, `pruner`, `deterministic` and `base` (NAME: value,
    for all). Any setting of the experiment can be added as --any.setting value.
    """

    set: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME=VALUES")] = ()
    """Settings to vary."""
    seeds: _Number = None
    """Seeds of each setting, from --seed on; 1 by default."""
    points: _Number = None
    """Values of each range in a grid; 5 by default."""
    samples: _Number = None
    """Draw so many settings at random instead of a grid."""
    sample_seed: Seed = 0
    """Seed of the drawing."""
    study: Annotated[str, tyro.conf.arg(metavar="NAME")] = ""
    """Choose settings by what earlier ones scored (Optuna); the name of the study."""
    trials: _Number = None
    """Settings that the study tries."""
    pruner: Annotated[str, tyro.conf.arg(metavar="KIND")] = ""
    """hyperband (the default), asha or none: what ends trials early."""
    deterministic: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Run the trials of a study in rounds, one trial a device, so that the study finds the same
    when it is repeated; devices wait for the last trial of a round."""
    out: _Folder = ""
    """Folder of the runs and the table."""
    resume: _Folder = ""
    """Continue the sweep in this folder."""
    ray: Annotated[str, tyro.conf.arg(metavar="ADDRESS")] = ""
    """Use a Ray cluster: its address, auto, or local."""
    devices: Annotated[int, Between(0)] = 0
    """Devices to use; 0 takes all."""
    width: Annotated[int, Between(0)] = 0
    """Runs at once; 0 takes what fits."""

    def given(self, *names: str) -> list[str]:
        """Those of the options that have another value than by default."""
        return [name for name in names if getattr(self, name) != getattr(SweepOptions, name)]


_STUDY_OPTIONS = ("trials", "pruner", "deterministic")
_FROM_OPTIONS = ("seeds", "points", "samples", "sample_seed", "study", *_STUDY_OPTIONS)
_SECTIONS: Mapping[str, tuple[type, str]] = {
    "set": (dict, "NAME: values"),
    "list": (list, "a list of settings"),
    "base": (dict, "NAME: value"),
}
_FILE_KEYS = ("experiment", *_SECTIONS, *_FROM_OPTIONS)


def sweep(args: Sequence[str]) -> None:
    """Runs what the command line says; nothing is started where an option cannot work."""
    options, definition = _read(args)
    folder = Path(options.resume or options.out)
    check_folder(folder, "--out")
    if options.ray and options.devices:
        raise ConfigError("--ray uses all devices of the cluster; leave out --devices.")
    prepare_jax(chooses_devices=True)
    from muzero_jax.sweeps.runner import run_sweep

    sizes = {"num_devices": options.devices, "width": options.width}
    counts = run_sweep(definition, folder, **sizes, ray_address=options.ray)
    told = ", ".join(f"{number} {name}" for name, number in counts.items() if number)
    print(f"{told}; the table is {folder / 'table.csv'}, and `muzero report {folder}` shows it.")


def _read(args: Sequence[str]) -> tuple[SweepOptions, Sweep | Study]:
    """The options of a command line, and the sweep that it asks for."""
    (name, own), prog = experiment_first(args), "muzero sweep"
    if folder := option_value("resume", args):
        options = parse_options(SweepOptions, own, prog, ExperimentConfig())
        if name or options.changes or options.given("set", "out", "config", *_FROM_OPTIONS):
            raise ConfigError(f"--resume continues {folder} as it is; give no settings.")
        return options, load_sweep(Path(folder))
    if not name and not asks_for_help(args):
        raise ConfigError("name an experiment or a YAML file first; `muzero list` shows all.")
    file: dict[str, Any] = {"experiment": name}
    if name.endswith((".yaml", ".yml")):
        file = _read_file(Path(name), args)
    before = load_experiment(file["experiment"]) if name else ExperimentConfig()
    changes = file.get("base") or {}
    start = apply_settings(before, {"agent": changes.get("agent", before.agent)})
    start = apply_settings(start, {full_name(start, key): x for key, x in changes.items()})
    given = {key: x for key, x in file.items() if key in _FROM_OPTIONS}
    options = parse_options(SweepOptions, own, prog, start, given)
    if not options.out:
        raise ConfigError("--out DIR is missing: where the runs and the table go.")
    return options, _define(options, file, before)


def _read_file(path: Path, args: Sequence[str]) -> dict[str, Any]:
    """What a YAML file asks for; what was typed is trusted, and the rest comes from the file."""
    tree = read_yaml(path, is_typed=True)
    if not isinstance(tree, Mapping) or "experiment" not in tree:
        raise ConfigError(f"{path} must hold a sweep: `experiment: NAME` and what is varied.")
    for key, value in tree.items():
        if key not in _FILE_KEYS:
            raise ConfigError(f"{path}: unknown {key!r}; there are {', '.join(_FILE_KEYS)}.")
        kind, told = _SECTIONS.get(key, (object, ""))
        if not isinstance(value or kind(), kind):
            raise ConfigError(f"{path}: `{key}` must be {told}, found {value!r}.")
    experiment = str(tree["experiment"])
    scripts = [] if is_built_in(experiment) else [experiment]
    named = untyped_references([tree.get(name) for name in _SECTIONS], args)
    admit_file(path, [*scripts, *named])
    tree = {**tree, "experiment": experiment}
    if isinstance(listed := tree.get("seeds"), list):
        del tree["seeds"]
        tree["listed_seeds"] = convert("seeds", listed, tuple[int, ...])
    return tree


def _define(
    options: SweepOptions, file: Mapping[str, Any], before: ExperimentConfig
) -> Sweep | Study:
    """The sweep or study that is asked for, of an experiment with the settings `before`."""
    first = options.settings.seed
    seeds = tuple(range(first, first + (options.seeds or 1)))
    if options.seeds is None:
        seeds = file.get("listed_seeds", seeds)
    base = dataclasses.replace(options.settings, seed=0)
    own, now = all_settings(before), all_settings(base)
    changed = {k: v for k, v in now.items() if v != own.get(k) and k not in ("seed", "name")}
    shared = {"experiment": file["experiment"], "base": base, "seeds": seeds, "changed": changed}
    axes = [parse_axis(base, text) for text in options.set]
    axes += [make_axis(base, name, values) for name, values in (file.get("set") or {}).items()]
    listed = [_listed(base, setting) for setting in file.get("list") or ()]
    if options.study:
        return _define_study(options, axes, listed, shared)
    if wrong := options.given(*_STUDY_OPTIONS):
        raise ConfigError(f"--{wrong[0]} goes with --study NAME only.")
    if options.samples and not axes:
        raise ConfigError("--samples needs --set: what to draw.")
    settings = make_settings(
        base,
        axes,
        num_points=options.points or 5,
        num_samples=options.samples or 0,
        sample_seed=options.sample_seed,
    )
    check_size(len(listed or [{}]) * len(settings))
    products = [{**one, **other} for one in listed or [{}] for other in settings]
    return Sweep(**shared, settings=tuple(products))


def _define_study(
    options: SweepOptions, axes: Sequence[Axis], listed: Sequence[Any], shared: dict[str, Any]
) -> Study:
    if wrong := [*options.given("samples", "points"), *(["list"] if listed else [])]:
        raise ConfigError(f"a study chooses its settings itself; leave out {wrong[0]}.")
    if options.trials is None:
        raise ConfigError("a study needs --trials N: how many settings it tries.")
    for axis in axes:
        for agent in axis.grid(1) if axis.name == "agent" else ():
            apply_settings(shared["base"], {"agent": agent})  # It refuses what is no agent.
    return Study(
        **shared,
        is_deterministic=options.deterministic,
        name=options.study,
        space=tuple(axes),
        num_trials=options.trials,
        pruner=options.pruner or "hyperband",  # type: ignore[arg-type]
        sample_seed=options.sample_seed,
    )


def _listed(base: ExperimentConfig, setting: Any) -> dict[str, Any]:
    if not isinstance(setting, Mapping):
        raise ConfigError(f"an entry of `list` must be NAME: value, found {setting!r}.")
    base = apply_settings(base, {"agent": setting.get("agent", base.agent)})
    axes = [make_axis(base, name, [value]) for name, value in setting.items()]
    return {axis.name: axis.grid(1)[0] for axis in axes}
