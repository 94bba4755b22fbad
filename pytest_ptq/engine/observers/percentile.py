"""The range that holds a given part of the values."""

from __future__ import annotations

from torch import Tensor

from pytest_ptq.engine.affine import UINT8
from pytest_ptq.engine.observers.extremes import minmax_range
from pytest_ptq.engine.observers.statistics import BINS, Statistics, once
from pytest_ptq.qconfig import PERCENTILE


@once
def percentile_range(
    seen: Statistics, bounds: tuple[int, int] = UINT8, percentile: float = PERCENTILE
) -> tuple[float, float]:
    """The range that holds at least `percentile` percent of the values (Wu et al., arXiv 2004.09602, on calibration).

    What may be cut is shared by both ends, or all of it falls on the one end that there is. Measured on the bins:
    never less is held than asked for, and at most one bin more. Exact zeros count as values, and are held by every
    range. Where fewer values differ from zero than may be cut, nothing would be left: the extremes then.
    """
    if seen.counts is None or not seen.limit:
        return minmax_range(seen, bounds)
    may_cut = seen.values * (100 - percentile) / 100 / ((seen.low < 0) + (seen.high > 0))
    high = min(_reach(seen.counts, may_cut) * seen.width, max(seen.high, 0.0))
    low = max(-_reach(seen.counts.flip(0), may_cut) * seen.width, min(seen.low, 0.0))
    return (low, high) if low < high else minmax_range(seen, bounds)


def _reach(counts: Tensor, may_cut: float) -> int:
    """How many bins above zero cannot be cut: beyond them lie at most `may_cut` values."""
    at_least = counts[BINS // 2 :].flip(0).cumsum(0).flip(0)  # values in each bin and above it
    return int((at_least > may_cut).sum())
