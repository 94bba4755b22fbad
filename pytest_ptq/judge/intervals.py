"""How far a measurement that varies may be from the truth, at the confidence that a verdict needs.

A latency is looked at twice at most, and a session asks several questions; each look and each question is one more
chance to be wrong. So a verdict needs more than the 95 % that are shown: the chance of error is shared out between
the looks (Bonferroni), and for failures between the questions of the session as well (Holm).
"""

from __future__ import annotations

import math

from pytest_ptq import metrics as m
from pytest_ptq.metrics import LOOKS, MOVED, STANDARD_ERROR, UNFIT, Direction, Measurement
from pytest_ptq.student import Mean

BY_INTERVAL = frozenset({m.LATENCY_FP32.key, m.LATENCY_INT8.key, m.LATENCY_RATIO.key})
"""Metrics that vary from run to run, and are judged by their interval."""

ERROR = 0.05
MOST_LOOKS = 2


def confidence(comparisons: int = 1) -> float:
    """What an interval is to cover so that the session as a whole errs at most 5 % of the time.

    Args:
        comparisons: questions that are still open, this one included. Taking them as they come is Holm's procedure
            with the order given by the session instead of by the p-values: until the first wrong rejection only wrong
            hypotheses were rejected, so that at that moment at least as many questions are open as there are true
            ones, and each of these is rejected with a chance of at most its share. Source: Holm, A simple sequentially
            rejective multiple test procedure, 1979.
    """
    return 1 - ERROR / MOST_LOOKS / max(1, comparisons)


def ends(measurement: Measurement, coverage: float | None = None) -> tuple[float, float]:
    """(best, worst) value that the measurement stands for.

    Args:
        measurement: one that varies is taken by its interval, any other by its value.
        coverage: of the interval; by default, and without a standard error, the one that was measured. A ratio that
            moved while it was measured is taken to lie anywhere between where it began and where it ended.
    """
    low, high = measurement.low, measurement.high
    if measurement.metric.key not in BY_INTERVAL or low is None or high is None:
        return measurement.value, measurement.value
    if coverage is not None and (mean := _mean(measurement)) is not None:
        slack = abs(moved(measurement)) / 2
        low, high = (math.exp(end + side * slack) for end, side in zip(mean.interval(coverage), (-1, 1), strict=True))
    if math.isnan(low) or math.isnan(high):
        return math.nan, math.nan
    found = (min(low, measurement.value), max(high, measurement.value))
    return found if measurement.metric.direction is Direction.LOWER_IS_BETTER else found[::-1]


def _mean(measurement: Measurement) -> Mean | None:
    """The mean log ratio across processes, where the measurement tells of one."""
    error, count = measurement.details.get(STANDARD_ERROR), measurement.details.get(m.PROCESSES)
    if not isinstance(error, float) or not isinstance(count, int) or count < 2 or measurement.value <= 0:
        return None
    return Mean(math.log(measurement.value), error, count)


def lacks_interval(measurement: Measurement) -> bool:
    missing = measurement.low is None or measurement.high is None
    return missing and measurement.metric.key in BY_INTERVAL


def unfit(measurement: Measurement) -> str:
    """Why nothing can be judged by a measurement; empty when nothing speaks against it."""
    return str(measurement.details.get(UNFIT, ""))


def moved(measurement: Measurement) -> float:
    """By how much the log ratio went up while it was measured; 0 where that may be chance."""
    found = measurement.details.get(MOVED, 0.0)
    return found if isinstance(found, float) else 0.0


def looks(measurement: Measurement) -> int:
    """How often the data were looked at before this verdict."""
    found = measurement.details.get(LOOKS, 1)
    return found if isinstance(found, int) else 1
