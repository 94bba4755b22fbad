"""Two classifiers on the same images: statistics of paired proportions, in plain Python.

The four counts of a paired comparison are written, throughout, as

    both        images that fp32 and int8 both get right
    lost        images that only fp32 gets right
    gained      images that only int8 gets right
    neither     images that both get wrong
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

from pytest_ptq.errors import MeasurementError

Z_95 = NormalDist().inv_cdf(0.975)
"""Two-sided 95 % quantile of the normal distribution, 1.96."""

Z_POWER_80 = NormalDist().inv_cdf(0.80)
"""Quantile for a power of 80 %, 0.84."""


@dataclass(frozen=True)
class PairedCounts:
    """How often each of the four outcomes occurred. Raises MeasurementError when negative or all zero."""

    both: int
    lost: int
    gained: int
    neither: int

    def __post_init__(self) -> None:
        if min(self.both, self.lost, self.gained, self.neither) < 0 or self.images == 0:
            raise MeasurementError(f"{self} does not describe any images")

    @property
    def images(self) -> int:
        return self.both + self.lost + self.gained + self.neither

    @property
    def fp32_correct(self) -> int:
        return self.both + self.lost

    @property
    def int8_correct(self) -> int:
        return self.both + self.gained

    @property
    def drop(self) -> float:
        """Accuracy of fp32 minus accuracy of int8, as a proportion."""
        return (self.lost - self.gained) / self.images

    @property
    def discordance(self) -> float:
        """Share of images that exactly one of the two gets right."""
        return (self.lost + self.gained) / self.images


def mcnemar_exact(lost: int, gained: int) -> float:
    """Two-sided p-value of "int8 loses as many images as it gains".

    Under that hypothesis the lost ones follow Binomial(lost + gained, 1/2); the p-value is twice the smaller tail,
    at most 1. Source: McNemar, Psychometrika 12:153 (1947), in its exact form. Computed in integers, so that it is
    right for any count.
    """
    n, fewer = lost + gained, min(lost, gained)
    term = tail = 1
    for i in range(fewer):
        term = term * (n - i) // (i + 1)
        tail += term
    return min(1.0, 2 * tail / (1 << n))


def wilson(successes: int, trials: int) -> tuple[float, float]:
    """95 % score interval of a proportion. Source: Wilson, J. Am. Stat. Assoc. 22:209 (1927)."""
    p, z2 = successes / trials, Z_95**2
    centre = p + z2 / (2 * trials)
    half = Z_95 * math.sqrt(p * (1 - p) / trials + z2 / (4 * trials**2))
    low, high = ((centre + sign * half) / (1 + z2 / trials) for sign in (-1, 1))
    # Exact at the ends, where rounding alone would leave the interval beside its own estimate.
    return (0.0 if successes == 0 else low), (1.0 if successes == trials else high)


def newcombe(counts: PairedCounts) -> tuple[float, float]:
    """95 % interval of `counts.drop`, a difference of paired proportions.

    The score intervals of the two accuracies are joined by square-and-add, less what their correlation shares.
    Source: Newcombe, Statistics in Medicine 17:2635 (1998), method 10.
    """
    n = counts.images
    p1, p2 = counts.fp32_correct / n, counts.int8_correct / n
    (low1, high1), (low2, high2) = wilson(counts.fp32_correct, n), wilson(counts.int8_correct, n)
    phi = _correlation(counts)

    def reach(a: float, b: float) -> float:
        return math.sqrt(max(0.0, a * a - 2 * phi * a * b + b * b))

    low = counts.drop - reach(p1 - low1, high2 - p2)
    high = counts.drop + reach(high1 - p1, p2 - low2)
    return max(-1.0, low), min(1.0, high)


def _correlation(counts: PairedCounts) -> float:
    """Newcombe's estimate of phi: a positive one is drawn towards zero by n/2, a negative one kept."""
    n = counts.images
    spread = counts.fp32_correct * (n - counts.fp32_correct) * counts.int8_correct * (n - counts.int8_correct)
    if spread == 0:
        return 0.0
    product = counts.both * counts.neither - counts.lost * counts.gained
    if product > 0:
        product_corrected = max(product - n / 2, 0.0)
        return product_corrected / math.sqrt(spread)
    return product / math.sqrt(spread)


def images_needed(drop: float, discordance: float) -> float:
    """How many images show a `drop` (proportion) at 5 % two-sided with 80 % power, given the `discordance`.

    Source: Connor, Biometrics 43:207 (1987), for McNemar's test. A drop needs at least that much discordance, so a
    smaller one is raised to it.
    """
    psi = max(discordance, drop)
    root = (Z_95 * math.sqrt(psi) + Z_POWER_80 * math.sqrt(psi - drop * drop)) / drop
    return root * root


def resolvable_drop(images: int, discordance: float) -> float:
    """The smallest drop (proportion) that `images` can show, the inverse of `images_needed`; 1.0 when none can."""
    if images_needed(1.0, discordance) > images:
        return 1.0
    low, high = 0.0, 1.0
    while high - low > 1e-9:
        middle = (low + high) / 2
        if images_needed(middle, discordance) > images:
            low = middle
        else:
            high = middle
    return high
