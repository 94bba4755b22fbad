"""The modules that stand in a graph while calibration data flows. They return their input unchanged.

They stream: their memory does not grow with the number of batches. `statistics()` is an immutable copy.
"""

from __future__ import annotations

import functools
import math
from dataclasses import replace

import torch
from torch import Tensor, nn

from pytest_ptq.engine.kernels import native
from pytest_ptq.engine.observers.grid import Grid
from pytest_ptq.engine.observers.sample import extremes, in_memory_order, runs, sample
from pytest_ptq.engine.observers.statistics import BINS, Statistics
from pytest_ptq.errors import QuantizationError

SMALLEST_LIMIT = 2.0**-100
"""A histogram reaches at least this far, so that the reciprocal of a bin's width is a finite float32."""
AVERAGING = 0.01
"""What a new batch weighs in a moving average."""
CHUNK = 2**17
"""Values counted at a time: their intermediate results stay in the cache, and each chunk's count of nonzero values is
an exact float32."""
LANES = 4
"""Tables that neighbours are counted in by turns: behind a ReLU most values are zeros, and each of them would have to
wait until the one before has been added to the same number. All of them fit into int16."""
WORTH_LANES = 2**15
"""Of fewer values, adding up the tables costs more than it spares."""


class MinMaxObserver(nn.Module):
    """Remembers the smallest and the largest value, and moving averages of the batches' extremes.

    The average is the exponential one of Jacob et al. (arXiv 1712.05877, section 3.1), divided by the sum of its
    weights (Kingma and Ba, arXiv 1412.6980, section 3): it does not lean on the first batch, and of a few batches it
    is very nearly the mean.
    """

    def __init__(self, layer: str = "") -> None:
        super().__init__()
        self.layer = layer
        self.low = float("inf")
        self.high = float("-inf")
        self.values = 0
        self._weight = self._low_sum = self._high_sum = 0.0
        self.grid: Grid | None = None
        """Set for inputs of the model: those of them that were pixels can be stored exactly."""

    def forward(self, x: Tensor) -> Tensor:
        low, high = extremes(x)
        # NaN compares false with everything: ask for what must hold instead of for what must not.
        if not (low > float("-inf") and high < float("inf")):
            raise QuantizationError(
                f"the output holds NaN or Inf ({low} .. {high})",
                stage="calibrate",
                place=self.layer,
                remedy="Look at the weights and inputs that lead here.",
            )
        if self.grid is not None:
            self.grid.add(x)
        self.low, self.high = min(self.low, low), max(self.high, high)
        self.values += x.numel()
        keep = 1 - AVERAGING
        self._weight = keep * self._weight + AVERAGING
        self._low_sum = keep * self._low_sum + AVERAGING * low
        self._high_sum = keep * self._high_sum + AVERAGING * high
        return x

    def statistics(self) -> Statistics:
        if not self.values:
            raise QuantizationError(
                "no calibration data reached it",
                stage="calibrate",
                place=self.layer,
                remedy="Calibrate before converting.",
            )
        # Rounding could carry an average of equal numbers past them.
        low, high = (min(max(s / self._weight, self.low), self.high) for s in (self._low_sum, self._high_sum))
        step = self.grid.step if self.grid is not None else None
        return Statistics(self.low, self.high, self.values, average_low=low, average_high=high, step=step)

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
            add_histogram(x, self.limit, self.counts)
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
        return replace(super().statistics(), limit=self.limit, counts=self.counts.clone())


def add_histogram(x: Tensor, limit: float, counts: Tensor) -> None:
    """Add how many values of `x` (images, ...) lie in each of BINS bins, from a sample of them, to float64 (BINS,).

    Compiled code and torch's count the same.
    """
    laid = in_memory_order(x.detach())
    run, every = runs(laid.shape)
    if not native.count(laid, run, every, limit, counts):
        counts += count(sample(x)[0], limit) * every


def count(x: Tensor, limit: float) -> Tensor:
    """How many values of `x` lie in each of BINS bins over -limit..limit, without exact zeros: float64 (BINS,).

    Numbered by hand: a product with a power of two is exact, and so is floor; to add the limit first would round, and
    a value beside a bin's edge would fall left or right of it by the limit.
    """
    values = in_memory_order(x).reshape(-1)
    size = min(CHUNK, len(values))
    scaled = torch.empty(size)
    numbers = torch.empty(size, dtype=torch.int16)
    found = torch.zeros(BINS, dtype=torch.int64)
    nonzero = 0
    for chunk in torch.split(values, CHUNK):
        x32 = chunk.float()
        y = torch.sign(x32, out=scaled[: len(x32)])
        nonzero += int(torch.dot(y, y))  # several times faster than count_nonzero
        y = torch.mul(x32, BINS / 2 / limit, out=y).floor_()
        found += _histogram(numbers[: len(y)].copy_(y))
    found[BINS // 2] -= len(values) - nonzero  # an exact zero stands in the first bin right of the middle
    return found.double()


def _histogram(numbers: Tensor) -> Tensor:
    """How often each of -BINS / 2 .. BINS / 2 - 1 occurs. The numbers (int16) are overwritten."""
    if len(numbers) < WORTH_LANES:
        return torch.bincount(numbers.add_(BINS // 2), minlength=BINS)
    return torch.bincount(numbers.add_(_lanes()[: len(numbers)]), minlength=LANES * BINS).view(LANES, BINS).sum(0)


@functools.cache
def _lanes() -> Tensor:
    """What numbers values so that neighbours are counted in different tables, int16 (CHUNK,)."""
    return (torch.arange(CHUNK) % LANES * BINS + BINS // 2).to(torch.int16)
