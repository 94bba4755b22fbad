"""Other ways to find change points, written from their descriptions, to be held against the one in use."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pytest_ptq.student import t_cdf

ALPHA = 0.01
SHORTEST = 2
PENALTY = 4.0
"""asv's factor before ln(m)/m for each segment."""

Array = NDArray[np.float64]


def single_splits(values: Sequence[float]) -> list[int]:
    """Split where the halves are farthest apart in energy distance, accept by Welch's t-test, and look at each half.

    What Hunter does in the place of permutations: Fleming et al., arXiv 2301.03034, section 3.
    """
    return sorted(_divide(np.asarray(values, dtype=np.float64), 0))


def _divide(values: Array, offset: int) -> list[int]:
    if len(values) < 2 * SHORTEST:
        return []
    at = _farthest(values)
    if _welch(values[:at], values[at:]) > ALPHA:
        return []
    return [*_divide(values[:at], offset), offset + at, *_divide(values[at:], offset + at)]


def _farthest(values: Array) -> int:
    """The split of all `values` with the largest energy distance."""
    apart = np.abs(values[:, None] - values[None, :])
    sums = np.zeros((len(values) + 1, len(values) + 1))
    sums[1:, 1:] = apart.cumsum(0).cumsum(1)
    m = np.arange(SHORTEST, len(values) - SHORTEST + 1)
    k = len(values) - m
    before, across, all_ = np.diagonal(sums)[m], sums[m, -1] - np.diagonal(sums)[m], sums[-1, -1]
    after = all_ - before - 2 * across
    distance = m * k / (m + k) * (2 * across / (m * k) - before / (m * (m - 1)) - after / (k * (k - 1)))
    return int(m[distance.argmax()])


def _welch(x: Array, y: Array) -> float:
    """Two-sided p-value; the degrees of freedom are rounded down."""
    vx, vy = x.var(ddof=1) / len(x), y.var(ddof=1) / len(y)
    if vx + vy == 0:
        return 0.0 if x.mean() != y.mean() else 1.0
    df = (vx + vy) ** 2 / (vx**2 / (len(x) - 1) + vy**2 / (len(y) - 1))
    return 2 * (1 - t_cdf(abs(x.mean() - y.mean()) / math.sqrt(vx + vy), max(1, int(df))))


def potts(values: Sequence[float]) -> list[int]:
    """Piecewise constant fit in L1; the number of pieces by asv's information criterion.

    Criterion and floor as asv's `step_detect` describes them, without its term for correlated noise: 4 ln(m)/m a piece
    plus ln(floor + sum of deviations), over the fits that are best at some price a piece.
    Friedrich et al., Complexity penalized M-estimation, J. Comput. Graph. Stat. 17:201 (2008).
    """
    y = np.asarray(values, dtype=np.float64)
    m = len(y)
    if np.ptp(y) == 0:
        return []
    cost = _deviations(y)
    most = min(m, 12)
    best = np.full((most + 1, m + 1), math.inf)
    back = np.zeros((most + 1, m + 1), dtype=int)
    best[0, 0] = 0.0
    for pieces in range(1, most + 1):
        ways = best[pieces - 1][:, None] + cost
        best[pieces], back[pieces] = ways.min(axis=0), ways.argmin(axis=0)
    scores: dict[tuple[int, ...], float] = {}
    for pieces in _reachable([float(best[pieces, m]) for pieces in range(1, most + 1)]):
        edges = _edges(back, pieces, m)
        scores[tuple(edges)] = math.log(_floor(y, edges) + best[pieces, m]) + PENALTY * math.log(m) / m * pieces
    return list(min(scores.items(), key=lambda item: item[1])[0])


def _reachable(costs: Sequence[float]) -> list[int]:
    """Numbers of pieces that are best at some price a piece: the corners of the lower convex hull of the costs."""
    hull: list[int] = []
    for k in range(len(costs)):
        while len(hull) > 1 and _slope(costs, hull[-1], k) <= _slope(costs, hull[-2], hull[-1]):
            hull.pop()
        hull.append(k)
    return [k + 1 for k in hull if k == 0 or costs[k] < costs[0]]


def _slope(costs: Sequence[float], a: int, b: int) -> float:
    return (costs[b] - costs[a]) / (b - a)


def _deviations(y: Array) -> Array:
    """[i, j]: sum of deviations of y[i:j] from its median; infinite where i >= j."""
    found = np.full((len(y) + 1, len(y) + 1), math.inf)
    for i in range(len(y)):
        for j in range(i + 1, len(y) + 1):
            found[i, j] = np.abs(y[i:j] - np.median(y[i:j])).sum()
    return found


def _edges(back: NDArray[np.int_], pieces: int, end: int) -> list[int]:
    edges: list[int] = []
    for left in range(pieces, 1, -1):
        end = int(back[left, end])
        edges.append(end)
    return edges[::-1]


def _floor(y: Array, edges: Sequence[int]) -> float:
    levels = [float(np.median(piece)) for piece in np.split(y, edges)]
    if len(levels) > 2:
        return max(1e-300, 0.1 * float(np.abs(np.diff(levels)).min()))
    return max(1e-300, 0.001 * min(map(abs, levels)))
