"""Student's t: quantiles and the interval of a mean. Pure functions of numbers, for whoever measures or judges."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from statistics import fmean, stdev

from pytest_ptq.errors import MeasurementError


def t_cdf(t: float, df: int) -> float:
    """P(T <= t) of Student's distribution with `df` degrees of freedom.

    The finite sums for whole degrees of freedom: Abramowitz and Stegun, Handbook of Mathematical Functions, 26.7.3
    (odd) and 26.7.4 (even).
    """
    theta = math.atan(t / math.sqrt(df))
    cosine, sine = math.cos(theta), math.sin(theta)
    if df % 2:
        term, total = cosine, 0.0
        for k in range(3, df + 1, 2):
            total += term
            term *= cosine * cosine * (k - 1) / k
        inside = 2 / math.pi * (theta + sine * total)
    else:
        term, total = 1.0, 0.0
        for k in range(2, df + 1, 2):
            total += term
            term *= cosine * cosine * (k - 1) / k
        inside = sine * total
    return 0.5 + inside / 2


@lru_cache(maxsize=256)
def t_quantile(probability: float, df: int) -> float:
    """The t with P(T <= t) = `probability`, by bisection: a few microseconds, to the last digits of a float.

    Raises MeasurementError unless 0 < probability < 1 and df >= 1.
    """
    if not 0 < probability < 1 or df < 1:
        raise MeasurementError(f"Student's t has no quantile {probability} with {df} degrees of freedom")
    if probability < 0.5:
        return -t_quantile(1 - probability, df)
    low, high = 0.0, 1.0
    while t_cdf(high, df) < probability and high < 1e12:
        low, high = high, 2 * high
    for _ in range(200):
        middle = (low + high) / 2
        if middle in (low, high):
            break
        low, high = (middle, high) if t_cdf(middle, df) < probability else (low, middle)
    return (low + high) / 2


@dataclass(frozen=True)
class Mean:
    """A sample mean as its interval needs it: of `count` independent values, with its standard error."""

    value: float
    standard_error: float
    count: int

    def interval(self, confidence: float = 0.95) -> tuple[float, float]:
        """Two-sided Student interval; without end for a single value."""
        if self.count < 2:
            return -math.inf, math.inf
        half = t_quantile(0.5 + confidence / 2, self.count - 1) * self.standard_error
        return self.value - half, self.value + half


def mean_of(values: Sequence[float]) -> Mean:
    """Raises MeasurementError for no value, or one that is not finite."""
    if not values or not all(map(math.isfinite, values)):
        raise MeasurementError("there is no mean of nothing, or of what is not finite")
    spread = stdev(values) / math.sqrt(len(values)) if len(values) > 1 else math.inf
    return Mean(fmean(values), spread, len(values))
