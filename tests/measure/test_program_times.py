"""Step by step inside of one call: whose time is whose. Never how long it really takes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from pytest_ptq.errors import UsageError
from pytest_ptq.measure.layer_times import WARMUP
from pytest_ptq.measure.program_times import time_program

X = torch.ones(1)
SHAPES = {"first": (1, 8), "second": (1, 4)}


class Program:
    """A step takes as many seconds as its number from 1, and everything is slower by what a pass is told."""

    layers = ["first", "first", "second", "first"]  # noqa: RUF012
    kinds = ["border", "product", "mean", "product"]  # noqa: RUF012

    def __init__(self, *slower: float) -> None:
        self._slower = iter([500.0] * WARMUP + [*slower])
        self.threads: set[int] = set()

    def seconds(self, x: Tensor) -> list[float]:
        slower = next(self._slower)
        self.threads.add(torch.get_num_threads())
        return [step + slower for step in (1.0, 2.0, 3.0, 4.0)]


def test_a_layer_is_the_sum_of_its_steps_and_the_median_is_of_the_sums() -> None:
    def ticks() -> Iterator[float]:
        now = 0.0
        for slower in (*[500.0] * WARMUP, 1.0, 0.0, 7.0):
            for step in (5 + slower, 9 + slower, 100.0):
                yield now
                now += step

    clock = ticks()
    calls: list[Tensor] = []
    found = time_program(
        calls.append, Program(1, 0, 7), X, shapes=SHAPES, threads=1, repeats=3, clock=lambda: next(clock)
    )
    assert next(clock, None) is None, "every reading has its place"
    assert len(calls) == WARMUP + 3
    assert (found.whole_ms, found.walk_ms) == (6000.0, 10000.0)
    first, second = found.nodes
    assert (first.name, first.kernels, first.shape) == ("first", ("border", "product"), (1, 8))
    assert (first.ms, first.best_ms) == (1000.0 * (1 + 2 + 4 + 3), 1000.0 * (1 + 2 + 4))
    assert (second.name, second.kernels, second.shape) == ("second", ("mean",), (1, 4))
    assert (second.ms, second.best_ms) == (4000.0, 3000.0)


def test_threads_are_set_and_given_back() -> None:
    before, program = torch.get_num_threads(), Program(0)
    time_program(lambda x: x, program, X, shapes=SHAPES, threads=before + 1, repeats=1)
    assert program.threads == {before + 1}
    assert torch.get_num_threads() == before


@pytest.mark.parametrize(("threads", "repeats"), [(0, 1), (1, 0)])
def test_nothing_cannot_be_timed(threads: int, repeats: int) -> None:
    with pytest.raises(UsageError, match="nothing can be timed"):
        time_program(lambda x: x, Program(), X, shapes=SHAPES, threads=threads, repeats=repeats)
