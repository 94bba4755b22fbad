"""Change points in a series of values: since when is it different. Advice for people; no verdict comes from here.

E-divisive: the split that sets the values before it and after it farthest apart in energy distance is taken for a
change if few permutations of the values can be split so far apart; then each side is looked at in the same way. The
distance is between distributions and no normal ones are assumed, nor a number of changes. Sources: Matteson and James,
A nonparametric approach for multiple change point analysis of multivariate data, J. Am. Stat. Assoc. 109:334 (2014);
Fleming et al., Hunter, arXiv 2301.03034, on using it for performance in continuous integration. Permutations are drawn
until the answer is certain: Besag and Clifford, Sequential Monte Carlo p-values, Biometrika 78:301 (1991).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from typing import TYPE_CHECKING

from pytest_ptq.errors import MeasurementError, UsageError
from pytest_ptq.metrics import Metric

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

PERMUTATIONS = 999
SHORTEST = 2
"""Fewest values on either side of a change: of fewer, nothing can be told from an outlier."""
SEED = 20140101
AT_ONCE = 1_000_000
"""Distances that are held in memory at once."""


@dataclass(frozen=True)
class Change:
    """One change.

    Args:
        index: of the first value after it.
        before, after: medians of the values from the change before to this one, and from this one to the next.
        p_value: the share of permutations that can be split as far apart.
    """

    index: int
    before: float
    after: float
    p_value: float


def change_points(values: Sequence[float], *, alpha: float = 0.01) -> tuple[Change, ...]:
    """The changes in `values`, in order; the same ones each time.

    Args:
        values: one a run, oldest first, all of one series.
        alpha: how likely a series without any change may be said to have one.

    Raises:
        MeasurementError: a value is not finite.
        UsageError: `alpha` is not between 0 and 1.
    """
    if not all(map(math.isfinite, values)):
        raise MeasurementError("a series of values holds one that is not finite", remedy="Leave it out.")
    if not 0 < alpha < 1:
        raise UsageError(f"alpha is {alpha}", remedy="Give a number between 0 and 1, such as 0.01.")
    found = _divide([float(value) for value in values], alpha)
    ends = [0, *sorted(found), len(values)]
    return tuple(
        Change(here, median(values[last:here]), median(values[here:then]), found[here])
        for last, here, then in zip(ends, ends[1:-1], ends[2:], strict=False)
    )


def changes_shown(metric: Metric, values: Sequence[float]) -> tuple[Change, ...]:
    """The changes in `values` of a metric, but for those too small for its digits: a version string in a file is none.

    Raises MeasurementError for a value that is not finite.
    """
    found = change_points(values)
    return tuple(change for change in found if metric.format(change.before) != metric.format(change.after))


def _divide(values: list[float], alpha: float) -> dict[int, float]:
    """Where each change is, and its p-value."""
    import numpy as np

    chance = np.random.default_rng(SEED)
    whole = np.asarray(values, dtype=np.float64)
    changes: dict[int, float] = {}
    while True:
        edges = [0, *sorted(changes), len(whole)]
        parts = [whole[start:end] for start, end in pairwise(edges)]
        splits = [best_split(part[None]) for part in parts]
        distances = [float(distance[0]) for distance, _ in splits]
        best = max(range(len(parts)), key=distances.__getitem__)
        if distances[best] <= 0:
            return changes
        p_value = _p_value(parts, distances[best], alpha, chance)
        if p_value > alpha:
            return changes
        changes[edges[best] + int(splits[best][1][0])] = p_value


def _p_value(parts: list[Array], distance: float, alpha: float, chance: np.random.Generator) -> float:
    """How often permuting the values within each part gives a split as far apart; above `alpha`, only about."""
    import numpy as np

    as_far = drawn = 0
    for batch in _batches(max(map(len, parts))):
        shuffled = (chance.permuted(part[None].repeat(batch, axis=0), axis=1) for part in parts)
        farthest = np.stack([best_split(rows)[0] for rows in shuffled]).max(axis=0)
        # Equal but for the last bits, which depend on the order of summing, is equal.
        as_far += int((farthest >= distance * (1 - 1e-9)).sum())
        drawn += batch
        if (1 + as_far) / (1 + PERMUTATIONS) > alpha:
            break
    return (1 + as_far) / (1 + drawn)


def _batches(length: int) -> Iterator[int]:
    """How many permutations to draw at a time: few at first, when most questions are settled."""
    left, size = PERMUTATIONS, 20
    while left:
        batch = max(1, min(left, size, AT_ONCE // length**2))
        yield batch
        left, size = left - batch, 100


def best_split(rows: Array) -> tuple[Array, NDArray[np.int64]]:
    """For each row: the largest distance between what is before and after a split, and where the split is.

    What is after it may end before the row does, so that a change that was undone is found as well. The distance of
    x (m values) and y (k values) is m k / (m + k) times 2 E|x - y| - E|x - x'| - E|y - y'|, in the unit of the values.
    """
    import numpy as np

    count, length = rows.shape
    split, end = _corners(length)
    if not len(split):
        return np.zeros(count), np.zeros(count, dtype=np.int64)
    sums = np.zeros((count, length + 1, length + 1))
    np.abs(rows[:, :, None] - rows[:, None, :]).cumsum(axis=1).cumsum(axis=2, out=sums[:, 1:, 1:])
    diagonal = np.diagonal(sums, axis1=1, axis2=2)
    before, both, within = diagonal[:, split], diagonal[:, end], sums[:, split, end]
    m, k = split, end - split
    across = 2 * (within - before) / (m * k)
    distance = m * k / end * (across - before / (m * (m - 1)) - (both - 2 * within + before) / (k * (k - 1)))
    best = distance.argmax(axis=1)
    return distance[np.arange(count), best], split[best]


def _corners(length: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Every split with every end behind it, as two arrays."""
    import numpy as np

    split, end = np.triu_indices(length + 1, SHORTEST)
    kept = split >= SHORTEST
    return split[kept].astype(np.int64), end[kept].astype(np.int64)
