"""Interleaved pairs in one process: what a fresh worker process does, and hands back as plain numbers.

Every variant is timed against the same reference, on the same input, in rounds: the variants in random order, and the
reference before or behind all of them, at random but balanced (AB/BA), so that whatever slows the machine for a while
slows both. Source: Bulej et al., Duet benchmarking, arXiv 2001.05811.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import TYPE_CHECKING, TypeAlias

from pytest_ptq.errors import MeasurementError, UsageError
from pytest_ptq.measure.conditions import pinned_threads, resting_gc
from pytest_ptq.measure.exchange import exchange_us
from pytest_ptq.measure.load import Load, LoadMeter

if TYPE_CHECKING:
    from torch import Tensor

Model: TypeAlias = "Callable[[Tensor], object]"
Clock = Callable[[], float]

MIN_PAIRS = 10
MAX_PAIRS = 100
WARMUP_ROUNDS = 3
WARMUP_S = 0.5
BUDGET_S = 0.5
PATIENCE_S = 6.0
PAUSE_S = 0.5
CROWDED = 0.25
"""Share of CPU time taken by others from which on medians of interleaved pairs are no longer to be trusted. Two OpenMP
threads beside a process that never rests wait for one another at every operation, and int8 and fp32 suffer unequally;
bursts that take less than this leave most pairs alone. Measured: docs/gates.md."""


@dataclass(frozen=True)
class Pairs:
    """What one process timed of one variant; element i of each tuple belongs to pair i, in the order of measuring."""

    reference_ms: tuple[float, ...]
    variant_ms: tuple[float, ...]
    variant_first: tuple[bool, ...]


@dataclass(frozen=True)
class ProcessTimes:
    """Everything that one process timed."""

    pairs: Mapping[str, Pairs]
    load: Load
    """While the pairs were timed."""
    warmup_rounds: int
    waited_s: float
    """How long it waited for the machine to be free before it timed anything."""
    probe_us: float
    """A fixed piece of plain Python, timed in every round: how fast the machine ran meanwhile."""
    exchange_us: float = 0.0
    """How long data take from core to core, before and after: the other speed of a machine. 0 on one thread."""
    kernels: Mapping[str, str] = field(default_factory=dict)
    not_native: Mapping[str, str] = field(default_factory=dict)
    """By which kernels each model ran, and why not by compiled ones; see `timed_by`."""

    @property
    def crowded(self) -> bool:
        """Whether other work took so much of the CPUs that the times say more about it than about the models."""
        return self.load.taken > CROWDED


@dataclass(frozen=True)
class Pace:
    """How much to measure in one process.

    Args:
        budget_s: about how many seconds the pairs of one variant may take.
        min_pairs: fewest pairs, measured even beyond the budget.
        max_pairs: most pairs.
        warmup_s: seconds of running before anything is timed.
        patience_s: how long to wait for other work on the machine to end. When it does not, fewest pairs are timed.
    """

    budget_s: float = BUDGET_S
    min_pairs: int = MIN_PAIRS
    max_pairs: int = MAX_PAIRS
    warmup_s: float = WARMUP_S
    patience_s: float = PATIENCE_S

    def pairs(self, seconds_a_pair: float) -> int:
        """How many pairs to measure. Fixed before the first one, so that no result decides when to stop; even."""
        affordable = int(self.budget_s / seconds_a_pair) if seconds_a_pair > 0 else self.max_pairs
        count = max(self.min_pairs, min(affordable, self.max_pairs))
        return count + count % 2


PACE = Pace()


def time_pairs(
    reference: Model,
    variants: Mapping[str, Model],
    example: Tensor,
    *,
    threads: int,
    seed: int,
    pace: Pace = PACE,
    clock: Clock = time.perf_counter,
) -> ProcessTimes:
    """Time each of `variants` against `reference`.

    Args:
        reference: the fair fp32 model.
        variants: int8 models by name, and perhaps the reference once more under another name.
        example: the one input that all get.
        threads: threads that torch computes with meanwhile; the former number is restored.
        seed: of the order of variants in a round and of the two in a pair.
        pace: how much to measure.
        clock: seconds, monotonic.

    Raises:
        UsageError: fewer than one thread or two pairs.
        MeasurementError: a model refuses the input.
    """
    import torch

    if threads < 1 or pace.min_pairs < 2:
        raise UsageError(f"latency cannot be measured with {threads} threads and {pace.min_pairs} pairs")
    chance = random.Random(seed)
    with torch.inference_mode(), pinned_threads(threads), resting_gc():
        for name, model in {"fp32": reference, **variants}.items():
            _try(name, model, example)
        # Not in the rotation: the threads that it wakes would be in the way of another runtime's.
        exchange = exchange_us(threads)
        warm, waited, crowded = _warm_up_in_peace(reference, variants, example, pace, clock)
        counts = {name: 2 if crowded else pace.pairs(median(took[name] for took in warm[1:])) for name in variants}
        probes: list[float] = []
        meter = LoadMeter()
        timed: dict[str, list[tuple[float, float, bool]]] = {name: [] for name in variants}
        for round_, first in enumerate(round_orders(counts.values(), chance)):
            due = [name for name in timed if round_ < counts[name]]
            chance.shuffle(due)
            probes.append(probe_us(clock))
            took = _time_round(reference, {name: variants[name] for name in due}, example, first, clock)
            for name, (reference_s, variant_s) in took.items():
                timed[name].append((1000 * reference_s, 1000 * variant_s, first))
        load = meter.load()
        exchange = (exchange + exchange_us(threads)) / 2
    return ProcessTimes(
        {name: _pairs(found) for name, found in timed.items()},
        load=load,
        warmup_rounds=len(warm),
        waited_s=waited,
        probe_us=median(probes),
        exchange_us=exchange,
    )


def probe_us(clock: Clock = time.perf_counter) -> float:
    """Microseconds that a fixed piece of Python takes: about 100, and the same on one machine at one speed."""
    start = clock()
    total = 0
    for i in range(2000):
        total += i * i
    return 1e6 * (clock() - start)


def time_alone(model: Model, example: Tensor, *, threads: int, pace: Pace = PACE) -> tuple[float, ...]:
    """Milliseconds of each run of one model by itself, after a warm-up. For a figure that nothing is judged by."""
    import torch

    with torch.inference_mode(), pinned_threads(threads), resting_gc():
        _try("fp32", model, example)
        warm = [_clocked(model, example, time.perf_counter) for _ in range(WARMUP_ROUNDS)]
        return tuple(1000 * _clocked(model, example, time.perf_counter) for _ in range(pace.pairs(median(warm))))


def pair_orders(count: int, chance: random.Random) -> list[bool]:
    """Whether the variant goes first, for each of `count` pairs: half of them, in random order."""
    orders = [i % 2 == 0 for i in range(count)]
    chance.shuffle(orders)
    return orders


def _pairs(timed: Sequence[tuple[float, float, bool]]) -> Pairs:
    reference_ms, variant_ms, variant_first = zip(*timed, strict=True)
    return Pairs(reference_ms, variant_ms, variant_first)


def round_orders(counts: Iterable[int], chance: random.Random) -> list[bool]:
    """Whether variants go before the reference, for each round: for each of `counts`, in half of so many first ones."""
    orders: list[bool] = []
    for count in sorted(counts):
        orders += pair_orders(count - len(orders), chance)
    return orders


def _warm_up_in_peace(
    reference: Model, variants: Mapping[str, Model], example: Tensor, pace: Pace, clock: Clock
) -> tuple[list[dict[str, float]], float, bool]:
    """The last warm-up, the seconds waited for a free machine, and whether it was crowded to the end."""
    start = clock()
    while True:
        meter = LoadMeter()
        warm = _warm_up(reference, variants, example, pace, clock)
        crowded = meter.load().taken > CROWDED
        waited = clock() - start
        if not crowded or waited > pace.patience_s:
            return warm, waited, crowded
        time.sleep(PAUSE_S)


def _warm_up(
    reference: Model, variants: Mapping[str, Model], example: Tensor, pace: Pace, clock: Clock
) -> list[dict[str, float]]:
    """Run rounds until caches, thread pool and clock speed have settled; the seconds of each pair in each round."""
    rounds: list[dict[str, float]] = []
    start = clock()
    while len(rounds) < WARMUP_ROUNDS or (clock() - start < pace.warmup_s and len(rounds) < pace.max_pairs):
        first = len(rounds) % 2 == 0
        found = _time_round(reference, variants, example, first, clock)
        rounds.append({name: sum(pair) for name, pair in found.items()})
    return rounds


def _time_round(
    reference: Model, variants: Mapping[str, Model], example: Tensor, variants_first: bool, clock: Clock
) -> dict[str, tuple[float, float]]:
    """Seconds of (reference, variant) on the same input. The reference is timed once, for all of them."""
    before = None if variants_first else _time(reference, example, clock)
    took = {name: _time(variant, example, clock) for name, variant in variants.items()}
    reference_s = _time(reference, example, clock) if before is None else before
    return {name: (reference_s, variant_s) for name, variant_s in took.items()}


def _time(model: Model, example: Tensor, clock: Clock) -> float:
    """Seconds of the second of two calls.

    A model then finds in the caches what it left there itself, as one that serves alone does. Timed cold, and beside
    every variant, the reference was at an advantage: by a tenth where weights just fit.
    """
    model(example)
    return _clocked(model, example, clock)


def _clocked(model: Model, example: Tensor, clock: Clock) -> float:
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
