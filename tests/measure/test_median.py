import math
from statistics import median

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_ptq.errors import MeasurementError
from pytest_ptq.measure.median import median_interval, order


def coverage(n: int, k: int) -> float:
    """P(k-th smallest < median < k-th largest), from the binomial distribution."""
    return sum(math.comb(n, i) for i in range(k, n - k + 1)) / 2**n


@pytest.mark.parametrize("n", [*range(6, 60), 500])
def test_order_is_the_tightest_that_covers(n):
    k = order(n)
    assert coverage(n, k) >= 0.95 > coverage(n, k + 1)


def test_the_textbook_order_for_thirty_samples():
    assert order(30) == 10
    middle, low, high = median_interval([float(i) for i in range(1, 31)])
    assert (middle, low, high) == (15.5, 10.0, 21.0)


@given(st.lists(st.floats(-1e6, 1e6), min_size=6, max_size=80))
def test_the_interval_holds_the_median_and_ignores_order(samples):
    middle, low, high = median_interval(samples)
    assert min(samples) <= low <= middle <= high <= max(samples)
    assert middle == median(samples)
    assert median_interval(samples[::-1]) == (middle, low, high)


def test_one_wild_sample_moves_nothing():
    calm = [1.0 + i / 1000 for i in range(40)]
    assert median_interval([*calm[:-1], 1e9]) == median_interval(calm)


@pytest.mark.parametrize("samples", [[], [1.0] * 5])
def test_too_few_samples_are_refused(samples):
    with pytest.raises(MeasurementError, match="no 95 % interval"):
        median_interval(samples)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_samples_that_are_no_numbers_are_refused(bad):
    with pytest.raises(MeasurementError, match="not finite"):
        median_interval([1.0] * 10 + [bad])
