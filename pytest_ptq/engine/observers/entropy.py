"""The range that keeps most of the information: the smallest divergence between a tensor and its quantized self."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from pytest_ptq.engine.affine import SMALLEST_SCALE, UINT8
from pytest_ptq.engine.observers.extremes import minmax_range
from pytest_ptq.engine.observers.statistics import Statistics

THRESHOLDS = 128
"""How many are tried at each end, evenly over the upper 15/16 of it."""
FEWEST_BINS = 128
"""Occupied bins that a range holds, unless there are fewer: Migacz's smallest candidate. Of a single bin into which
everything is clipped, any quantization is perfect."""
SMOOTHED = 2
"""Over how many steps of the widest range: one on either side."""


def entropy_range(seen: Statistics, bounds: tuple[int, int] = UINT8) -> tuple[float, float]:
    """The range with the smallest Kullback-Leibler divergence (Migacz, 8-bit inference with TensorRT, GTC 2017).

    Migacz's procedure on a histogram: the distribution clipped to a candidate range, what lies outside counted in
    its outermost bins, against the same merged into as many levels as the integers have and spread again over the
    bins that were occupied. He searches one threshold of the absolute values; affine storage has two ends, which are
    searched one after the other, the upper one first. Exact zeros take no part, as his first bin takes none.

    The divergence compares shapes: a peak that shares a level with its neighbours counts as information lost, and it
    would rather clip the tail than that. Activations have such peaks (a background of one colour, the bend of a
    hardswish), and no range that holds the tail resolves them. So the histogram is smoothed over SMOOTHED steps of the
    widest range first: what eight bits cannot tell apart in any case has no say in what is to be clipped.
    """
    if seen.counts is None or not seen.limit:
        return minmax_range(seen, bounds)
    low, high, levels = min(seen.low, 0.0), max(seen.high, 0.0), bounds[1] - bounds[0]
    smoothed = _smoothed(seen, low, high, SMOOTHED * (high - low) / levels)
    occupied = smoothed > 0
    centres, counts = seen.centres[occupied], smoothed[occupied]
    shrink = torch.linspace(1.0, 1 / 16, THRESHOLDS, dtype=torch.float64)
    if high > 0:
        highs = shrink * high
        high = float(highs[_first_smallest(_divergence(centres, counts, torch.full_like(highs, low), highs, levels))])
    if low < 0:
        lows = shrink * low
        low = float(lows[_first_smallest(_divergence(centres, counts, lows, torch.full_like(lows, high), levels))])
    return low, high


def _smoothed(seen: Statistics, low: float, high: float, width: float) -> Tensor:
    """Counts averaged over `width` about each bin; beyond low and high they are taken to go on as in a mirror."""
    assert seen.counts is not None
    first, last = (min(int((end + seen.limit) // seen.width), len(seen.counts) - 1) for end in (low, high))
    inside = seen.counts[first : last + 1]
    around = min(round(width / seen.width / 2), len(inside) - 1)
    if around < 1:
        return seen.counts
    sums = F.pad(inside[None], (around, around), mode="reflect")[0].cumsum(0)
    sums = F.pad(sums, (1, 0))
    smoothed = torch.zeros_like(seen.counts)
    size = 2 * around + 1
    smoothed[first : last + 1] = (sums[size:] - sums[:-size]) / size
    return smoothed


def _first_smallest(divergence: Tensor) -> int:
    """The widest of equally good ranges: they come in falling width."""
    return int((divergence <= divergence.min() + 1e-12).nonzero()[0])


def _divergence(centres: Tensor, counts: Tensor, lows: Tensor, highs: Tensor, levels: int) -> Tensor:
    """D(P || Q) for each candidate range, in nats. All bins that come in are occupied, in rising order."""
    step = ((highs - lows) / levels).clamp_min(SMALLEST_SCALE)[:, None]
    level = torch.round(centres / step) - torch.round(lows[:, None] / step)
    below, above = level < 0, level > levels
    inside = ~(below | above)
    kept = counts * inside
    index = level.clamp(0, levels).long()
    merged, bins = (
        torch.zeros(len(step), levels + 1, dtype=torch.float64).scatter_add_(1, index, v)
        for v in (kept, inside.double())
    )
    q = torch.where(inside, (merged / bins.clamp_min(1)).gather(1, index), 1.0)
    p = kept
    rows, last = torch.arange(len(step)), len(centres) - 1
    p[rows, inside.double().argmax(1)] += (counts * below).sum(1)
    p[rows, last - inside.double().flip(1).argmax(1)] += (counts * above).sum(1)
    total = counts.sum()
    within = merged.sum(1)
    divergence = (torch.xlogy(p, p / total) - torch.xlogy(p, q / within.clamp_min(1)[:, None])).sum(1) / total
    enough = inside.sum(1) >= min(FEWEST_BINS, len(centres))
    return torch.where(enough, divergence, torch.inf)
