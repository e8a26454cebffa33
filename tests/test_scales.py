"""Scales of charts: places of numbers, and the round ones that are written."""

import math

import pytest

from muzero_jax.reports.scales import Scale, make_scale, number_text


def test_a_share_is_linear_or_by_ratios():
    assert Scale(10, 20).share(15) == 0.5
    assert Scale(0.01, 1.0, is_logarithmic=True).share(0.1) == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("scale", "expected"),
    [
        (Scale(0, 50_000), [0, 10_000, 20_000, 30_000, 40_000, 50_000]),
        (Scale(-0.3, 0.34), [-0.2, 0.0, 0.2]),
        (Scale(1e-9, 1.0, True), [1e-9, 1e-7, 1e-5, 1e-3, 0.1]),
        (Scale(1e-4, 1e-2, True), [1e-4, 1e-3, 1e-2]),
        (Scale(15, 80, True), [20, 50]),
        (Scale(21, 49, True), [30, 40]),
    ],
)
def test_ticks_are_few_and_round(scale, expected):
    assert scale.ticks() == pytest.approx(expected)


@pytest.mark.parametrize("values", [[3.0], [0.0, 0.0], [], [math.nan, 2.0], [-5.0, -5.0]])
def test_there_is_an_axis_for_a_single_number_and_for_none(values):
    scale = make_scale(values)
    assert scale.low < scale.high and scale.ticks()
    for value in values:
        assert math.isnan(value) or 0 < scale.share(value) < 1


def test_margins_keep_numbers_off_the_edges():
    assert make_scale([0.0, 10.0], margin=0.1) == Scale(-1.0, 11.0)
    scale = make_scale([1.0, 100.0], is_logarithmic=True, margin=0.5)
    assert (scale.low, scale.high) == pytest.approx((0.1, 1000.0))
    assert make_scale([4.0], is_logarithmic=True).share(4.0) == pytest.approx(0.5)


def test_numbers_are_short():
    numbers = (0.0003, 12.5, 20_000, 1_500_000, 0.1 + 0.2, 1e-17, -30_000, 2e13)
    told = ["0.0003", "12.5", "20k", "1.5M", "0.3", "0", "-30k", "2e+13"]
    assert [number_text(number) for number in numbers] == told
