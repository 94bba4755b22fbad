"""The median and its interval, which assume nothing about the distribution."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median

from pytest_ptq.errors import MeasurementError

FEWEST = 6
"""With fewer samples even their extremes do not enclose the median with 95 % confidence (2 / 2**5 > 5 %)."""


def median_interval(samples: Sequence[float]) -> tuple[float, float, float]:
    """(median, low, high): the median and the tightest symmetric pair of order statistics that covers it 95 %.

    The number of samples below the true median follows Binomial(n, 1/2); the interval is from the k-th smallest to
    the k-th largest, with the largest k for which P(fewer than k below) stays within 2.5 %. Source: Hollander and
    Wolfe, Nonparametric Statistical Methods, section 3.6. The samples are taken as independent.

    Raises MeasurementError for fewer than six samples, or for one that is not finite.
    """
    if len(samples) < FEWEST:
        raise MeasurementError(
            f"{len(samples)} samples give no 95 % interval", remedy=f"Measure at least {FEWEST}, better 30."
        )
    if not all(map(math.isfinite, samples)):
        raise MeasurementError("a sample is not finite")
    ordered, k = sorted(samples), order(len(samples))
    return median(ordered), ordered[k - 1], ordered[-k]


def order(n: int) -> int:
    """The largest k with P(X <= k - 1) <= 2.5 % for X ~ Binomial(n, 1/2); 0 when there is none (n < 6)."""
    bound, term, tail, k = 2**n, 1, 0, 0
    while True:
        tail += term
        if 40 * tail > bound:
            return k
        term = term * (n - k) // (k + 1)
        k += 1
