"""What is remembered of one tensor: enough for every range rule, and no more however many batches went by."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Concatenate, ParamSpec, TypeVar

import torch
from torch import Tensor

BINS = 4096

R = TypeVar("R")
P = ParamSpec("P")


def once(rule: Callable[Concatenate[Statistics, P], R]) -> Callable[Concatenate[Statistics, P], R]:
    """The same rule, which works out only once what follows from the same statistics.

    They never change, and what was found is kept with them: the qconfigs of a sweep, and those tried by a search, ask
    for much that is the same.
    """

    @functools.wraps(rule)
    def known(seen: Statistics, /, *arguments: P.args, **named: P.kwargs) -> R:
        key = (rule, arguments, *sorted(named.items()))
        if key not in seen.found:
            seen.found[key] = rule(seen, *arguments, **named)
        value: R = seen.found[key]
        return value

    return known


@dataclass(frozen=True, eq=False)
class Statistics:
    """What an observer saw of one tensor.

    Args:
        low, high: the extremes.
        values: how many there were.
        limit: how far the histogram reaches on either side of zero; 0 without one.
        counts: `counts[i]` is the number of values in bin i of BINS equal bins over -limit..limit, exact zeros left
            out: they are represented exactly whatever the scale, and behind a ReLU they are most of the values.
        average_low, average_high: moving averages of the batches' extremes; the extremes where none were taken.
        step: how far apart the values are where all of them lie on a grid, as pixels do.

    What `once` found out from them is kept in `found`.
    """

    low: float
    high: float
    values: int
    limit: float = 0.0
    counts: Tensor | None = None
    average_low: float | None = None
    average_high: float | None = None
    step: float | None = None
    found: dict[object, Any] = field(default_factory=dict, init=False, repr=False)

    @property
    def width(self) -> float:
        """Of a bin."""
        return 2 * self.limit / BINS

    @property
    def centres(self) -> Tensor:
        """The middle of each bin, float64 (BINS,)."""
        return (torch.arange(BINS, dtype=torch.float64) + 0.5) * self.width - self.limit

    @property
    def averages(self) -> tuple[float, float]:
        low = self.low if self.average_low is None else self.average_low
        return low, self.high if self.average_high is None else self.average_high

    @once
    def magnitudes(self) -> Statistics:
        """The same of the absolute values. The bins are symmetric about zero, so that they fold onto each other."""
        counts = self.counts
        if counts is not None:
            folded = counts[BINS // 2 :] + counts[: BINS // 2].flip(0)
            counts = torch.cat([torch.zeros_like(folded), folded])
        low, high = self.averages
        return replace(
            self, low=0.0, high=max(abs(self.low), abs(self.high)), counts=counts,
            average_low=0.0, average_high=max(abs(low), abs(high)),
        )  # fmt: skip
