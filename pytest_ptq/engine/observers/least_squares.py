"""The range with the smallest squared error, with clipping weighed as what it does or as what it is."""

from __future__ import annotations

import torch
from torch import Tensor

from pytest_ptq.engine.affine import SMALLEST_SCALE, UINT8
from pytest_ptq.engine.observers.extremes import minmax_range
from pytest_ptq.engine.observers.statistics import BINS, Statistics

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
    return _least_squares(seen, bounds, CLIPPING_WEIGHT)


def mse_range(seen: Statistics, bounds: tuple[int, int] = UINT8) -> tuple[float, float]:
    """The range whose plain squared error is smallest: clipping weighs as much as rounding.

    What Choukroun et al. (arXiv 1902.06822, section 3.1) minimise for each tensor, measured as `histogram_range`
    measures it.
    """
    return _least_squares(seen, bounds, 1.0)


def _least_squares(seen: Statistics, bounds: tuple[int, int], clipping_weight: float) -> tuple[float, float]:
    if seen.counts is None or not seen.limit:
        return minmax_range(seen, bounds)
    centres = seen.centres
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
    error = clipping_weight * (above + below) + small_error + (inside - small).clamp_min(0) * step.square() / 12
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
