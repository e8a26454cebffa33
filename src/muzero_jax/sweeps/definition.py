"""What a sweep or a study consists of. Nothing here imports JAX."""

import dataclasses
import functools
import json
from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

from muzero_jax.config import ConfigError, ExperimentConfig, traced_settings
from muzero_jax.core.checks import require, require_seed
from muzero_jax.core.dotted import describe_setting
from muzero_jax.core.file_names import MEMBERS_FOLDER
from muzero_jax.settings import config_to_dict
from muzero_jax.sweeps.search_space import MOST_RUNS, Axis, all_settings, check_setting

Pruner = Literal["hyperband", "asha", "none"]


@dataclasses.dataclass(frozen=True)
class Member:
    """One run of a sweep.

    Attributes:
      setting: number of the run's setting.
      config: the run's whole configuration.
      folder: the run folder, relative to the sweep's folder.
      title: a few words that name the run for people.
    """

    setting: int
    config: ExperimentConfig
    folder: str
    title: str


@dataclasses.dataclass(frozen=True)
class Sweep:
    """Settings times seeds.

    Attributes:
      experiment: name of the experiment on the command line.
      base: the configuration that the settings change.
      seeds: each setting is run with each seed.
      settings: changes by dotted name, one mapping for each setting.
      changed: settings in which `base` differs from the experiment's own, by dotted name.
    """

    experiment: str
    base: ExperimentConfig
    seeds: tuple[int, ...]
    settings: tuple[Mapping[str, Any], ...]
    changed: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        _check_seeds(self.seeds)
        if not self.settings:
            raise ConfigError("a sweep needs at least one setting.")

    @property
    def num_runs(self) -> int:
        """How many runs there are."""
        return len(self.settings) * len(self.seeds)

    def describe(self) -> str:
        """A line that says what is run."""
        return f"{self.experiment}: {len(self.settings)} settings, {len(self.seeds)} seeds"

    @property
    def varied(self) -> tuple[str, ...]:
        """The dotted names of the settings that are changed."""
        return tuple(dict.fromkeys(name for setting in self.settings for name in setting))

    def members(self) -> list[Member]:
        """All runs, setting by setting.

        Raises:
          ConfigError: a setting cannot work.
        """
        return list(self._members)

    @functools.cached_property
    def _members(self) -> tuple[Member, ...]:
        pairs = enumerate(self.settings)
        return tuple(m for n, s in pairs for m in make_members(self.base, n, s, self.seeds))

    def to_dict(self) -> dict[str, Any]:
        """The content of `sweep.yaml`."""
        return {
            "experiment": self.experiment,
            "seeds": list(self.seeds),
            "settings": [_plain(setting) for setting in self.settings],
            "changed": _plain(self.changed),
            "base": config_to_dict(self.base),
        }


@dataclasses.dataclass(frozen=True)
class Study:
    """Trials that choose their settings by what earlier ones scored.

    Attributes:
      experiment: name of the experiment on the command line.
      base: the configuration that the settings change.
      seeds: each trial is run with each seed; its objective is the interquartile mean over seeds.
      name: name of the study.
      space: what the trials choose from.
      num_trials: how many trials there are, over all processes.
      pruner: what ends trials early, at their evaluations.
      sample_seed: seed of the choices.
      changed: settings in which `base` differs from the experiment's own, by dotted name.
      is_deterministic: whether the trials go in rounds, see `rounds.RoundTrials`.
      round_size: how many trials a round has; 0 until the study is first run, which makes it the
        number of devices.
    """

    experiment: str
    base: ExperimentConfig
    seeds: tuple[int, ...]
    name: str
    space: tuple[Axis, ...]
    num_trials: int
    pruner: Pruner = "hyperband"
    sample_seed: int = 0
    changed: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    is_deterministic: bool = False
    round_size: int = 0

    def __post_init__(self) -> None:
        _check_seeds(self.seeds)
        if not self.space:
            raise ConfigError("a study needs at least one setting to choose: --set NAME=low..high.")
        self._check_kinds()
        if self.pruner != "none" and not self.base.evaluation.interval:
            raise ConfigError(
                "evaluation.interval is 0, so that no trial could be pruned; set it, or --pruner "
                "none."
            )

    def _check_kinds(self) -> None:
        """Refuses values of the wrong kind, which a file that was edited by hand may hold."""
        name, trials, pruner, rounds = self.name, self.num_trials, self.pruner, self.round_size
        choices, in_rounds = get_args(Pruner), self.is_deterministic
        trials_told = f"trials must be an integer between 1 and {MOST_RUNS:,}"
        for is_right, told, found in (
            (isinstance(name, str), "the study must have a name", name),
            (_is_count(trials) and 1 <= trials <= MOST_RUNS, trials_told, trials),
            (pruner in choices, f"the pruner must be one of {', '.join(choices)}", pruner),
            (isinstance(in_rounds, bool), "deterministic must be true or false", in_rounds),
            (_is_count(rounds), "round_size must be an integer of at least 0", rounds),
        ):
            require(is_right, f"{told}, found {found!r}.")
        require_seed("sample_seed", self.sample_seed)

    @property
    def num_runs(self) -> int:
        """How many runs there are."""
        return self.num_trials * len(self.seeds)

    def describe(self) -> str:
        """A line that says what is run."""
        trials = f"{self.num_trials} trials, {len(self.seeds)} seeds each"
        return f"{self.experiment}, study {self.name}: {trials}"

    @property
    def varied(self) -> tuple[str, ...]:
        """The dotted names of the settings that are chosen."""
        return tuple(axis.name for axis in self.space)

    def members(self) -> list[Member]:
        """The runs that are known before the study begins: none."""
        return []

    def to_dict(self) -> dict[str, Any]:
        """The content of `sweep.yaml`."""
        deterministic = self.is_deterministic
        return {
            "experiment": self.experiment,
            "seeds": list(self.seeds),
            "study": self.name,
            "space": {axis.name: axis.plain() for axis in self.space},
            "trials": self.num_trials,
            "pruner": self.pruner,
            "sample_seed": self.sample_seed,
            "changed": _plain(self.changed),
            **({"deterministic": True, "round_size": self.round_size} if deterministic else {}),
            "base": config_to_dict(self.base),
        }


def make_members(
    base: ExperimentConfig, number: int, setting: Mapping[str, Any], seeds: Sequence[int]
) -> list[Member]:
    """The runs of one setting.

    Args:
      base: the configuration that the setting changes.
      number: number of the setting.
      setting: values by dotted name.
      seeds: each seed is a run.

    Raises:
      ConfigError: the setting cannot work.
    """
    config = check_setting(base, setting)
    return [
        Member(
            setting=number,
            config=dataclasses.replace(config, seed=seed),
            folder=f"{MEMBERS_FOLDER}/setting-{number:03}/seed-{seed}",
            title=f"{describe_setting(setting)}, seed {seed}",
        )
        for seed in seeds
    ]


def group_key(config: ExperimentConfig) -> str:
    """A text that is equal for runs that differ in traced settings and seeds only.

    One compiled program can advance such runs.
    """
    settings = all_settings(config)
    static = {k: v for k, v in settings.items() if k not in (*traced_settings(config), "seed")}
    return json.dumps(static, sort_keys=True)


def group_members(members: Sequence[Member]) -> list[list[Member]]:
    """Members by `group_key`, in the order in which each group first appears."""
    groups: dict[str, list[Member]] = {}
    for member in members:
        groups.setdefault(group_key(member.config), []).append(member)
    return list(groups.values())


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _check_seeds(seeds: Sequence[int]) -> None:
    for seed in seeds:
        require_seed("seeds", seed)
    if not seeds or len(set(seeds)) < len(seeds):
        raise ConfigError(f"a sweep needs seeds that differ, found {list(seeds)}.")


def _plain(setting: Mapping[str, Any]) -> dict[str, Any]:
    return {k: list(v) if isinstance(v, tuple) else v for k, v in setting.items()}
