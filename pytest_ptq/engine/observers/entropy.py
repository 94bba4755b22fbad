"""The range that keeps most of the information: the smallest divergence between a tensor and its quantized self."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from pytest_ptq.engine.affine import SMALLEST_SCALE, UINT8
from pytest_ptq.engine.observers.extremes import minmax_range
from pytest_ptq.engine.observers.statistics import Statistics, once

THRESHOLDS = 128
"""How many are tried at each end, evenly over the upper 15/16 of it."""
FEWEST_BINS = 128
"""Occupied bins that a range holds, unless there are fewer: Migacz's smallest candidate. Of a single bin into which
everything is clipped, any quantization is perfect."""
SMOOTHED = 2
"""Over how many steps of the widest range: one on either side."""
SMALLEST_COUNT = 1e-300
"""In place of 0, where what is empty is multiplied with its logarithm."""


@once
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
    counts = _smoothed(seen, low, high, SMOOTHED * (high - low) / levels)
    shrink = torch.linspace(1.0, 1 / 16, THRESHOLDS, dtype=torch.float64)
    if high > 0:
        highs = shrink * high
        lows = torch.full_like(highs, low)
        high = float(highs[_first_smallest(_divergence(counts, seen.width, lows, highs, levels))])
    if low < 0:
        lows = shrink * low
        highs = torch.full_like(lows, high)
        low = float(lows[_first_smallest(_divergence(counts, seen.width, lows, highs, levels))])
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


def _divergence(counts: Tensor, width: float, lows: Tensor, highs: Tensor, levels: int) -> Tensor:
    """D(P || Q) for each candidate range, in nats; infinite where a range holds too few occupied bins.

    Levels follow each other as bins do. What a level holds is the difference of two cumulative sums, and so is what
    the bins inside add to sum p log p: only the outermost two of them also carry what lies outside.

    Args:
        counts: of the bins, symmetric about zero and `width` wide, float64 (BINS,).
        lows, highs: of the candidates, (candidates,).
        levels: how many steps a range has.
    """
    occupied = counts > 0
    kept = counts[occupied]
    kept = kept * (len(kept) / kept.sum())  # about 1 each: sums of logarithms stay small
    before = F.pad(occupied.cumsum(0), (1, 0))  # occupied bins before each bin
    held, entropy = F.pad(torch.stack([kept, torch.xlogy(kept, kept)]).cumsum(1), (1, 0))
    first = before.index_select(0, _level_starts(len(counts), width, lows, highs, levels).view(-1))
    merged = held.index_select(0, first).view(len(lows), -1).diff(dim=1)
    first = first.view(len(lows), -1)
    log_q = (merged / first.diff(dim=1).clamp_min_(1)).clamp_min_(SMALLEST_COUNT).log_()
    ends = first[:, :: levels + 1]
    inside, (start, end) = held[ends], ends.unbind(1)
    outermost = torch.stack([start, end - 1], 1).clamp_(0, len(kept) - 1)
    outside = torch.stack([inside[:, 0], held[-1] - inside[:, 1]], 1)
    level = (torch.searchsorted(first, outermost, right=True) - 1).clamp_(0, levels)
    cross = torch.linalg.vecdot(merged, log_q) + torch.linalg.vecdot(outside, log_q.gather(1, level))
    plain = kept[outermost]
    full = plain + outside
    own = entropy[end] - entropy[start] + (torch.xlogy(full, full) - torch.xlogy(plain, plain)).sum(1)
    divergence = (own - cross) / held[-1] + torch.log((inside[:, 1] - inside[:, 0]) / held[-1])
    return torch.where(end - start >= min(FEWEST_BINS, len(kept)), divergence, torch.inf)


def _level_starts(bins: int, width: float, lows: Tensor, highs: Tensor, levels: int) -> Tensor:
    """The first bin of each level, and the one behind the last level: int64 (candidates, levels + 2).

    A bin belongs to the level that its centre is rounded to.
    """
    step = ((highs - lows) / levels).clamp_min(SMALLEST_SCALE)[:, None]
    half_below = torch.arange(levels + 2, dtype=torch.float64) - 0.5
    starts = (half_below + torch.round(lows[:, None] / step)) * (step / width)
    return starts.add_((bins - 1) / 2).ceil_().clamp_(0, bins).long()
