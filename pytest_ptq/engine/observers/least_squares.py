"""The range with the smallest squared error, with clipping weighed as what it does or as what it is."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from pytest_ptq.engine.affine import SMALLEST_SCALE, UINT8
from pytest_ptq.engine.observers.extremes import minmax_range
from pytest_ptq.engine.observers.statistics import BINS, Statistics, once

CANDIDATES = 96
"""How many thresholds are tried on each side of zero."""
CLIPPING_WEIGHT = 10.0
"""How much worse a squared clipping error is than a squared rounding error.

Rounding errors are independent and average out in the next layer's sums; clipping errors share a sign and add up.
`python -m benchmarks clipping` compares weights; docs/engine.md has its table.
"""


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
    return _least_squares(seen, bounds)[0]


def mse_range(seen: Statistics, bounds: tuple[int, int] = UINT8) -> tuple[float, float]:
    """The range whose plain squared error is smallest: clipping weighs as much as rounding.

    What Choukroun et al. (arXiv 1902.06822, section 3.1) minimise for each tensor, measured as `histogram_range`
    measures it.
    """
    return _least_squares(seen, bounds)[1]


@once
def _least_squares(seen: Statistics, bounds: tuple[int, int]) -> tuple[tuple[float, float], ...]:
    """The best range with clipping weighed CLIPPING_WEIGHT times, and with it weighed as rounding."""
    if seen.counts is None or not seen.limit:
        return (minmax_range(seen, bounds),) * 2
    shrink = torch.linspace(1.0, 1.0 / CANDIDATES, CANDIDATES, dtype=torch.float64)
    highs = shrink * max(seen.high, 0.0) if seen.high > 0 else torch.zeros(1, dtype=torch.float64)
    lows = shrink * min(seen.low, 0.0) if seen.low < 0 else torch.zeros(1, dtype=torch.float64)
    step = ((highs[None, :] - lows[:, None]) / (bounds[1] - bounds[0])).clamp_min(SMALLEST_SCALE)
    # What a scale and a whole zero point really reach: up to half a step beside low and high.
    lowest = torch.round(lows[:, None] / step) * step
    highest = lowest + (bounds[1] - bounds[0]) * step
    clipped, rounded = _errors(seen.centres, seen.counts, lowest.view(-1), highest.view(-1), step.view(-1))
    best = [int((weight * clipped + rounded).argmin()) for weight in (CLIPPING_WEIGHT, 1.0)]
    return tuple((float(lowest.view(-1)[i]), float(highest.view(-1)[i])) for i in best)


def _errors(centres: Tensor, counts: Tensor, lowest: Tensor, highest: Tensor, step: Tensor) -> tuple[Tensor, Tensor]:
    """Squared errors of clipping and of rounding, for each candidate range (candidates,).

    Bins are symmetric about zero. What lies within half a step beyond an end is rounded to it, like any other.
    """
    half_step = step / 2
    weighed = counts * centres
    moments = F.pad(torch.stack([counts, weighed, weighed * centres]).cumsum(1), (1, 0))
    total = moments[:, -1:]
    below = moments.index_select(1, torch.searchsorted(centres, lowest - half_step))
    above = total - moments.index_select(1, torch.searchsorted(centres, highest + half_step, right=True))
    clipped = _squares_to(lowest, below) + _squares_to(highest, above)
    small, small_squares = _rounds_to_zero(centres, counts, half_step)
    inside = total[0] - below[0] - above[0]
    return clipped, small_squares + (inside - small).clamp_min_(0) * step.square() / 12


def _squares_to(end: Tensor, outside: Tensor) -> Tensor:
    """Squared distances from `end` (candidates,) of values whose moments 0 to 2 are `outside` (3, candidates)."""
    n, first, second = outside
    squares: Tensor = second - 2 * end * first + end.square() * n
    return squares.clamp_min_(0)


def _rounds_to_zero(centres: Tensor, counts: Tensor, half_step: Tensor) -> tuple[Tensor, Tensor]:
    """How many values lie within half a step of zero, and the sum of their squares. Bins are symmetric about zero."""
    magnitude = centres[BINS // 2 :]
    folded = counts[BINS // 2 :] + counts[: BINS // 2].flip(0)
    moments = F.pad(torch.stack([folded, folded * magnitude.square()]).cumsum(1), (1, 0))
    n, squares = moments.index_select(1, torch.searchsorted(magnitude.contiguous(), half_step, right=True))
    return n, squares
