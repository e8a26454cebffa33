"""Point and interval estimates of scores over few seeds (Agarwal et al. 2021, arXiv 2108.13264)."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike


class Interval(NamedTuple):
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
    ordered = np.sort(np.atleast_1d(np.asarray(scores, np.float64)), axis=-1)
    num_scores = ordered.shape[-1]
    if num_scores == 0:
        raise ValueError("an estimate needs at least one score, found none.")
    if not np.isfinite(ordered).all():
        raise ValueError(f"scores must be finite, found {ordered[~np.isfinite(ordered)][0]}.")
    num_cut = num_scores // 4
    return ordered[..., num_cut : num_scores - num_cut].mean(axis=-1)


def bootstrap_interval(scores: ArrayLike, *, num_resamples: int = 10_000) -> Interval:
    """Interquartile mean of the seeds of one task, with its 95 % percentile bootstrap interval.

    This is the stratified bootstrap of arXiv 2108.13264, section 4.1, with one stratum. The same
    scores always give the same interval.

    Args:
      scores: `[N]`, a score for each seed.
      num_resamples: number of resampled data sets. More of them make the ends of the interval
        steadier, not the interval narrower.

    Raises:
      ValueError: there are no scores, or one of them is not finite.
    """
    sample = np.asarray(scores, np.float64)
    estimate = interquartile_mean(sample)
    # NumPy keeps the raw stream of a bit generator for ever, but not the stream of `Generator`,
    # with which an update of NumPy could change a committed table. The bias of `%` is N / 2^64.
    raw = np.random.PCG64(0).random_raw((num_resamples, sample.size))
    resampled = interquartile_mean(sample[raw % np.uint64(sample.size)])
    low, high = np.quantile(resampled, [0.025, 0.975])
    return Interval(float(estimate), float(low), float(high))
