"""The rules that search a range, held against the same searches done slowly: candidate by candidate, bin by bin."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from pytest_ptq.engine.affine import PAIRED, UINT7, UINT8
from pytest_ptq.engine.observers import (
    BINS,
    CANDIDATES,
    CLIPPING_WEIGHT,
    HistogramObserver,
    Statistics,
    entropy_range,
    histogram_range,
    mse_range,
    percentile_range,
)
from pytest_ptq.engine.observers import least_squares as searching
from pytest_ptq.engine.observers.entropy import FEWEST_BINS, SMOOTHED, THRESHOLDS, _smoothed

Rule = Callable[..., tuple[float, float]]
BOUNDS = st.sampled_from([UINT8, UINT7, PAIRED, (0, 90)])


SIGNS = ("both", "none negative", "none positive")


@st.composite
def histograms(draw: st.DrawFn) -> Statistics:
    """Of bodies with tails, peaks and gaps, of one sign or of both, many values or few."""
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**20)))
    count = draw(st.sampled_from([1, 5, 200, 20_000]))
    normal = torch.randn(count, generator=generator)
    tail = draw(st.sampled_from([1.0, 3.0]))
    x = normal.sign() * normal.abs() ** tail * 2.0 ** draw(st.integers(-30, 30)) + draw(st.sampled_from([0.0, 0.5]))
    peak = draw(st.integers(0, count // 2))
    x[:peak] = x[-1].clone()
    observer = HistogramObserver("layer")
    observer({"both": x, "none negative": x.abs(), "none positive": -x.abs()}[draw(st.sampled_from(SIGNS))])
    return observer.statistics()


# --- entropy


def plain_divergence(centres: Tensor, counts: Tensor, low: float, high: float, levels: int) -> float:
    """Migacz's procedure for one candidate, on the occupied bins in rising order."""
    step = max((high - low) / levels, 1e-12)
    level = torch.round(centres / step) - round(low / step)
    inside = (level >= 0) & (level <= levels)
    if int(inside.sum()) < min(FEWEST_BINS, len(centres)):
        return math.inf
    p, numbers = counts[inside].clone(), level[inside].long()
    p[0] += counts[level < 0].sum()
    p[-1] += counts[level > levels].sum()
    merged = torch.bincount(numbers, counts[inside])[numbers]
    q = merged / torch.bincount(numbers)[numbers]
    return float((p * torch.log((p / p.sum()) / (q / q.sum()))).sum() / p.sum())


def plain_entropy_range(seen: Statistics, bounds: tuple[int, int]) -> tuple[float, float]:
    low, high, levels = min(seen.low, 0.0), max(seen.high, 0.0), bounds[1] - bounds[0]
    smoothed = _smoothed(seen, low, high, SMOOTHED * (high - low) / levels)
    centres, counts = seen.centres[smoothed > 0], smoothed[smoothed > 0]
    parts = torch.linspace(1.0, 1 / 16, THRESHOLDS, dtype=torch.float64).tolist()

    def first_smallest(candidates: list[tuple[float, float]]) -> tuple[float, float]:
        found = [plain_divergence(centres, counts, *c, levels) for c in candidates]
        return next(c for c, d in zip(candidates, found, strict=True) if d <= min(found) + 1e-12)

    if high > 0:
        low, high = first_smallest([(low, part * high) for part in parts])
    if low < 0:
        low, high = first_smallest([(part * low, high) for part in parts])
    return low, high


@settings(max_examples=25)
@given(histograms(), BOUNDS)
def test_entropy_finds_what_the_slow_procedure_finds(seen: Statistics, bounds: tuple[int, int]) -> None:
    if not seen.limit:
        return
    found, (low, high) = entropy_range(seen, bounds), plain_entropy_range(seen, bounds)
    if found == (low, high):
        return
    # Only where candidates are as good as each other to the last digits may another one be taken.
    levels, reach = bounds[1] - bounds[0], (min(seen.low, 0.0), max(seen.high, 0.0))
    smoothed = _smoothed(seen, *reach, SMOOTHED * (reach[1] - reach[0]) / levels)
    centres, counts = seen.centres[smoothed > 0], smoothed[smoothed > 0]
    assert plain_divergence(centres, counts, *found, levels) == pytest.approx(
        plain_divergence(centres, counts, low, high, levels), abs=1e-11
    )


# --- least squares


def plain_error(seen: Statistics, low: float, high: float, step: float, weight: float) -> float:
    """What a range costs: each bin by itself."""
    assert seen.counts is not None
    error, half = 0.0, step / 2
    for x, n in zip(seen.centres.tolist(), seen.counts.tolist(), strict=True):
        if not n:
            continue
        if x < low - half:
            error += weight * n * (x - low) ** 2
        elif x > high + half:
            error += weight * n * (x - high) ** 2
        else:
            error += n * x**2 if abs(x) <= half else n * step**2 / 12
    return error


@pytest.mark.parametrize(("rule", "weight"), [(histogram_range, CLIPPING_WEIGHT), (mse_range, 1.0)])
@settings(max_examples=10)
@given(histograms(), BOUNDS, st.randoms(use_true_random=False))
def test_no_candidate_costs_less_than_the_chosen_one(
    rule: Rule, weight: float, seen: Statistics, bounds: tuple[int, int], chosen: random.Random
) -> None:
    if not seen.limit:
        return
    found_low, found_high = rule(seen, bounds)
    levels = bounds[1] - bounds[0]
    found = plain_error(seen, found_low, found_high, (found_high - found_low) / levels, weight)
    for _ in range(20):
        part, other = (1 - chosen.randrange(CANDIDATES) / CANDIDATES for _ in range(2))
        low, high = part * min(seen.low, 0.0), other * max(seen.high, 0.0)
        step = max((high - low) / levels, 1e-12)
        low = round(low / step) * step
        # A bin that lies on the border of half a step falls to either side of it.
        assert found <= plain_error(seen, low, low + levels * step, step, weight) * (1 + 1e-6)


# --- what follows from the same statistics is worked out once


def some() -> Statistics:
    observer = HistogramObserver("layer")
    observer(torch.randn(1000, generator=torch.Generator().manual_seed(0)))
    return observer.statistics()


def test_both_rules_of_least_squares_search_once(monkeypatch: pytest.MonkeyPatch) -> None:
    searches: list[int] = []
    original = searching._errors
    monkeypatch.setattr(searching, "_errors", lambda *a: (searches.append(1), original(*a))[1])
    seen, other = some(), some()
    for rule in (histogram_range, mse_range, histogram_range):
        rule(seen)
    assert len(searches) == 1
    histogram_range(seen, UINT7)
    histogram_range(other)
    assert len(searches) == 3, "other integers and other statistics are searched for themselves"


@pytest.mark.parametrize("rule", [histogram_range, mse_range, entropy_range, percentile_range])
def test_what_was_found_belongs_to_its_statistics(rule: Rule) -> None:
    seen = some()
    found = rule(seen)
    assert seen.counts is not None
    counts = torch.zeros(BINS, dtype=torch.float64)
    counts[BINS // 2 : BINS // 2 + 200] = seen.counts.sum() / 200
    changed = replace(seen, counts=counts, low=0.0, high=200.5 * seen.width)
    assert rule(changed) != found
    assert rule(replace(seen)) == found
    assert seen.magnitudes() is seen.magnitudes()
    assert seen.magnitudes() is not changed.magnitudes()


def test_a_percentile_is_not_taken_for_another() -> None:
    seen = some()
    wide, narrow = percentile_range(seen, UINT8, percentile=99.9), percentile_range(seen, UINT8, percentile=80.0)
    assert narrow[1] < wide[1]
    assert percentile_range(seen, UINT8, percentile=99.9) == wide
