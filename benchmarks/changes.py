"""How often change points are told where nothing changed, and how often a planted change is found, by three methods."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray
from tabulate import tabulate

from benchmarks.changes_rivals import potts, single_splits
from pytest_ptq.judge.changes import change_points
from pytest_ptq.measure.paired import wilson

Array = NDArray[np.float64]
Noise = Callable[[np.random.Generator, int], Array]
Method = Callable[[Sequence[float]], Sequence[int]]

SERIES, PLANTED = 1000, 200
RUNS = 60
NEAR = 2
"""A change is found where it is when it is told at most so many runs off."""


def _ours(values: Sequence[float]) -> list[int]:
    return [change.index for change in change_points(values)]


METHODS: Mapping[str, Method] = {
    "E-divisive (this project)": _ours,
    "one split at a time, t-test": single_splits,
    "Potts, L1, as asv": potts,
}


def _correlated(chance: np.random.Generator, count: int, share: float) -> Array:
    """AR(1) of standard deviation 1: each value keeps `share` of the one before."""
    values = chance.normal(size=count)
    for i in range(1, count):
        values[i] = share * values[i - 1] + math.sqrt(1 - share**2) * values[i]
    return values


def _outliers(chance: np.random.Generator, count: int) -> Array:
    return chance.normal(size=count) + 10 * (chance.random(count) < 0.05)


NOISES: Mapping[str, Noise] = {
    "normal": lambda chance, count: chance.normal(size=count),
    "heavy tails (Student's t, 3 degrees)": lambda chance, count: chance.standard_t(3, size=count),
    "1 value in 20 is 10 sd off": _outliers,
    "few values (rounded to 1 sd)": lambda chance, count: np.round(chance.normal(size=count)),
    "always the same": lambda chance, count: np.ones(count),
    "AR(1), 0.2": partial(_correlated, share=0.2),
    "AR(1), 0.5": partial(_correlated, share=0.5),
}


def table() -> str:
    """Three tables as Markdown."""
    parts = [
        "### Nothing changed: series of which a change is told",
        false_alarms(),
        f"### A step in the middle of {RUNS} runs: found within {NEAR} runs of where it is, and nothing else told",
        steps(),
        "### A step of 4 sd, soon after it happened",
        soon(),
        f"### A drift over {RUNS} runs: some change is told",
        drifts(),
    ]
    return "\n\n".join(parts)


def false_alarms() -> str:
    rows = []
    for name, noise in NOISES.items():
        for count in (30, RUNS):
            series = _series(noise, count, SERIES)
            told = [sum(bool(method(values)) for values in series) for method in METHODS.values()]
            rows.append([name, count, *(_share(number, SERIES) for number in told)])
    return _markdown(rows, ["noise", "runs", *METHODS])


def steps() -> str:
    rows = []
    for size in (0.5, 1.0, 2.0, 3.0, 4.0):
        series = [_stepped(values, size, RUNS // 2) for values in _series(NOISES["normal"], RUNS, PLANTED)]
        found = [_found(method, series, RUNS // 2) for method in METHODS.values()]
        rows.append([f"{size:g} sd", *(_share(number, PLANTED) for number in found)])
    return _markdown(rows, ["step", *METHODS])


def soon() -> str:
    rows = []
    for after in (1, 2, 3, 5, 10):
        at = RUNS - after
        series = [_stepped(values, 4.0, at) for values in _series(NOISES["normal"], RUNS, PLANTED)]
        found = [_found(method, series, at) for method in METHODS.values()]
        rows.append([after, *(_share(number, PLANTED) for number in found)])
    return _markdown(rows, ["runs after it", *METHODS])


def drifts() -> str:
    rows = []
    for total in (1.0, 2.0, 4.0):
        slope = np.linspace(0, total, RUNS)
        series = [list(slope + values) for values in _series(NOISES["normal"], RUNS, PLANTED)]
        told = [sum(bool(method(values)) for values in series) for method in METHODS.values()]
        rows.append([f"{total:g} sd in all", *(_share(number, PLANTED) for number in told)])
    return _markdown(rows, ["drift", *METHODS])


def _series(noise: Noise, count: int, number: int) -> list[list[float]]:
    chance = np.random.default_rng(1)
    return [list(noise(chance, count)) for _ in range(number)]


def _stepped(values: Sequence[float], size: float, at: int) -> list[float]:
    return [value + (size if i >= at else 0.0) for i, value in enumerate(values)]


def _found(method: Method, series: Sequence[Sequence[float]], at: int) -> int:
    return sum(len(told) == 1 and abs(told[0] - at) <= NEAR for told in map(method, series))


def _share(number: int, of: int) -> str:
    low, high = wilson(number, of)
    return f"{100 * number / of:.1f} % [{100 * low:.1f}, {100 * high:.1f}]"


def _markdown(rows: Sequence[Sequence[object]], headers: Sequence[str]) -> str:
    return tabulate(rows, headers=headers, tablefmt="github")
