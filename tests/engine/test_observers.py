"""Observers: what they remember, and the ranges that follow."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from pytest_ptq.engine.affine import UINT7, UINT8, choose_qparams, dequantize, quantize
from pytest_ptq.engine.observers import (
    BINS,
    CANDIDATES,
    CLIPPING_WEIGHT,
    HistogramObserver,
    MinMaxObserver,
    Statistics,
    histogram_range,
    minmax_range,
)
from pytest_ptq.errors import QuantizationError

FLOATS = st.floats(allow_nan=False, allow_infinity=False, width=32)
ORDINARY = st.floats(-(2.0**60), 2.0**60, width=32).filter(lambda x: x == 0 or abs(x) > 1e-18)
BATCHES = st.lists(st.lists(FLOATS, min_size=1, max_size=20), min_size=1, max_size=6)


def observed(kind: type[MinMaxObserver], batches: Sequence[Tensor]) -> Statistics:
    observer = kind("layer")
    for batch in batches:
        assert observer(batch) is batch
    return observer.statistics()


def histogram(*batches: Tensor) -> Statistics:
    return observed(HistogramObserver, batches)


@given(BATCHES)
def test_minmax_remembers_the_extremes(batches: list[list[float]]) -> None:
    seen = observed(MinMaxObserver, [torch.tensor(b) for b in batches])
    values = [v for b in batches for v in b]
    assert (seen.low, seen.high, seen.values) == (min(values), max(values), len(values))
    assert minmax_range(seen) == (seen.low, seen.high)


@given(st.lists(st.lists(ORDINARY, min_size=1, max_size=20), min_size=1, max_size=6), st.randoms(use_true_random=False))
def test_a_histogram_depends_on_neither_order_nor_batches(batches: list[list[float]], random: object) -> None:
    """No value changes its bin when the range grows, over 36 orders of magnitude."""
    tensors = [torch.tensor(b) for b in batches]
    shuffled = tensors.copy()
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    whole = histogram(torch.cat(tensors))
    for other in (histogram(*tensors), histogram(*shuffled)):
        assert (other.low, other.high, other.values, other.limit) == (whole.low, whole.high, whole.values, whole.limit)
        assert torch.equal(other.counts, whole.counts)


@given(BATCHES)
def test_growth_loses_no_value(batches: list[list[float]]) -> None:
    seen = histogram(*[torch.tensor(b) for b in batches])
    values = torch.tensor([v for b in batches for v in b])
    assert float(seen.counts.sum()) == int((values != 0).sum()), "every value but the exact zeros"
    if seen.limit:
        assert max(abs(seen.low), abs(seen.high)) < seen.limit


def test_each_value_lies_in_its_bin() -> None:
    x = torch.tensor([-7.5, -0.001, 0.001, 3.0, 7.999])
    seen = histogram(x)
    width = 2 * seen.limit / BINS
    for value in x.tolist():
        assert seen.counts[int((value + seen.limit) // width)] == 1


def test_a_value_at_the_edge_of_the_range_so_far() -> None:
    """Powers of two lie on the edge between two bins, also on the outermost."""
    batches = [torch.tensor([v]) for v in (3.0, 4.0, -8.0, 16.0, -0.5)]
    assert torch.equal(histogram(*batches).counts, histogram(*batches[::-1]).counts)
    assert histogram(*batches).limit == 32.0


def test_random_batches_merge_exactly() -> None:
    generator = torch.Generator().manual_seed(0)
    batches = [torch.randn(1000, generator=generator) * 4**i for i in range(6)]
    assert torch.equal(histogram(*batches).counts, histogram(*batches[::-1]).counts)
    assert torch.equal(histogram(*batches).counts, histogram(torch.cat(batches)).counts)


def test_exact_zeros_take_no_part_in_a_histogram() -> None:
    x = torch.cat([torch.zeros(100_000), torch.randn(1000, generator=torch.Generator().manual_seed(0)).abs()])
    with_zeros, without = histogram(x), histogram(x[100_000:])
    assert torch.equal(with_zeros.counts, without.counts)
    assert with_zeros.values == 101_000
    assert histogram_range(with_zeros)[1] == histogram_range(without)[1]


def weighted_error(x: Tensor, low: float, high: float, bounds: tuple[int, int], blur: float) -> float:
    """What quantizing x really costs: squared rounding error, and CLIPPING_WEIGHT times the squared clipping error.

    Clipping is what exceeds half a step by more than `blur`, within which a histogram cannot tell.
    """
    q = choose_qparams(low, high, bounds)
    error = (dequantize(quantize(x, q), q).double() - x.double()).square()
    outside = error.sqrt() > q.scale / 2 + blur
    return float(error[~outside].sum() + CLIPPING_WEIGHT * error[outside].sum())


def _samples() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    normal = torch.randn(10_000, generator=generator)
    return {
        "normal": normal,
        "behind a relu": normal.clamp_min(0),
        "laplace": normal.sign() * torch.empty(10_000).exponential_(generator=generator),
        "negative": -normal.abs() - 0.1,
        "behind a hardswish": torch.nn.functional.hardswish(normal * 2),
        "skewed": normal.exp() - 0.5,
        "peaked": torch.cat([normal[:9500] * 0.02, torch.empty(500).exponential_(generator=generator) * 2]),
    }


@pytest.mark.parametrize("bounds", [UINT8, UINT7])
@pytest.mark.parametrize("name", _samples())
def test_the_chosen_range_costs_least(name: str, bounds: tuple[int, int]) -> None:
    x = _samples()[name]
    seen = histogram(x)
    grid = [i / 16 for i in range(1, 17)]
    lows = [seen.low * s for s in grid] if seen.low < 0 else [0.0]
    highs = [seen.high * s for s in grid] if seen.high > 0 else [0.0]
    blur = 2 * seen.limit / BINS
    best = min(weighted_error(x, low, high, bounds, blur) for low in lows for high in highs)
    assert weighted_error(x, *histogram_range(seen, bounds), bounds, blur) <= 1.05 * best


def test_an_outlier_is_clipped_by_the_histogram_and_not_by_minmax() -> None:
    x = torch.randn(1_000_000, generator=torch.Generator().manual_seed(0))
    x[7] = 8.0
    seen = histogram(x)
    assert minmax_range(seen)[1] == 8.0
    low, high = histogram_range(seen)
    assert 4.0 < high < 7.0
    assert low == pytest.approx(float(x.min()), rel=0.2)


def test_what_rounds_to_zero_is_not_free() -> None:
    """A hundred million values of 0.01 outweigh one of 10, whose step would make zeros of them all."""
    limit = 16.0
    counts = torch.zeros(BINS, dtype=torch.float64)
    for value, count in ((0.01, 1e8), (9.999, 1)):
        counts[int((value + limit) / (2 * limit) * BINS)] += count
    assert histogram_range(Statistics(0.0, 10.0, 10**8, limit, counts))[1] < 2.0
    counts[BINS // 2 + 1] = 10.0
    assert histogram_range(Statistics(0.0, 10.0, 10**8, limit, counts))[1] > 9.0, "ten of them do not"


def test_fewer_steps_clip_more() -> None:
    seen = histogram(torch.empty(50_000).exponential_(generator=torch.Generator().manual_seed(0)))
    assert histogram_range(seen, UINT7)[1] < histogram_range(seen, UINT8)[1] <= seen.high


@given(FLOATS)
def test_a_constant_is_represented(value: float) -> None:
    for shape in ((1,), (2, 3)):
        seen = histogram(torch.full(shape, value))
        low, high = histogram_range(seen)
        q = choose_qparams(low, high)
        assert q.scale > 0
        back = dequantize(quantize(torch.tensor([value]), q), q).item()
        # The grid of candidates never leaves a single value out by more than its coarsest step.
        assert back == pytest.approx(value, rel=1 / CANDIDATES + 1 / 255, abs=1e-9)


def test_nothing_but_zeros() -> None:
    seen = histogram(torch.zeros(4), torch.zeros(2))
    assert (seen.low, seen.high, seen.limit) == (0.0, 0.0, 0.0)
    assert histogram_range(seen) == (0.0, 0.0)


def test_zeros_first_and_values_later() -> None:
    seen = histogram(torch.zeros(4), torch.tensor([1.0, 2.0]))
    assert float(seen.counts.sum()) == 2
    assert histogram_range(seen) == (0.0, pytest.approx(2.0, rel=0.05))


@pytest.mark.parametrize("kind", [MinMaxObserver, HistogramObserver])
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_a_value_that_is_not_finite_names_the_layer(kind: type[MinMaxObserver], bad: float) -> None:
    observer = kind("features.3.conv")
    observer(torch.ones(3))
    with pytest.raises(QuantizationError, match=r"features\.3\.conv: the output holds NaN or Inf"):
        observer(torch.tensor([1.0, bad, 2.0]))
    assert observer.statistics().values == 3, "the batch before it still counts"


@pytest.mark.parametrize("kind", [MinMaxObserver, HistogramObserver])
def test_without_data_there_are_no_statistics(kind: type[MinMaxObserver]) -> None:
    with pytest.raises(QuantizationError, match=r"stem: no calibration data reached it"):
        kind("stem").statistics()


def test_statistics_do_not_change_when_the_observer_sees_more() -> None:
    observer = HistogramObserver()
    observer(torch.tensor([1.0, -2.0]))
    seen = observer.statistics()
    counts = seen.counts.clone()
    for more in (1.5, 50.0):  # within the range so far, and beyond
        observer(torch.tensor([more]))
        assert (seen.high, seen.limit) == (1.0, 4.0)
        assert torch.equal(seen.counts, counts)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_other_float_types_are_observed_too(dtype: torch.dtype) -> None:
    seen = histogram(torch.tensor([-1.0, 0.0, 3.0], dtype=dtype))
    assert (seen.low, seen.high, float(seen.counts.sum())) == (-1.0, 3.0, 2.0)


def test_it_prints_its_range() -> None:
    observer = MinMaxObserver()
    assert str(observer) == "MinMaxObserver(nothing observed yet)"
    observer(torch.tensor([-1.5, 2.0]))
    assert str(observer) == "MinMaxObserver(min_val=-1.5, max_val=2)"
