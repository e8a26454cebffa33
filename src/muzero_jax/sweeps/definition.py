"""What a sweep or a study consists of. Nothing here imports JAX."""

import dataclasses
import functools
import json
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from muzero_jax.config import ConfigError, ExperimentConfig, traced_settings
from muzero_jax.core.checks import require, require_seed, require_type
from muzero_jax.core.dotted import describe_setting
from muzero_jax.core.file_names import MEMBERS_FOLDER
from muzero_jax.core.settings import to_plain
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
class _Definition:
    """What sweeps and studies have in common.

    Attributes:
      experiment: name of the experiment on the command line.
      base: the configuration that the settings change.
      seeds: each setting is run with each seed.
      changed: settings in which `base` differs from the experiment's own, by dotted name.
    """

    experiment: str
    base: ExperimentConfig
    seeds: tuple[int, ...]
    changed: Mapping[str, Any] = dataclasses.field(default_factory=dict, kw_only=True)

    def __post_init__(self) -> None:
        for seed in self.seeds:
            require_seed("seeds", seed)
        if not self.seeds or len(set(self.seeds)) < len(self.seeds):
            raise ConfigError(f"a sweep needs seeds that differ, found {list(self.seeds)}.")

    def _with(self, own: Mapping[str, Any]) -> dict[str, Any]:
        shared = {"experiment": self.experiment, "seeds": list(self.seeds)}
        base = {"changed": _plain(self.changed), "base": config_to_dict(self.base)}
        return {**shared, **own, **base}


@dataclasses.dataclass(frozen=True)
class Sweep(_Definition):
    """Settings times seeds; `settings` holds the changes of each setting, by dotted name."""

    settings: tuple[Mapping[str, Any], ...]

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.settings:
            raise ConfigError("a sweep needs at least one setting.")

    @property
    def num_runs(self) -> int:
        """How many runs there are."""
        return len(self.settings) * len(self.seeds)

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
        return self._with({"settings": [_plain(setting) for setting in self.settings]})


@dataclasses.dataclass(frozen=True)
class Study(_Definition):
    """Trials that choose their settings by what earlier ones scored.

    The objective of a trial is the interquartile mean over its seeds.

    Attributes:
      name: name of the study.
      space: what the trials choose from.
      num_trials: how many trials there are, over all processes.
      pruner: what ends trials early, at their evaluations.
      sample_seed: seed of the choices.
      is_deterministic: whether the trials go in rounds, see `rounds.RoundTrials`.
      round_size: how many trials a round has; 0 until the study is first run, which makes it the
        number of devices.
    """

    name: str
    space: tuple[Axis, ...]
    num_trials: int
    pruner: Pruner = "hyperband"
    sample_seed: int = 0
    is_deterministic: bool = False
    round_size: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.space:
            raise ConfigError("a study needs at least one setting to choose: --set NAME=low..high.")
        require_type("study", self.name, str)  # A file that was edited by hand may hold anything.
        require_type("pruner", self.pruner, Pruner)
        require_type("deterministic", self.is_deterministic, bool)
        for name, number in (("trials", self.num_trials), ("round_size", self.round_size)):
            require_type(name, number, int)
            least = 1 if name == "trials" else 0
            told = f"{name} must be between {least} and {MOST_RUNS:,}, found {number}."
            require(least <= number <= MOST_RUNS, told)
        require_seed("sample_seed", self.sample_seed)
        if self.pruner != "none" and not self.base.evaluation.interval:
            raise ConfigError(
                "evaluation.interval is 0, so that no trial could be pruned; set it, or --pruner "
                "none."
            )

    @property
    def num_runs(self) -> int:
        """How many runs there are."""
        return self.num_trials * len(self.seeds)

    @property
    def varied(self) -> tuple[str, ...]:
        """The dotted names of the settings that are chosen."""
        return tuple(axis.name for axis in self.space)

    def members(self) -> list[Member]:
        """The runs that are known before the study begins: none."""
        return []

    def to_dict(self) -> dict[str, Any]:
        """The content of `sweep.yaml`."""
        space = {axis.name: axis.plain() for axis in self.space}
        own: dict[str, Any] = {"study": self.name, "space": space, "trials": self.num_trials}
        own |= {"pruner": self.pruner, "sample_seed": self.sample_seed}
        rounds = {"deterministic": True, "round_size": self.round_size}
        return self._with(own | (rounds if self.is_deterministic else {}))


def member_folder(number: int, seed: int) -> str:
    """The folder of a run in the sweep's folder, by the number of its setting and its seed."""
    return f"{MEMBERS_FOLDER}/setting-{number:03}/seed-{seed}"


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
            folder=member_folder(number, seed),
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


def _plain(setting: Mapping[str, Any]) -> dict[str, Any]:
    return {name: to_plain(value) for name, value in setting.items()}
