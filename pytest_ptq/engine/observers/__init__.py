"""Observers: what is remembered of an activation while calibration data flows, and how a range follows from it.

Every rule is a pure function from the same statistics to a range: `rule(seen, bounds) -> (low, high)`. Adding an
observer means adding a function and a row, and its name in `pytest_ptq.qconfig`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from pytest_ptq.engine.observers.collect import HistogramObserver, MinMaxObserver
from pytest_ptq.engine.observers.entropy import entropy_range
from pytest_ptq.engine.observers.extremes import minmax_range, moving_average_range
from pytest_ptq.engine.observers.grid import Grid, grid_qparams
from pytest_ptq.engine.observers.least_squares import CANDIDATES, CLIPPING_WEIGHT, histogram_range, mse_range
from pytest_ptq.engine.observers.percentile import percentile_range
from pytest_ptq.engine.observers.sample import extremes
from pytest_ptq.engine.observers.statistics import BINS, Statistics

__all__ = [
    "BINS",
    "CANDIDATES",
    "CLIPPING_WEIGHT",
    "OBSERVERS",
    "Grid",
    "HistogramObserver",
    "MinMaxObserver",
    "ObserverRow",
    "Statistics",
    "entropy_range",
    "extremes",
    "grid_qparams",
    "histogram_range",
    "minmax_range",
    "moving_average_range",
    "mse_range",
    "percentile_range",
]

RangeRule = Callable[..., tuple[float, float]]
"""rule(seen, bounds) -> (low, high); that of `percentile` takes `percentile` as well."""


@dataclass(frozen=True)
class ObserverRow:
    """One kind of observer: the module that collects, and the rule from statistics to range."""

    module: type[MinMaxObserver]
    choose_range: RangeRule

    @property
    def needs_histogram(self) -> bool:
        return issubclass(self.module, HistogramObserver)


OBSERVERS: Mapping[str, ObserverRow] = {
    "minmax": ObserverRow(MinMaxObserver, minmax_range),
    "moving_average": ObserverRow(MinMaxObserver, moving_average_range),
    "histogram": ObserverRow(HistogramObserver, histogram_range),
    "percentile": ObserverRow(HistogramObserver, percentile_range),
    "entropy": ObserverRow(HistogramObserver, entropy_range),
    "mse": ObserverRow(HistogramObserver, mse_range),
}
