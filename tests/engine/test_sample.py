"""What a histogram takes of a large tensor: a part that follows from the shape of one image, and every extreme."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from pytest_ptq.engine.observers import BINS, HistogramObserver, Statistics
from pytest_ptq.engine.observers.collect import CHUNK, WORTH_LANES, count
from pytest_ptq.engine.observers.sample import COUNTED, extremes, in_memory_order, sample

LARGE = (3, 24, 56, 56)


def noise(*shape: int, last: bool = False) -> Tensor:
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    return x.contiguous(memory_format=torch.channels_last) if last else x


def histogram(batches: list[Tensor]) -> Statistics:
    observer = HistogramObserver("layer")
    for batch in batches:
        observer(batch)
    return observer.statistics()


def counts(seen: Statistics) -> Tensor:
    assert seen.counts is not None
    return seen.counts


@pytest.mark.parametrize("shape", [(COUNTED,), (2, COUNTED), (5, 8, 16, 16), (2, 3), (4, 2, 1, 1), ()])
def test_of_a_small_image_every_value_is_taken(shape: tuple[int, ...]) -> None:
    x = noise(*shape)
    values, each = sample(x)
    assert each == 1
    assert torch.equal(values.sort().values, x.reshape(-1).sort().values)


@given(
    st.lists(st.integers(1, 90), min_size=1, max_size=3).filter(lambda s: COUNTED < math.prod(s) < 400_000),
    st.booleans(),
)
def test_of_a_large_image_about_as_many_as_there_should_be(shape: list[int], last: bool) -> None:
    x = torch.zeros(2, *shape)
    if last and x.ndim == 4:
        x = x.contiguous(memory_format=torch.channels_last)
    values, each = sample(x)
    assert len(values) <= 2 * COUNTED + 2 * 64
    assert len(values) * each == pytest.approx(x.numel(), rel=0.1)


@pytest.mark.parametrize("last", [True, False])
def test_every_column_and_every_channel_is_looked_at_alike(last: bool) -> None:
    images, channels, height, width = shape = (2, 96, 64, 60)
    numbers = torch.arange(math.prod(shape[1:]), dtype=torch.float32).reshape(1, *shape[1:]).repeat(images, 1, 1, 1)
    values, _ = sample(numbers.contiguous(memory_format=torch.channels_last) if last else numbers)
    index = values[: len(values) // images].long()
    assert torch.equal(values[len(index) :].long(), index), "the same of each image"
    for found, count_of in (
        (index % width, width),
        (index // width % height, height),
        (index // (width * height), channels),
    ):
        taken = torch.bincount(found, minlength=count_of)
        assert taken.min() > 0
        assert taken.max() < 4 * len(index) / count_of


@pytest.mark.parametrize("last", [True, False])
def test_a_sampled_histogram_depends_on_neither_order_nor_batches(last: bool) -> None:
    images = list(torch.split(noise(*LARGE, last=last), 1))
    assert sample(images[0])[1] > 1
    layout = torch.channels_last if last else torch.contiguous_format
    whole = histogram([torch.cat(images).contiguous(memory_format=layout)])
    for other in (histogram(images), histogram(images[::-1])):
        assert (other.low, other.high, other.values, other.limit) == (whole.low, whole.high, whole.values, whole.limit)
        assert torch.equal(counts(other), counts(whole))


def test_it_stands_for_all_values_and_no_extreme_escapes() -> None:
    x = noise(*LARGE, last=True)
    x[1, 7, 20, 20], x[2, 3, 4, 5] = 100.0, -70.0
    seen = histogram([x])
    assert (seen.low, seen.high, seen.values) == (-70.0, 100.0, x.numel())
    assert seen.limit == 128.0
    assert float(counts(seen).sum()) == pytest.approx(x.numel(), rel=0.05)
    inside = counts(seen)[seen.centres.abs() < 1].sum() / counts(seen).sum()
    assert float(inside) == pytest.approx(0.683, abs=0.02), "of a normal distribution"


def test_other_images_of_a_batch_have_no_say() -> None:
    """Not even where the first dimension says that they are other images: windows, sequences."""
    x = noise(6, 50, 768)
    taken, each = sample(x)
    alone = torch.cat([sample(part)[0] for part in torch.split(x, 1)])
    assert each > 1
    assert torch.equal(taken, alone)


@pytest.mark.parametrize("size", [1, WORTH_LANES - 1, WORTH_LANES, WORTH_LANES + 3, CHUNK, 2 * CHUNK + 5])
def test_counts_are_exact_however_many_tables_there_are(size: int) -> None:
    x = noise(size) * 3
    x[::3] = 0
    found = count(x, 16.0)
    bins = torch.floor(x[x != 0].double() * BINS / 32).long() + BINS // 2
    assert torch.equal(found, torch.bincount(bins, minlength=BINS).double())


def test_values_at_both_ends_of_the_histogram_fall_into_its_tables() -> None:
    x = torch.tensor([-15.9999, 15.9999]).repeat_interleave(WORTH_LANES)
    found = count(x, 16.0)
    assert found[0] == found[-1] == WORTH_LANES
    assert found.sum() == 2 * WORTH_LANES


def test_extremes_are_read_as_the_memory_lies() -> None:
    """Otherwise torch copies the whole tensor first."""
    x = noise(*LARGE, last=True)
    assert in_memory_order(x).is_contiguous()
    assert in_memory_order(x).data_ptr() == x.data_ptr()
    assert extremes(x) == (float(x.min()), float(x.max()))
    x[0, 0, 0, 0] = math.nan
    assert all(map(math.isnan, extremes(x)))
