"""Observers: what is remembered of an activation while calibration data flows, and how a range follows from it.

An observer is a module that returns its input unchanged. It streams: its memory does not grow with the number of
batches. `statistics()` is an immutable copy of what it saw; a range is a pure function of those statistics.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pytest_ptq.engine.affine import SMALLEST_SCALE, UINT8
from pytest_ptq.errors import QuantizationError

BINS = 4096
CANDIDATES = 96
"""How many thresholds are tried on each side of zero."""
SMALLEST_LIMIT = 2.0**-100
"""A histogram reaches at least this far, so that the reciprocal of a bin's width is a finite float32."""
CLIPPING_WEIGHT = 10.0
"""How much worse a squared clipping error is than a squared rounding error.

Rounding errors are independent and average out in the next layer's sums; clipping errors share a sign and add up.
`python -m benchmarks clipping` compares weights; docs/engine.md has its table.
"""


@dataclass(frozen=True, eq=False)
class Statistics:
    """What an observer saw of one tensor.

    `counts[i]` is the number of values in bin i of BINS equal bins over -limit..limit, exact zeros left out: they
    are represented exactly whatever the scale, and behind a ReLU they are most of the values.
    """

    low: float
    high: float
    values: int
    limit: float = 0.0
    counts: Tensor | None = None


class MinMaxObserver(nn.Module):
    """Remembers the smallest and the largest value."""

    def __init__(self, layer: str = "") -> None:
        super().__init__()
        self.layer = layer
        self.low = float("inf")
        self.high = float("-inf")
        self.values = 0

    def forward(self, x: Tensor) -> Tensor:
        low, high = (float(v) for v in torch.aminmax(x.detach()))
        # NaN compares false with everything: ask for what must hold instead of for what must not.
        if not (low > float("-inf") and high < float("inf")):
            raise QuantizationError(
                f"the output holds NaN or Inf ({low} .. {high})",
                stage="calibrate",
                place=self.layer,
                remedy="Look at the weights and inputs that lead here.",
            )
        self.low, self.high = min(self.low, low), max(self.high, high)
        self.values += x.numel()
        return x

    def statistics(self) -> Statistics:
        if not self.values:
            raise QuantizationError(
                "no calibration data reached it",
                stage="calibrate",
                place=self.layer,
                remedy="Calibrate before converting.",
            )
        return Statistics(self.low, self.high, self.values)

    def extra_repr(self) -> str:
        return f"min_val={self.low:.6g}, max_val={self.high:.6g}" if self.values else "nothing observed yet"


class HistogramObserver(MinMaxObserver):
    """Remembers the extremes and a histogram.

    The bins lie symmetrically about zero over a power of two, and when a value falls outside, neighbours are merged
    two by two: no count is ever interpolated, and the order of the batches does not matter.
    """

    def __init__(self, layer: str = "") -> None:
        super().__init__(layer)
        self.limit = 0.0
        self.counts = torch.zeros(BINS, dtype=torch.float64)

    def forward(self, x: Tensor) -> Tensor:
        super().forward(x)
        self._grow(max(abs(self.low), abs(self.high)))
        if self.limit:
            x32 = x.detach().float()
            # Numbered by hand: a product with a power of two is exact, and so is floor. histc alone adds the limit
            # first, which rounds, so that a value beside a bin's edge would fall left or right of it by the limit.
            numbers = x32.mul(BINS / 2 / self.limit).floor_()
            counts = torch.histc(numbers, BINS, -BINS // 2, BINS // 2).double()
            zeros = x32.numel() - int(torch.count_nonzero(x32))
            counts[BINS // 2] -= zeros  # an exact zero stands in the first bin right of the middle
            self.counts += counts
        return x

    def _grow(self, reach: float) -> None:
        if not reach:
            return
        if not self.limit:
            # frexp gives reach = m * 2**e with m in 0.5..1 (1 excluded), so that 2**e is the next power of two.
            self.limit = max(math.ldexp(1.0, math.frexp(reach)[1]), SMALLEST_LIMIT)
        while self.limit <= reach:
            merged = self.counts.view(-1, 2).sum(1)
            self.counts = torch.zeros(BINS, dtype=torch.float64)
            self.counts[BINS // 4 : BINS // 4 + BINS // 2] = merged
            self.limit *= 2

    def statistics(self) -> Statistics:
        seen = super().statistics()
        return Statistics(seen.low, seen.high, seen.values, self.limit, self.counts.clone())


def minmax_range(seen: Statistics, bounds: tuple[int, int] = UINT8) -> tuple[float, float]:
    """The extremes themselves: nothing is clipped, one outlier widens every step."""
    return seen.low, seen.high


def histogram_range(seen: Statistics, bounds: tuple[int, int] = UINT8) -> tuple[float, float]:
    """The range whose squared quantization error is smallest.

    The error of clipping at low..high is the squared distance of what lies outside plus, for what lies inside, the
    variance step**2 / 12 of uniform rounding noise (Banner et al., arXiv 1810.05723, equation 5, with the histogram
    in place of a fitted distribution). Two corrections, because zero is always represented exactly: values within
    half a step of zero become zero and cost their own square, and exact zeros cost nothing. Without them the noise
    of the many small values behind a hardswish is overrated, and too much of the tail is clipped. What is clipped
    weighs CLIPPING_WEIGHT times as much as what is rounded. The ends are those that a whole zero point allows: a
    hardswish has a peak of values at its minimum, and half a step decides whether that is clipped.
    """
    if seen.counts is None or not seen.limit:
        return minmax_range(seen, bounds)
    width = 2 * seen.limit / BINS
    centres = (torch.arange(BINS, dtype=torch.float64) + 0.5) * width - seen.limit
    shrink = torch.linspace(1.0, 1.0 / CANDIDATES, CANDIDATES, dtype=torch.float64)
    highs = shrink * max(seen.high, 0.0) if seen.high > 0 else torch.zeros(1, dtype=torch.float64)
    lows = shrink * min(seen.low, 0.0) if seen.low < 0 else torch.zeros(1, dtype=torch.float64)
    step = ((highs[None, :] - lows[:, None]) / (bounds[1] - bounds[0])).clamp_min(SMALLEST_SCALE)
    # What a scale and a whole zero point really reach: up to half a step beside low and high.
    lowest = torch.round(lows[:, None] / step) * step
    highest = lowest + (bounds[1] - bounds[0]) * step
    above, kept_below = _clipping(centres, seen.counts, highest, step / 2)
    below, kept_above = _clipping(-centres.flip(0), seen.counts.flip(0), -lowest, step / 2)
    inside = kept_below + kept_above - float(seen.counts.sum())
    small, small_error = _rounds_to_zero(centres, seen.counts, step / 2)
    error = CLIPPING_WEIGHT * (above + below) + small_error + (inside - small).clamp_min(0) * step.square() / 12
    best = int(error.argmin())
    return float(lowest.view(-1)[best]), float(highest.view(-1)[best])


def _rounds_to_zero(centres: Tensor, counts: Tensor, half_step: Tensor) -> tuple[Tensor, Tensor]:
    """How many values lie within half a step of zero, and the sum of their squares. Bins are symmetric about zero."""
    magnitude = centres[BINS // 2 :].contiguous()
    folded = counts[BINS // 2 :] + counts[: BINS // 2].flip(0)
    index = torch.searchsorted(magnitude, half_step, right=True)
    n, squares = (torch.cat([m.new_zeros(1), m.cumsum(0)])[index] for m in (folded, folded * magnitude.square()))
    return n, squares


def _clipping(centres: Tensor, counts: Tensor, ends: Tensor, half_step: Tensor) -> tuple[Tensor, Tensor]:
    """For each end of a range: squared error of what is clipped to it, and how many values are not.

    A value within half a step beyond the end is rounded to it, like any other.
    """
    index = torch.searchsorted(centres, ends + half_step, right=True)

    def below(moment: Tensor) -> Tensor:
        return torch.cat([moment.new_zeros(1), moment.cumsum(0)])[index]

    n, first, second = (below(counts * centres**p) for p in (0, 1, 2))
    n_out = counts.sum() - n
    first_out = (counts * centres).sum() - first
    second_out = (counts * centres**2).sum() - second
    error = second_out - 2 * ends * first_out + ends**2 * n_out
    return error.clamp_min(0), n


RangeRule = Callable[[Statistics, tuple[int, int]], tuple[float, float]]


@dataclass(frozen=True)
class ObserverRow:
    """One kind of observer: the module that collects, and the rule from statistics to range."""

    module: type[MinMaxObserver]
    choose_range: RangeRule
    needs_histogram: bool


OBSERVERS: Mapping[str, ObserverRow] = {
    "minmax": ObserverRow(MinMaxObserver, minmax_range, needs_histogram=False),
    "histogram": ObserverRow(HistogramObserver, histogram_range, needs_histogram=True),
}
