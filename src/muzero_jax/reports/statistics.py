"""Point and interval estimates of scores over few seeds.

The estimators are those of Agarwal et al. 2021, "Deep Reinforcement Learning at the Edge of the
Statistical Precipice" (arXiv 2108.13264). Each of them takes one set of scores.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike

Statistic: TypeAlias = Callable[[np.ndarray], np.ndarray]
"""From scores `[..., N]` to an estimate `[...]`, over the last axis."""


@dataclasses.dataclass(frozen=True)
class Interval:
    """An estimate and its confidence interval, in the unit of the scores."""

    estimate: float
    low: float
    high: float


def interquartile_mean(scores: ArrayLike) -> np.ndarray:
    """Mean of the middle half of the scores (arXiv 2108.13264, section 4.3).

    The lowest and the highest `floor(N / 4)` scores are left out, so that the result for three
    scores or fewer is their plain mean. It is `scipy.stats.trim_mean(scores, 0.25)`, but adds the
    scores in ascending order, so that the order of the runs does not change the last bit.

    Args:
      scores: `[..., N]`; the mean is over the last axis.

    Returns:
      `[...]`, in the unit of the scores.

    Raises:
      ValueError: there are no scores, or one of them is not finite.
    """
    ordered = np.sort(_check(scores), axis=-1)
    num_scores = ordered.shape[-1]
    num_cut = num_scores // 4
    return ordered[..., num_cut : num_scores - num_cut].mean(axis=-1)


def stratified_bootstrap(
    strata: Sequence[ArrayLike],
    statistic: Statistic = interquartile_mean,
    *,
    confidence: float = 0.95,
    num_resamples: int = 10_000,
    seed: int = 0,
) -> Interval:
    """Percentile bootstrap that resamples runs within each task (arXiv 2108.13264, section 4.1).

    The statistic is computed over the scores of all strata together, so bring tasks of different
    scale to a common scale first. With one stratum this is the plain bootstrap over seeds.

    Args:
      strata: one `[N_i]` array of scores for each task, with a score for each independent run.
      statistic: function that estimates `[...]` from scores `[..., N]`.
      confidence: share of the resampled estimates that the interval holds.
      num_resamples: number of resampled data sets. More of them make the ends of the interval
        steadier, not the interval narrower.
      seed: seed of the resampling; the same scores and seed always give the same interval.

    Returns:
      The statistic of the scores themselves, and the interval.

    Raises:
      ValueError: there is no stratum, a stratum has no scores or a score that is not finite, or
        `confidence` is not between 0 and 1.
    """
    if not strata:
        raise ValueError("stratified_bootstrap needs at least one stratum of scores.")
    if not 0.0 < confidence < 1.0:
        raise ValueError(f"confidence must be between 0 and 1, found {confidence!r}.")
    samples = [_check(scores) for scores in strata]
    bit_generator = np.random.PCG64(seed)
    resampled = [_resample(scores, num_resamples, bit_generator) for scores in samples]
    estimates = statistic(np.concatenate(resampled, axis=-1))
    tail = (1.0 - confidence) / 2.0
    low, high = np.quantile(estimates, [tail, 1.0 - tail])
    return Interval(float(statistic(np.concatenate(samples))), float(low), float(high))


def _resample(scores: np.ndarray, num_resamples: int, bit_generator: np.random.PCG64) -> np.ndarray:
    """Draws `[num_resamples, N]` from `[N]`, with replacement."""
    # NumPy keeps the raw stream of a bit generator for ever, but not the stream of `Generator`,
    # with which an update of NumPy could change a committed table. The bias of `%` is N / 2^64.
    raw = bit_generator.random_raw((num_resamples, scores.size))
    return scores[raw % np.uint64(scores.size)]


def _check(scores: ArrayLike) -> np.ndarray:
    array = np.atleast_1d(np.asarray(scores, dtype=np.float64))
    if array.shape[-1] == 0:
        raise ValueError("an estimate needs at least one score, found none.")
    if not np.isfinite(array).all():
        raise ValueError(f"scores must be finite, found {array[~np.isfinite(array)][0]}.")
    return array
