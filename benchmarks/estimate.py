"""A median of a few rounds, and how far it may be off."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from pytest_ptq.errors import MeasurementError
from pytest_ptq.student import mean_of


@dataclass(frozen=True)
class Estimate:
    """A median over rounds with its 95 % interval."""

    value: float
    low: float
    high: float

    def __format__(self, spec: str) -> str:
        """`value [low, high]`, each by `spec`."""
        return f"{self.value:{spec}} [{self.low:{spec}}, {self.high:{spec}}]"


def estimate(values: Sequence[float]) -> Estimate:
    """The median of positive values, and Student's interval of the mean of their logs, which a median of few lacks.

    Raises MeasurementError for fewer than two values, or one that is not finite.
    """
    mean = mean_of([math.log(value) if value > 0 else math.nan for value in values])
    if mean.count < 2:
        raise MeasurementError("one round has no interval", remedy="Measure several rounds.")
    low, high = mean.interval()
    return Estimate(median(values), math.exp(low), math.exp(min(high, LARGEST_LOG)))


def ratios(over: Sequence[float], under: Sequence[float]) -> Estimate:
    """One quantity over another one, round by round. Raises MeasurementError as `estimate` does."""
    return estimate([a / b for a, b in zip(over, under, strict=True)])


def geometric_mean(values: Sequence[float]) -> float:
    """Of positive values."""
    return math.exp(math.fsum(map(math.log, values)) / len(values))


LARGEST_LOG = 700.0
"""exp of more does not fit into a float."""
