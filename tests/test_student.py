"""Student's t, against the tables that everyone has on paper, and against brute force."""

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_ptq.errors import MeasurementError
from pytest_ptq.student import Mean, mean_of, t_cdf, t_quantile

TABLE = [  # two-sided 95 % and 99 %; Abramowitz and Stegun, table 26.10
    (1, 12.706, 63.657),
    (2, 4.303, 9.925),
    (3, 3.182, 5.841),
    (4, 2.776, 4.604),
    (9, 2.262, 3.250),
    (14, 2.145, 2.977),
    (30, 2.042, 2.750),
    (120, 1.980, 2.617),
]


@pytest.mark.parametrize(("df", "t95", "t99"), TABLE)
def test_quantiles_are_those_of_the_table(df, t95, t99):
    assert t_quantile(0.975, df) == pytest.approx(t95, abs=6e-4)
    assert t_quantile(0.995, df) == pytest.approx(t99, abs=6e-4)


@given(st.floats(-50, 50), st.integers(1, 200))
def test_the_distribution_is_symmetric_and_the_quantile_its_inverse(t, df):
    p = t_cdf(t, df)
    assert t_cdf(-t, df) == pytest.approx(1 - p, abs=1e-12)
    if 1e-6 < p < 1 - 1e-6:
        assert t_quantile(p, df) == pytest.approx(t, rel=1e-6, abs=1e-6)


@given(st.integers(1, 60), st.floats(0, 20), st.floats(0, 20))
def test_the_distribution_rises(df, a, b):
    low, high = sorted((a, b))
    assert t_cdf(low, df) <= t_cdf(high, df) + 1e-15


@pytest.mark.parametrize(("probability", "df"), [(0.0, 3), (1.0, 3), (math.nan, 3), (0.5, 0)])
def test_what_has_no_quantile_is_refused(probability, df):
    with pytest.raises(MeasurementError):
        t_quantile(probability, df)


def test_the_interval_of_five_values_by_hand():
    found = mean_of([1.0, 2.0, 3.0, 4.0, 5.0])
    assert (found.value, found.count) == (3.0, 5)
    assert found.standard_error == pytest.approx(math.sqrt(2.5 / 5))
    assert found.interval() == pytest.approx((3 - 2.7764 * math.sqrt(0.5), 3 + 2.7764 * math.sqrt(0.5)), abs=1e-3)


def test_one_value_has_an_interval_without_end():
    assert mean_of([1.0]).interval() == (-math.inf, math.inf)


@pytest.mark.parametrize("values", [[], [math.nan], [1.0, math.inf]])
def test_a_mean_of_nothing_is_refused(values):
    with pytest.raises(MeasurementError):
        mean_of(values)


def test_intervals_cover_as_often_as_they_say():
    chance = random.Random(0)
    for confidence in (0.8, 0.95, 0.99):
        hits = sum(
            low <= 0 <= high
            for low, high in (mean_of([chance.gauss(0, 1) for _ in range(5)]).interval(confidence) for _ in range(4000))
        )
        assert hits / 4000 == pytest.approx(confidence, abs=0.02)


def test_more_confidence_is_a_wider_interval():
    mean = Mean(0.0, 1.0, 5)
    widths = [mean.interval(c)[1] for c in (0.5, 0.9, 0.95, 0.99)]
    assert widths == sorted(widths)
