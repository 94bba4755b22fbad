"""Latency of int8 against fp32: interleaved pairs in one process, judged by their ratio.

Both models run on the same input in pairs, in random but balanced order, so that whatever slows the machine for a
while slows both. Threads are pinned and the garbage collector rests while it lasts. What is inside may be replaced;
`measure_latency`, `LatencySamples` and `to_measurements` are what the rest relies on.
"""

from __future__ import annotations

import gc
import math
import os
import random
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, TypeAlias

from pytest_ptq.errors import MeasurementError, UsageError
from pytest_ptq.measure.median import FEWEST, median_interval
from pytest_ptq.metrics import LATENCY_FP32, LATENCY_INT8, LATENCY_RATIO, Measurement, Metric

if TYPE_CHECKING:
    from torch import Tensor

Model: TypeAlias = "Callable[[Tensor], object]"
Clock = Callable[[], float]
Progress = Callable[[Iterable[bool], str, int | None], Iterator[bool]]

MIN_PAIRS = 30
MAX_PAIRS = 500
WARMUP_PAIRS = 5
WARMUP_S = 0.5
DRIFT_TOLERANCE = 0.05


@dataclass(frozen=True)
class LatencySamples:
    """What was timed. `fp32_ms[i]`, `int8_ms[i]` and `int8_first[i]` belong to pair i, in the order of measuring.

    Raises MeasurementError when the pairs are incomplete, or a time is not a positive finite number.
    """

    fp32_ms: tuple[float, ...]
    int8_ms: tuple[float, ...]
    int8_first: tuple[bool, ...]
    threads: int
    warmup_pairs: int
    load_average: float | None = None
    """Load of the last minute before measuring, in runnable processes; None where the system does not tell."""

    def __post_init__(self) -> None:
        if not len(self.fp32_ms) == len(self.int8_ms) == len(self.int8_first):
            raise MeasurementError("latency samples of fp32 and int8 do not come in pairs")
        if not all(math.isfinite(ms) and ms > 0 for ms in (*self.fp32_ms, *self.int8_ms)):
            raise MeasurementError("a latency sample is not a positive number", remedy="Check the clock.")

    @property
    def log_ratios(self) -> tuple[float, ...]:
        """log(int8 / fp32) of each pair."""
        return tuple(math.log(i / f) for f, i in zip(self.fp32_ms, self.int8_ms, strict=True))

    @property
    def drift(self) -> float:
        """How much the ratio changed from the first third to the last, as a share (0.1: int8 became 10 % slower)."""
        first, last = self._thirds()
        return math.exp(median(last) - median(first)) - 1

    @property
    def drifted(self) -> bool:
        """True when the ratio had not settled: it moved by more than 5 %, and the two intervals do not meet."""
        first, last = self._thirds()
        if len(first) < FEWEST or abs(self.drift) <= DRIFT_TOLERANCE:
            return False
        (_, low1, high1), (_, low2, high2) = median_interval(first), median_interval(last)
        return high1 < low2 or high2 < low1

    def _thirds(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        ratios = self.log_ratios
        third = max(1, len(ratios) // 3)
        return ratios[:third], ratios[-third:]


def measure_latency(
    fp32: Model,
    int8: Model,
    make_input: Callable[[], Tensor],
    *,
    threads: int,
    progress: Progress | None = None,
    budget_s: float = 8.0,
    min_pairs: int = MIN_PAIRS,
    seed: int = 0,
    clock: Clock = time.perf_counter,
) -> LatencySamples:
    """Time `fp32` and `int8` side by side.

    Args:
        fp32: the fair rival, called with the input.
        int8: the model under test.
        make_input: makes the one input that both get.
        threads: threads that torch computes with meanwhile; the former number is restored.
        progress: shows the pairs going by, `progress(items, title, total)`.
        budget_s: about how many seconds the pairs may take. `min_pairs` are measured even beyond it.
        min_pairs: fewest pairs, at least six.
        seed: of the order of the pairs.
        clock: seconds, monotonic.

    Raises:
        UsageError: fewer than one thread or six pairs.
        MeasurementError: a model refuses the input.
    """
    import torch

    if threads < 1 or min_pairs < FEWEST:
        raise UsageError(
            f"latency cannot be measured with {threads} threads and {min_pairs} pairs",
            remedy=f"Use at least 1 thread and {FEWEST} pairs.",
        )
    load = _load_average()
    with torch.inference_mode(), pinned_threads(threads), resting_gc():
        example = make_input()
        _try("fp32", fp32, example)
        _try("int8", int8, example)
        warm = _warm_up(fp32, int8, example, clock)
        orders = pair_orders(pair_count(median(warm[1:]), budget_s, min_pairs), seed)
        steps = progress(orders, "latency", len(orders)) if progress else orders
        pairs = [_time_pair(fp32, int8, example, first, clock) for first in steps]
    return LatencySamples(
        fp32_ms=tuple(1000 * fp32_s for fp32_s, _ in pairs),
        int8_ms=tuple(1000 * int8_s for _, int8_s in pairs),
        int8_first=tuple(orders),
        threads=threads,
        warmup_pairs=len(warm),
        load_average=load,
    )


def pair_count(seconds_a_pair: float, budget_s: float, min_pairs: int = MIN_PAIRS) -> int:
    """How many pairs to measure. Fixed before the first one, so that no result decides when to stop; even."""
    affordable = MAX_PAIRS if seconds_a_pair * MAX_PAIRS <= budget_s else int(budget_s / seconds_a_pair)
    count = max(min_pairs, affordable)
    return count + count % 2


def pair_orders(count: int, seed: int) -> list[bool]:
    """Whether int8 goes first, for each of `count` pairs: half of them, in random order."""
    orders = [i % 2 == 0 for i in range(count)]
    random.Random(seed).shuffle(orders)
    return orders


def _warm_up(fp32: Model, int8: Model, example: Tensor, clock: Clock) -> list[float]:
    """Run pairs until caches, thread pool and clock speed have settled; the seconds that each pair took."""
    took: list[float] = []
    while len(took) < WARMUP_PAIRS or (sum(took) < WARMUP_S and len(took) < MAX_PAIRS):
        took.append(sum(_time_pair(fp32, int8, example, len(took) % 2 == 0, clock)))
    return took


def _time_pair(fp32: Model, int8: Model, example: Tensor, int8_first: bool, clock: Clock) -> tuple[float, float]:
    """Seconds of (fp32, int8) on the same input."""
    if int8_first:
        int8_s = _time(int8, example, clock)
        return _time(fp32, example, clock), int8_s
    return _time(fp32, example, clock), _time(int8, example, clock)


def _time(model: Model, example: Tensor, clock: Clock) -> float:
    start = clock()
    model(example)
    return clock() - start


def _try(name: str, model: Model, example: Tensor) -> None:
    try:
        model(example)
    except (RuntimeError, ValueError, TypeError, IndexError) as error:
        first_line = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
        raise MeasurementError(
            f"the {name} model refuses an input of shape {tuple(example.shape)} ({first_line})",
            place="latency",
            remedy="Set the suite's latency_shape to a shape that the model was made for.",
        ) from error


def _load_average() -> float | None:
    try:
        return os.getloadavg()[0]
    except OSError:
        return None


@contextmanager
def pinned_threads(threads: int) -> Iterator[None]:
    """torch computes with this many threads inside, and with as many as before afterwards, whatever happens."""
    import torch

    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def resting_gc() -> Iterator[None]:
    """No garbage collection inside; afterwards it is on or off as it was before, whatever happens."""
    was_on = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def to_measurements(samples: LatencySamples) -> dict[str, Measurement]:
    """Median latencies in ms and the ratio int8/fp32 with its 95 % interval, keyed by metric.

    The ratio is exp(median log ratio of the pairs): the median, because slow outliers say more about the machine
    than about the model; of logs, so that fp32/int8 would give the same answer.
    """
    details: dict[str, float | int | str] = {
        "threads": samples.threads,
        "warmup_pairs": samples.warmup_pairs,
        "drift_percent": 100 * samples.drift,
        "drifted": "yes" if samples.drifted else "no",
    }
    if samples.load_average is not None:
        details["load_average"] = samples.load_average
    ratio, low, high = (math.exp(x) for x in median_interval(samples.log_ratios))
    count = len(samples.log_ratios)
    return {
        LATENCY_FP32.key: _median_ms(LATENCY_FP32, samples.fp32_ms),
        LATENCY_INT8.key: _median_ms(LATENCY_INT8, samples.int8_ms),
        LATENCY_RATIO.key: Measurement(LATENCY_RATIO, ratio, low, high, samples=count, details=details),
    }


def _median_ms(metric: Metric, times: tuple[float, ...]) -> Measurement:
    middle, low, high = median_interval(times)
    return Measurement(metric, middle, low, high, samples=len(times))
