"""Scales of charts: where a number lies along an axis, and which numbers are written beside it."""

import dataclasses
import math
from collections.abc import Iterable

_SUFFIXES = ((1e9, "G"), (1e6, "M"), (1e3, "k"))
_STEPS = (1.0, 2.0, 5.0)
# An axis that shows a single number extends over this share of the number.
_LEAST_SPAN = 0.2


@dataclasses.dataclass(frozen=True)
class Scale:
    """An axis.

    Attributes:
      low: number at the beginning of the axis.
      high: number at the end of the axis, above `low`.
      is_logarithmic: whether equal ratios are equally far apart; then `low` is above 0.
    """

    low: float
    high: float
    is_logarithmic: bool = False

    def share(self, value: float) -> float:
        """Where a number lies: 0 at the beginning of the axis, 1 at its end."""
        low, high, value = (self._flat(number) for number in (self.low, self.high, value))
        return (value - low) / (high - low)

    def ticks(self, most: int = 6) -> list[float]:
        """At most `most` round numbers within the axis, ascending."""
        if self.is_logarithmic:
            for steps in ((1.0,), _STEPS):
                found = self._powers(steps)
                if 2 <= len(found) <= most:
                    return found
            decades = self._powers((1.0,))
            if len(decades) > most:
                return decades[:: math.ceil(len(decades) / most)]
        step = _round_step((self.high - self.low) / (most - 1))
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        return [number * step for number in range(first, last + 1)]

    def _flat(self, value: float) -> float:
        return math.log(value) if self.is_logarithmic else value

    def _powers(self, steps: Iterable[float]) -> list[float]:
        exponents = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
        numbers = [step * 10.0**exponent for exponent in exponents for step in steps]
        return [number for number in numbers if self.low <= number <= self.high]


def make_scale(
    values: Iterable[float], *, is_logarithmic: bool = False, margin: float = 0.05
) -> Scale:
    """Makes the axis that shows all of some numbers.

    Args:
      values: the numbers; numbers that are not finite are ignored.
      is_logarithmic: whether equal ratios are equally far apart.
      margin: room before the first and after the last number, as a share of their distance.
    """
    known = [float(value) for value in values if math.isfinite(value)] or [0.0, 1.0]
    low, high = min(known), max(known)
    if is_logarithmic:
        spread = max((high / low) ** margin, 1.0 + _LEAST_SPAN if high == low else 1.0)
        return Scale(low / spread, high * spread, True)
    if math.isclose(low, high, rel_tol=1e-9, abs_tol=1e-12):
        spread = _LEAST_SPAN / 2.0 * abs(low) or 1.0
    else:
        spread = margin * (high - low)
    return Scale(low - spread, high + spread)


def _round_step(least: float) -> float:
    """The smallest of 1, 2, 5, times a power of ten, that is at least `least`."""
    power = 10.0 ** math.floor(math.log10(least))
    return next(power * step for step in (*_STEPS, 10.0) if power * step >= least * (1 - 1e-9))


def number_text(value: float) -> str:
    """A number in a few characters: 0.0003, 12.5, 20k, 1.5M."""
    value = 0.0 if abs(value) < 1e-12 else value
    if 1e4 <= abs(value) < 1e12:
        unit, suffix = next(pair for pair in _SUFFIXES if abs(value) >= pair[0])
        return f"{value / unit:.4g}{suffix}"
    return f"{value:.4g}"
