"""What a sweep varies: settings that take listed values or a range. Nothing here imports JAX."""

import dataclasses
import itertools
import json
import math
import random
from collections.abc import Mapping, Sequence
from typing import Any

from muzero_jax.config import ConfigError, ExperimentConfig
from muzero_jax.core.dotted import describe_setting, flatten
from muzero_jax.core.plain_yaml import parse_yaml
from muzero_jax.core.settings import check_names, convert, to_plain
from muzero_jax.settings import apply_settings, config_to_dict, setting_types

# Settings that repeat, name or report a run do not make another experiment of it.
_CANNOT_VARY = ("seed", "name", "logging.")
# Each run is a folder with some twenty files.
MOST_RUNS = 100_000


@dataclasses.dataclass(frozen=True)
class Values:
    """A setting, by its dotted name, that takes each of some values."""

    name: str
    values: tuple[Any, ...]

    def grid(self, _: int) -> tuple[Any, ...]:
        """All values, however many points a range would get."""
        return self.values

    def sample(self, generator: random.Random) -> Any:
        """One of the values."""
        return generator.choice(self.values)

    def plain(self) -> list[Any]:
        """What `make_axis` reads, as plain data."""
        plain: list[Any] = to_plain(self.values)
        return plain


@dataclasses.dataclass(frozen=True)
class Range:
    """A setting, by its dotted name, that takes numbers from `low` to `high`, ends included.

    With `is_log` ratios count instead of differences.
    """

    name: str
    low: float
    high: float
    is_log: bool
    is_integer: bool

    def grid(self, num_points: int) -> tuple[float, ...]:
        """`num_points` numbers from end to end, evenly or by a constant factor; no two equal."""
        if num_points == 1:
            return (self.low,)
        points = [self._at(index / (num_points - 1)) for index in range(num_points)]
        return tuple(dict.fromkeys(points))

    def sample(self, generator: random.Random) -> float:
        """One number, uniform or log-uniform."""
        return self._at(generator.random())

    def plain(self) -> str:
        """What `make_axis` reads, as plain data."""
        return f"{self.low!r}..{self.high!r}{':log' if self.is_log else ''}"

    def _at(self, share: float) -> float:
        """The number at a share of the way; the ends themselves are exact."""
        if share in (0.0, 1.0):
            return (self.low, self.high)[int(share)]
        if self.is_log:
            value = math.exp(math.log(self.low) + share * math.log(self.high / self.low))
        else:
            value = self.low + share * (self.high - self.low)
        # A few digits are enough to name a setting by, and 0.001 stays what it looks like.
        return round(value) if self.is_integer else float(f"{value:.6g}")


Axis = Values | Range


def parse_axis(base: ExperimentConfig, text: str) -> Axis:
    """Reads `name=1,2,3`, `name=lo..hi` or `name=lo..hi:log`, where `base` has the settings.

    Raises:
      ConfigError: the text has another form, or see `make_axis`.
    """
    name, equals, values = text.partition("=")
    if not equals or not values:
        raise ConfigError(
            f"cannot vary {text!r}; give NAME=1,2,3 or NAME=low..high or NAME=low..high:log."
        )
    return make_axis(base, name, values)


def make_axis(base: ExperimentConfig, name: str, values: Any) -> Axis:
    """An axis from what a person writes.

    Args:
      base: the settings of which one varies.
      name: name of the setting; its section may be left out where the rest is unique.
      values: a list of values, one value, or a text such as `1e-4..1e-2:log` or `4,16,32`.

    Raises:
      ConfigError: there is no such setting, it cannot vary, or the values do not suit it.
    """
    name = full_name(base, name)
    hint = setting_types(base)[name]
    if name.startswith(_CANNOT_VARY):
        told = "use --seeds" if name == "seed" else "it does not change what is learned"
        raise ConfigError(f"{name} cannot be swept: {told}.")
    if isinstance(values, str) and ".." in values:
        return _parse_range(name, values, hint)
    if isinstance(values, str):
        values = _parse_list(name, values)
    listed = values if isinstance(values, list | tuple) else [values]
    if not listed:
        raise ConfigError(f"{name} needs at least one value to take.")
    if len({str(value) for value in listed}) < len(listed):
        raise ConfigError(f"{name} is given a value twice: {', '.join(map(str, listed))}.")
    return Values(name, tuple(convert(name, value, hint) for value in listed))


def full_name(base: ExperimentConfig, name: str) -> str:
    """The dotted name of a setting of `base` whose section may have been left out.

    Raises:
      ConfigError: there is no such setting, or there are several.
    """
    names = tuple(setting_types(base))
    found = [known for known in names if known.rpartition(".")[2] == name]
    if name in names or not found:
        check_names([name], names)
        return name
    if len(found) > 1:
        raise ConfigError(f"{name} is ambiguous: say {' or '.join(found)}.")
    return found[0]


def make_settings(
    base: ExperimentConfig,
    axes: Sequence[Axis],
    *,
    num_points: int = 5,
    num_samples: int = 0,
    sample_seed: int = 0,
) -> list[dict[str, Any]]:
    """The settings of a sweep: each is a change of `base`, with values by dotted name.

    Args:
      base: the configuration that the settings change.
      axes: the settings that vary.
      num_points: how many values a range has in a grid.
      num_samples: how many settings are drawn; 0 makes every combination.
      sample_seed: seed of the drawing; the same seed draws the same settings.

    Raises:
      ConfigError: an axis is named twice, or a setting cannot work in `base`.
    """
    names = [axis.name for axis in axes]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"{name} is varied twice.")
    if num_samples:
        generator = random.Random(sample_seed)
        settings = [{a.name: a.sample(generator) for a in axes} for _ in range(num_samples)]
    else:
        points = [axis.grid(num_points) for axis in axes]
        check_size(math.prod(map(len, points)))
        combinations = itertools.product(*points)
        settings = [dict(zip(names, values, strict=True)) for values in combinations]
    for setting in settings:
        check_setting(base, setting)
    return settings


def check_size(num_settings: int) -> None:
    """Refuses a sweep of more settings than anybody would wait for, before they are written out."""
    if num_settings > MOST_RUNS:
        raise ConfigError(
            f"the sweep would have {num_settings:,} settings; at most {MOST_RUNS:,} are possible."
        )


def check_setting(base: ExperimentConfig, setting: Mapping[str, Any]) -> ExperimentConfig:
    """`base` with the changes of `setting`.

    Raises:
      ConfigError: the changes cannot work; the message names the setting.
    """
    try:
        return apply_settings(base, setting)
    except ConfigError as error:
        told = f"the setting {describe_setting(setting)} cannot work: {error}"
        raise ConfigError(told) from error


def _parse_range(name: str, text: str, hint: Any) -> Range:
    ends, _, scale = text.partition(":")
    low_text, _, high_text = ends.partition("..")
    if hint not in (int, float):
        raise ConfigError(f"{name} has no range, for it is no number; list its values: {name}=A,B.")
    if scale not in ("", "log", "linear"):
        raise ConfigError(f"the scale of {name}={text} must be log or linear, found {scale!r}.")
    try:
        low, high = hint(float(low_text)), hint(float(high_text))
    except (ValueError, OverflowError) as error:
        raise ConfigError(f"the range {name}={text} needs two numbers, LOW..HIGH.") from error
    if hint is int and (low != float(low_text) or high != float(high_text)):
        raise ConfigError(f"{name} is an integer, found the range {text}.")
    if not low < high:
        raise ConfigError(f"the range {name}={text} is empty: {low:g} is not below {high:g}.")
    if scale == "log" and low <= 0:
        raise ConfigError(f"the range {name}={text} cannot be logarithmic: {low:g} is not above 0.")
    return Range(name, low, high, scale == "log", hint is int)


def _parse_list(name: str, text: str) -> list[Any]:
    """Values between commas; a value may be a list itself, in brackets."""
    try:
        values: list[Any] = parse_yaml(f"[{text}]")
    except ConfigError as error:
        raise ConfigError(f"cannot read the values of {name}: {text!r}.") from error
    return values


def all_settings(config: ExperimentConfig) -> dict[str, Any]:
    """Every setting of a configuration by dotted name."""
    return flatten(config_to_dict(config))


def suggest(trial: Any, axis: Axis) -> Any:
    """Lets Optuna's trial choose the value of a setting; a value from before a kill stays."""
    if not isinstance(axis, Range):
        # Optuna keeps plain values only, but a value may be a list here.
        plain = [json.dumps(v) if isinstance(v, list | tuple) else v for v in axis.values]
        choices = dict(zip(plain, axis.values, strict=True))
        return choices[trial.suggest_categorical(axis.name, plain)]
    if axis.is_integer:
        return trial.suggest_int(axis.name, int(axis.low), int(axis.high), log=axis.is_log)
    return trial.suggest_float(axis.name, axis.low, axis.high, log=axis.is_log)
