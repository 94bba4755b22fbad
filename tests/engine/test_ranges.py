"""Range rules that a histogram serves: percentile, entropy, mse; moving averages; and symmetric storage."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from pytest_ptq.engine.affine import UINT7, UINT8, choose_qparams, dequantize, half_steps, quantize
from pytest_ptq.engine.calibrate import qparams_of
from pytest_ptq.engine.observers import (
    BINS,
    OBSERVERS,
    HistogramObserver,
    MinMaxObserver,
    Statistics,
    entropy_range,
    histogram_range,
    minmax_range,
    moving_average_range,
    mse_range,
    percentile_range,
)
from pytest_ptq.engine.observers.collect import AVERAGING, CHUNK, count
from pytest_ptq.engine.plan import QSpec
from pytest_ptq.qconfig import OBSERVERS as NAMES

FLOATS = st.floats(-(2.0**40), 2.0**40, width=32, allow_subnormal=False)


def seen_by(kind: type[MinMaxObserver], *batches: Tensor) -> Statistics:
    observer = kind("layer")
    for batch in batches:
        observer(batch)
    return observer.statistics()


def histogram(*batches: Tensor) -> Statistics:
    return seen_by(HistogramObserver, *batches)


def normal(count: int = 20_000, seed: int = 0) -> Tensor:
    return torch.randn(count, generator=torch.Generator().manual_seed(seed))


def heavy(count: int = 1_000_000) -> Tensor:
    """A normal body and a few values far out."""
    x = normal(count)
    x[:3] = torch.tensor([40.0, -30.0, 20.0])
    return x


def error(x: Tensor, seen: Statistics, spec: QSpec) -> float:
    q = qparams_of(seen, spec)
    return float((dequantize(quantize(x, q), q).double() - x.double()).square().mean())


def test_the_table_has_the_names_that_a_qconfig_may_give() -> None:
    assert tuple(OBSERVERS) == NAMES


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("bounds", [UINT8, UINT7])
@pytest.mark.parametrize("symmetric", [False, True])
@given(values=st.lists(FLOATS, min_size=1, max_size=30))
def test_any_tensor_gets_a_finite_positive_scale(
    name: str, bounds: tuple[int, int], symmetric: bool, values: list[float]
) -> None:
    seen = histogram(torch.tensor(values))
    q = qparams_of(seen, QSpec(name, bounds, symmetric))
    assert 0 < q.scale < math.inf
    assert bounds[0] <= q.zero_point <= bounds[1]
    # Half a step is what a whole zero point, and one bin what a histogram, may add.
    reach = max(abs(seen.low), abs(seen.high))
    assert q.scale * (q.quant_max - q.quant_min) <= 2 * (1 + 1 / half_steps(bounds)) * reach + 1e-9


@pytest.mark.parametrize("name", NAMES)
def test_of_nothing_but_zeros_nothing_is_made(name: str) -> None:
    for symmetric in (False, True):
        q = qparams_of(histogram(torch.zeros(5)), QSpec(name, UINT8, symmetric))
        assert dequantize(quantize(torch.zeros(2), q), q).tolist() == [0.0, 0.0]


# --- moving averages


def test_a_moving_average_of_few_batches_is_nearly_their_mean() -> None:
    seen = seen_by(MinMaxObserver, torch.tensor([-1.0, 2.0]), torch.tensor([-3.0, 4.0]))
    low, high = moving_average_range(seen)
    first, second = (1 - AVERAGING) / (2 - AVERAGING), 1 / (2 - AVERAGING)
    assert (low, high) == (pytest.approx(-first - 3 * second), pytest.approx(2 * first + 4 * second))
    assert (low, high) == (pytest.approx(-2, rel=0.01), pytest.approx(3, rel=0.01))


def test_one_odd_batch_counts_little() -> None:
    batches = [torch.tensor([-1.0, 1.0])] * 50
    seen = seen_by(MinMaxObserver, *batches[:25], torch.tensor([-100.0, 100.0]), *batches[25:])
    assert minmax_range(seen) == (-100.0, 100.0)
    assert 1 < moving_average_range(seen)[1] < 4


def test_old_batches_fade() -> None:
    old, new = [torch.tensor([0.0, 1.0])] * 500, [torch.tensor([0.0, 2.0])] * 500
    assert moving_average_range(seen_by(MinMaxObserver, *old, *new))[1] > 1.99


@given(FLOATS, st.integers(1, 40))
def test_the_average_of_equal_batches_is_their_value(value: float, batches: int) -> None:
    seen = seen_by(MinMaxObserver, *[torch.tensor([value])] * batches)
    assert moving_average_range(seen) == (value, value)


# --- percentile


@pytest.mark.parametrize("percentile", [60.0, 90.0, 99.0, 99.9, 99.99, 100.0])
@pytest.mark.parametrize("name", ["normal", "relu", "negative", "mostly zero"])
def test_a_percentile_holds_at_least_what_it_says_and_little_more(name: str, percentile: float) -> None:
    x = {
        "normal": normal(), "relu": normal().clamp_min(0), "negative": -normal().abs(),
        "mostly zero": torch.cat([torch.zeros(5_000), normal()]),
    }[name]  # fmt: skip
    seen = histogram(x)
    low, high = percentile_range(seen, UINT8, percentile=percentile)

    def outside(low: float, high: float) -> float:
        return float(((x < low) | (x > high)).double().mean()) * 100

    assert outside(low, high) <= 100 - percentile + 1e-9
    bin_width = 2 * seen.limit / BINS
    narrower = outside(low + bin_width * (low < 0), high - bin_width * (high > 0))
    assert narrower > (100 - percentile) * 0.9, "a bin less on either side would hold too few"


def test_all_percent_are_the_extremes() -> None:
    seen = histogram(heavy())
    assert percentile_range(seen, UINT8, percentile=100.0) == minmax_range(seen) == (-30.0, 40.0)


def test_outliers_are_cut() -> None:
    low, high = percentile_range(histogram(heavy()))
    assert (low, high) == (pytest.approx(-4.4, abs=0.6), pytest.approx(4.4, abs=0.6))


def test_a_tensor_with_fewer_values_than_may_be_cut_keeps_them() -> None:
    x = torch.zeros(1_000_000)
    x[3] = 5.0
    assert percentile_range(histogram(x)) == (0.0, 5.0)


# --- entropy


def divergence_by_hand(values: list[float], counts: list[float], low: float, high: float, levels: int) -> float:
    """Migacz's procedure, slowly: values are those of the occupied bins, in rising order."""
    step = (high - low) / levels
    level = [round(v / step) - round(low / step) for v in values]
    inside = [i for i, n in enumerate(level) if 0 <= n <= levels]
    p = {i: counts[i] for i in inside}
    p[inside[0]] += sum(c for c, n in zip(counts, level, strict=True) if n < 0)
    p[inside[-1]] += sum(c for c, n in zip(counts, level, strict=True) if n > levels)
    groups: dict[int, list[int]] = {}
    for i in inside:
        groups.setdefault(level[i], []).append(i)
    q = {i: sum(counts[j] for j in group) / len(group) for group in groups.values() for i in group}
    return sum(p[i] / sum(p.values()) * math.log(p[i] / sum(p.values()) / (q[i] / sum(q.values()))) for i in inside)


@pytest.mark.parametrize(("low", "high"), [(-4.0, 4.0), (-2.0, 1.0), (-0.5, 4.0), (0.0, 2.0)])
@pytest.mark.parametrize("levels", [15, 127, 255])
def test_the_divergence_is_that_of_the_procedure(low: float, high: float, levels: int) -> None:
    from pytest_ptq.engine.observers.entropy import _divergence

    seen = histogram(normal(3000))
    occupied = seen.counts > 0
    values, counts = seen.centres[occupied], seen.counts[occupied]
    ends = (torch.tensor([e], dtype=torch.float64) for e in (low, high))
    found = float(_divergence(seen.counts, seen.width, *ends, levels))
    assert found == pytest.approx(divergence_by_hand(values.tolist(), counts.tolist(), low, high, levels), abs=1e-9)


def test_entropy_clips_outliers_and_not_a_body_of_even_density() -> None:
    low, high = entropy_range(histogram(heavy()))
    assert 3 < high < 15
    assert -15 < low < -3
    even = torch.linspace(-1, 1, 100_000)
    assert entropy_range(histogram(even)) == (pytest.approx(-1, rel=0.02), pytest.approx(1, rel=0.02))


def test_entropy_searches_both_ends() -> None:
    """Behind a SiLU all negative values lie within -0.28..0: an end of its own, which is not clipped with the other."""
    x = torch.nn.functional.silu(heavy())
    low, high = entropy_range(histogram(x))
    assert low < -0.2
    assert high < 20


@pytest.mark.parametrize("middle", [0.3, 0.5, 0.7])
def test_entropy_does_not_clip_all_values_into_one(middle: float) -> None:
    """What lies far from zero, as behind a hard-sigmoid, fits a range that ends before it: one bin, no divergence."""
    x = middle + 0.04 * normal(4096)
    low, high = entropy_range(histogram(x))
    assert low == 0
    assert high > middle + 0.08


@pytest.mark.parametrize("share", [0.2, 0.6])
def test_a_peak_does_not_make_entropy_clip_the_tail(share: float) -> None:
    """As a background of one colour leaves behind a ReLU. No range that holds the tail tells it from its neighbours."""
    x = (2 * normal(100_000)).abs()
    x[: int(share * len(x))] = 0.25
    _, high = entropy_range(histogram(x))
    assert float((x > high).double().mean()) < 1e-3


def test_smoothing_moves_nothing_far_and_loses_little() -> None:
    from pytest_ptq.engine.observers.entropy import _smoothed

    seen = histogram(torch.linspace(-1, 2, 30_000))
    even = _smoothed(seen, -1.0, 2.0, 20 * seen.width)
    assert torch.equal(even > 0, seen.counts > 0)
    assert float((even - even.median()).abs().max()) <= float(seen.counts.max() - seen.counts.median()) + 8
    assert float(even.sum()) == pytest.approx(30_000, rel=1e-3)
    one = histogram(torch.cat([torch.full((100,), 0.5), torch.tensor([-1.0, 2.0])]))
    spread = _smoothed(one, -1.0, 2.0, 20 * one.width)
    occupied = one.centres[spread > 0.5]
    assert float((occupied - 0.5).abs().max()) <= 11 * one.width
    assert float(spread.sum()) == pytest.approx(100, rel=0.05)


def test_of_few_values_entropy_takes_the_widest_range() -> None:
    seen = histogram(torch.tensor([-1.0, 0.5, 3.0]))
    assert entropy_range(seen) == (-1.0, 3.0)


# --- mse


@pytest.mark.parametrize("bounds", [UINT8, UINT7])
def test_mse_makes_the_squared_error_smallest_of_all(bounds: tuple[int, int]) -> None:
    laplace = normal().sign() * torch.empty(20_000).exponential_(generator=torch.Generator().manual_seed(1))
    for x in (heavy(), laplace, normal().clamp_min(0)):
        seen = histogram(x)
        errors = {name: error(x, seen, QSpec(name, bounds)) for name in NAMES}
        assert errors["mse"] <= 1.05 * min(errors.values()), errors


def test_the_histogram_observer_clips_less_than_mse() -> None:
    seen = histogram(torch.empty(50_000).exponential_(generator=torch.Generator().manual_seed(0)))
    assert mse_range(seen)[1] < histogram_range(seen)[1] <= seen.high


# --- symmetric storage


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("bounds", "middle"), [(UINT8, 128), (UINT7, 64)])
def test_symmetric_puts_zero_in_the_middle_unless_nothing_is_negative(
    name: str, bounds: tuple[int, int], middle: int
) -> None:
    x = torch.cat([normal(), torch.tensor([9.0])])
    spec = QSpec(name, bounds, symmetric=True)
    assert qparams_of(histogram(x), spec).zero_point == middle
    assert qparams_of(histogram(-x.abs()), spec).zero_point == middle
    positive = histogram(x.abs())
    assert qparams_of(positive, spec) == qparams_of(positive, QSpec(name, bounds)), (
        "all integers, and a zero point of 0"
    )
    assert qparams_of(positive, spec).zero_point == 0


@pytest.mark.parametrize("bounds", [UINT8, UINT7])
def test_symmetric_ranges_are_chosen_for_the_integers_that_are_there(bounds: tuple[int, int]) -> None:
    """One of magnitudes with half of the integers: on symmetric data the best of all symmetric ranges."""
    x = torch.cat([normal(), -normal()])
    seen = histogram(x)
    found = error(x, seen, QSpec("mse", bounds, symmetric=True))
    half = half_steps(bounds)
    for part in torch.linspace(0.2, 1, 60).tolist():
        q = choose_qparams(-part * seen.high, part * seen.high, bounds, symmetric=True)
        assert q.scale == pytest.approx(part * seen.high / half)
        other = float((dequantize(quantize(x, q), q).double() - x.double()).square().mean())
        assert found <= 1.02 * other


@given(st.lists(FLOATS, min_size=1, max_size=30))
def test_magnitudes_are_those_of_the_absolute_values(values: list[float]) -> None:
    x = torch.tensor(values)
    folded, direct = histogram(x).magnitudes(), histogram(x.abs())
    assert (folded.low, folded.high, folded.values, folded.limit) == (0.0, direct.high, direct.values, direct.limit)
    # A negative value on a bin's edge belongs to the bin on its left, and its magnitude to the one on its right.
    shift = (folded.counts - direct.counts).cumsum(0)
    assert float(folded.counts.sum()) == float(direct.counts.sum())
    edges = x[(x < 0) & ((x / direct.width).frac() == 0)] if direct.width else x[:0]
    assert int(shift.abs().max()) <= len(edges)


# --- counting


@pytest.mark.parametrize("layout", ["contiguous", "channels_last", "strided", "expanded"])
def test_counting_does_not_depend_on_layout_or_chunks(layout: str) -> None:
    x = normal(4 * 8 * 80 * 80).view(4, 8, 80, 80).clamp_min(-0.3).relu()
    assert x.numel() > CHUNK
    y = {
        "contiguous": x, "channels_last": x.contiguous(memory_format=torch.channels_last),
        "strided": torch.stack([x, x], -1)[..., 0], "expanded": x[:1].expand(4, -1, -1, -1),
    }[layout]  # fmt: skip
    found = count(y, 8.0)
    plain = y.contiguous().view(-1)
    expected = torch.histc(plain[plain != 0].mul(BINS / 16).floor(), BINS, -BINS // 2, BINS // 2).double()
    assert torch.equal(found, expected)
    assert float(found.sum()) == int((y != 0).sum())
