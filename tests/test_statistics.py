import itertools

import numpy as np
import pytest
import scipy.stats

from muzero_jax.reports.statistics import bootstrap_interval, interquartile_mean


def test_iqm_of_eight_scores_is_the_mean_of_the_middle_four():
    # Sorted: -100 1 | 2 3 5 6 | 7 900; (2 + 3 + 5 + 6) / 4 = 4.
    assert interquartile_mean([900, 3, 1, 6, -100, 5, 2, 7]) == 4.0


def test_iqm_cuts_the_floor_of_a_quarter_on_each_side():
    # Ten scores: two cut on each side, (3 + 4 + 5 + 6 + 7 + 8) / 6 = 5.5.
    assert interquartile_mean(np.arange(1, 11)) == 5.5
    # Seven scores: one cut on each side, (2 + 3 + 4 + 5 + 60) / 5 = 14.8.
    assert interquartile_mean([1, 2, 3, 4, 5, 60, 700]) == pytest.approx(14.8)


@pytest.mark.parametrize("scores", [[4.0], [4.0, 8.0], [1.0, 2.0, 30.0]])
def test_iqm_of_up_to_three_scores_is_their_mean(scores):
    assert interquartile_mean(scores) == np.mean(scores)


@pytest.mark.parametrize("num_scores", range(1, 22))
def test_iqm_is_the_trimmed_mean_of_scipy_and_knows_no_order(num_scores):
    scores = np.random.default_rng(num_scores).normal(size=num_scores)
    expected = scipy.stats.trim_mean(scores, 0.25)
    assert interquartile_mean(scores) == pytest.approx(expected, rel=1e-14, abs=1e-14)
    assert interquartile_mean(scores[::-1]) == interquartile_mean(scores)


def test_iqm_ignores_outliers_and_order_and_moves_with_shift_and_scale():
    scores = np.array([5.0, 1.0, 4.0, 2.0, 3.0, 6.0, 8.0, 7.0])
    middle = interquartile_mean(scores)
    spoiled = np.where(scores == 8.0, 1e9, scores)
    assert interquartile_mean(spoiled) == middle
    assert interquartile_mean(scores[::-1]) == middle
    assert interquartile_mean(3 * scores - 2) == pytest.approx(3 * middle - 2)


def test_iqm_keeps_leading_axes():
    scores = np.random.default_rng(0).normal(size=(2, 3, 9))
    expected = [[interquartile_mean(row) for row in block] for block in scores]
    np.testing.assert_allclose(interquartile_mean(scores), expected, rtol=1e-15)


def test_bootstrap_of_two_scores_matches_the_enumerated_distribution():
    # Resamples of {0, 1}: means 0, 1/2, 1 with probability 1/4, 1/2, 1/4.
    assert bootstrap_interval([0.0, 1.0]) == (0.5, 0.0, 1.0)
    assert bootstrap_interval([3.0]) == (3.0, 3.0, 3.0)


@pytest.mark.parametrize("scores", [[1.0, 2.0, 4.0, 8.0], [0.0, 1.0, 5.0, 6.0, 7.0]])
def test_bootstrap_quantiles_match_all_resamples(scores):
    num_scores = len(scores)
    choices = list(itertools.product(range(num_scores), repeat=num_scores))
    everything = np.array(scores)[np.array(choices)]
    expected = np.quantile(interquartile_mean(everything), [0.025, 0.975])
    interval = bootstrap_interval(scores)
    assert (interval.low, interval.high) == pytest.approx(tuple(expected), abs=0.3)
    assert interval.low < interval.estimate < interval.high


def test_interval_covers_the_true_mean_about_as_often_as_it_says():
    generator = np.random.default_rng(0)
    hits = 0
    for _ in range(300):
        interval = bootstrap_interval(generator.normal(size=20), num_resamples=400)
        hits += interval.low <= 0.0 <= interval.high
    # The percentile bootstrap is known to cover a little less than 95 % at this size.
    assert 0.88 <= hits / 300 <= 0.98


def test_the_same_scores_repeat_the_interval():
    scores = [1.0, 4.0, 2.0, 9.0, 7.0]
    assert bootstrap_interval(scores) == bootstrap_interval(scores)
    assert bootstrap_interval(scores) != bootstrap_interval(scores, num_resamples=200)


@pytest.mark.parametrize(
    ("scores", "message"),
    [([], "at least one score"), ([1.0, float("nan")], "must be finite, found nan")],
)
def test_bad_input_is_refused_in_one_sentence(scores, message):
    with pytest.raises(ValueError, match=message):
        bootstrap_interval(scores)
