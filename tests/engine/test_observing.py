"""Compiled counting: the same histogram as torch's, bin by bin."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from pytest_ptq.engine.kernels import native
from pytest_ptq.engine.observers import BINS, HistogramObserver, collect
from pytest_ptq.engine.observers.sample import in_memory_order, runs, sample

compiled = pytest.mark.skipif(bool(native.why_not()), reason="no compiled kernels on this machine")


def values(shape: tuple[int, ...], seed: int, zeros: float = 0.3) -> Tensor:
    """Behind a ReLU some are zeros; others lie on the edges of bins and on both sides of zero."""
    drawn = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    drawn[drawn.abs() < zeros] = 0.0
    return torch.where(drawn > 1, (drawn * 8).round() / 8, drawn)


def nothing() -> Tensor:
    return torch.zeros(BINS, dtype=torch.float64)


SHAPES = st.one_of(
    st.tuples(st.integers(1, 3), st.sampled_from([1, 3, 16, 24, 64, 96]), st.integers(1, 40), st.integers(1, 40)),
    st.tuples(st.integers(1, 4), st.integers(1, 50), st.integers(1, 700)),
    st.tuples(st.integers(1, 3), st.integers(1, 20000)),
    st.tuples(st.integers(1, 20000)),
)


@compiled
@given(SHAPES, st.integers(0, 99), st.sampled_from([8.0, 64.0, 2.0**20]), st.booleans())
@settings(max_examples=80, deadline=None)
def test_compiled_code_counts_what_torch_counts(shape: tuple[int, ...], seed: int, limit: float, last: bool) -> None:
    x = values(shape, seed)
    if last and x.ndim == 4:
        x = x.contiguous(memory_format=torch.channels_last)
    laid, found = in_memory_order(x), nothing()
    assert native.count(laid, *runs(laid.shape), limit, found)
    values_taken, each = sample(x)
    assert torch.equal(found, collect.count(values_taken, limit) * each)


@compiled
@pytest.mark.parametrize("x", [torch.ones(4).double(), torch.ones(6, 8).T, torch.ones(4).half()])
def test_what_it_does_not_read_is_left_to_torch(x: Tensor) -> None:
    found = nothing()
    assert not native.count(x, 1, 1, 4.0, found)
    assert not found.any()
    collect.add_histogram(x, 4.0, found)
    assert float(found.sum()) == x.numel()


@compiled
def test_values_at_the_ends_and_beside_zero_stay_in_their_bins() -> None:
    below, tiny = float(torch.tensor(4.0).nextafter(torch.tensor(0.0))), 2.0**-149
    found = nothing()
    assert native.count(torch.tensor([below, -below, tiny, -tiny, -0.0]), 1, 1, 4.0, found)
    assert found.nonzero().flatten().tolist() == [0, BINS // 2 - 1, BINS // 2, BINS - 1]


@compiled
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_every_number_of_threads_counts_each_value_once(threads: int) -> None:
    found, before, x = (
        nothing(),
        torch.get_num_threads(),
        values((3, 64, 37, 23), 5).contiguous(memory_format=torch.channels_last),
    )
    torch.set_num_threads(threads)
    try:
        collect.add_histogram(x, 8.0, found)
    finally:
        torch.set_num_threads(before)
    assert torch.equal(found, collect.count(sample(x)[0], 8.0) * runs(in_memory_order(x).shape)[1])


def test_observers_see_the_same_without_compiled_code(monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = HistogramObserver(), HistogramObserver()
    batches = [values((2, 24, 40, 40), seed).contiguous(memory_format=torch.channels_last) for seed in range(3)]
    for x in batches:
        one(x)
    monkeypatch.setattr(native, "count", lambda *_: False)
    for x in batches:
        two(x)
    assert torch.equal(one.counts, two.counts)
    assert float(one.counts.sum()) > 0
