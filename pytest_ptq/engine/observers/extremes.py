"""Ranges that clip nothing, or what is rarer than a batch."""

from __future__ import annotations

from pytest_ptq.engine.affine import UINT8
from pytest_ptq.engine.observers.statistics import Statistics


def minmax_range(seen: Statistics, bounds: tuple[int, int] = UINT8) -> tuple[float, float]:
    """The extremes themselves: nothing is clipped, one outlier widens every step."""
    return seen.low, seen.high


def moving_average_range(seen: Statistics, bounds: tuple[int, int] = UINT8) -> tuple[float, float]:
    """The moving averages of the batches' extremes (arXiv 1712.05877, section 3.1): one odd batch counts little."""
    return seen.averages
