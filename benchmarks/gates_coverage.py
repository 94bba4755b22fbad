"""How often an interval that claims 95 % holds the truth, simulated: samples of one process are correlated."""

from __future__ import annotations

import random
from collections.abc import Callable
from statistics import median

from tabulate import tabulate

from benchmarks.median import median_interval
from pytest_ptq.judge.intervals import confidence
from pytest_ptq.measure.latency import PROTOCOL
from pytest_ptq.measure.latency_measurements import shown_coverage
from pytest_ptq.student import Mean, mean_of

REPEATS = 4000
PAIRS = 30
WITHIN, BETWEEN = 0.09, 0.02
"""SD of the log ratio within a process, and of its level between processes: about what a quiet machine shows."""

Draw = Callable[[random.Random], list[float]]


def process(
    chance: random.Random, rho: float, pairs: int, *, tails: bool = False, between: float = BETWEEN
) -> list[float]:
    """Log ratios of one process around a true value of 0: a level of its own, and noise that remembers (AR(1))."""
    level, noise, found = chance.gauss(0, between), chance.gauss(0, 1), []
    for _ in range(pairs):
        noise = rho * noise + (1 - rho * rho) ** 0.5 * chance.gauss(0, 1)
        outlier = 3.0 if tails and chance.random() < 0.1 else 1.0
        found.append(level + WITHIN * outlier * noise)
    return found


def table() -> str:
    """One row a way to make an interval, one column a kind of noise."""
    kinds = {
        "independent": {"rho": 0.0, "between": 0.0},
        "rho 0.8": {"rho": 0.8, "between": 0.0},
        "independent, levels differ": {"rho": 0.0},
        "rho 0.8, levels differ": {"rho": 0.8},
        "the same, heavy tails": {"rho": 0.8, "tails": True},
    }
    ways: dict[str, Callable[[random.Random, dict[str, float]], tuple[float, float]]] = {
        f"one process, {5 * PAIRS} pairs, median": lambda chance, kind: median_interval(
            process(chance, pairs=5 * PAIRS, **kind)  # type: ignore[arg-type]
        )[1:],
        f"{PROTOCOL.processes} processes": lambda chance, kind: _mean(chance, kind, PROTOCOL.processes).interval(),
        "two looks, limit at the truth": lambda chance, kind: _two_looks(chance, kind, 0.0),
        "two looks, limit 3 % away": lambda chance, kind: _two_looks(chance, kind, 0.03),
    }
    rows = []
    for way, interval in ways.items():
        chance = random.Random(0)
        rows.append([way, *(_share(chance, interval, kind) for kind in kinds.values())])
    return tabulate(rows, ["interval of", *kinds], "github")


def _share(
    chance: random.Random,
    interval: Callable[[random.Random, dict[str, float]], tuple[float, float]],
    kind: dict[str, float],
) -> str:
    hits = 0
    for _ in range(REPEATS):
        low, high = interval(chance, kind)
        hits += low <= 0 <= high
    return f"{100 * hits / REPEATS:.1f} %"


def _medians(chance: random.Random, kind: dict[str, float], processes: int) -> list[float]:
    return [median(process(chance, pairs=PAIRS, **kind)) for _ in range(processes)]  # type: ignore[arg-type]


def _mean(chance: random.Random, kind: dict[str, float], processes: int) -> Mean:
    return mean_of(_medians(chance, kind, processes))


def _two_looks(chance: random.Random, kind: dict[str, float], limit: float) -> tuple[float, float]:
    """The interval that is reported after the protocol has stopped."""
    found = _medians(chance, kind, PROTOCOL.processes)
    low, high = mean_of(found).interval(confidence())
    if not low <= limit <= high:
        return mean_of(found).interval(shown_coverage(1))
    found += _medians(chance, kind, PROTOCOL.extension)
    return mean_of(found).interval(shown_coverage(2))
