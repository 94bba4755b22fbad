"""How long each layer takes in a program of compiled kernels: the steps that it is made of, timed inside of one call.

A clock between two steps is read in C, which costs less than a microsecond; with several threads, all of them wait for
each other there, as they do without one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from statistics import median
from typing import TYPE_CHECKING, Any, Protocol

from pytest_ptq.errors import UsageError
from pytest_ptq.measure.conditions import pinned_threads, resting_gc
from pytest_ptq.measure.layer_times import WARMUP, Clock, GraphTimes, NodeTime

if TYPE_CHECKING:
    from torch import Tensor


class Program(Protocol):
    """What is timed: the kind of each step, the layer that it is done for, and the seconds that it takes in a call."""

    layers: list[str]

    @property
    def kinds(self) -> list[str]: ...

    def seconds(self, x: Tensor, /) -> list[float]: ...


def time_program(
    whole: Callable[[Tensor], Any],
    program: Program,
    example: Tensor,
    *,
    shapes: Mapping[str, tuple[int, ...]],
    threads: int,
    repeats: int,
    clock: Clock = time.perf_counter,
) -> GraphTimes:
    """Time a model as a whole and its program step by step, in turn.

    Args:
        whole: the model, called as its user calls it.
        program: of the same model.
        example: their input.
        shapes: of what each layer returns.
        threads: threads to compute with.
        repeats: how often each is timed; a median is taken of them.
        clock: seconds, for the whole model and for a pass; a program has a clock of its own.

    A layer's kernels are the kinds of its steps, each once.

    Raises UsageError for fewer than one thread or repeat.
    """
    import torch

    if threads < 1 or repeats < 1:
        raise UsageError(f"nothing can be timed with {threads} threads, {repeats} times", remedy="Give at least 1.")
    steps = _steps_of(program)
    took: list[list[float]] = []
    whole_s, passes = [], []
    with torch.inference_mode(), pinned_threads(threads), resting_gc():
        for round_ in range(WARMUP + repeats):
            start = clock()
            whole(example)
            middle = clock()
            seconds = program.seconds(example)
            end = clock()
            if round_ >= WARMUP:
                took.append([sum(seconds[i] for i in mine) for mine in steps.values()])
                whole_s.append(middle - start)
                passes.append(end - middle)
    nodes = (
        NodeTime(layer, 1000 * median(column), 1000 * min(column), _kernels(program, steps[layer]), shapes[layer])
        for layer, column in zip(steps, zip(*took, strict=True), strict=True)
    )
    return GraphTimes(tuple(nodes), 1000 * median(whole_s), 1000 * median(passes))


def _steps_of(program: Program) -> Mapping[str, list[int]]:
    """The steps of each layer, in the order of their first."""
    steps: dict[str, list[int]] = {}
    for i, layer in enumerate(program.layers):
        steps.setdefault(layer, []).append(i)
    return steps


def _kernels(program: Program, steps: Sequence[int]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(program.kinds[i] for i in steps))
