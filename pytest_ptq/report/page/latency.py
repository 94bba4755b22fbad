"""Accuracy against latency with its Pareto front, and how the timed pairs of a row are spread."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import quantiles

from pytest_ptq import metrics as m
from pytest_ptq.metrics import Measurement
from pytest_ptq.report.page.rows import Row
from pytest_ptq.report.page.runs import RowKey


@dataclass(frozen=True)
class Spot:
    """One model: `fp32` or int8, how long an image takes in ms, and its top-1 in percent."""

    row: RowKey
    precision: str
    ms: float
    top1: float
    front: bool = False

    @property
    def name(self) -> str:
        return f"{self.row.suite} fp32" if self.precision == "fp32" else self.row.name


@dataclass(frozen=True)
class Spread:
    """The pairs of one process, or of all: quantiles of the ratio int8 / fp32."""

    name: str
    pairs: int
    low: float
    quarter: float
    middle: float
    three_quarters: float
    high: float


def spots(rows: Sequence[Row]) -> dict[tuple[str, str], list[Spot]]:
    """Models by kind of data and machine, between which neither accuracy nor milliseconds compare; fastest first."""
    found: dict[tuple[str, str], list[Spot]] = {}
    for row in rows:
        here = found.setdefault((row.key.data, row.key.machine), [])
        for precision, ms, top1 in (
            ("fp32", m.LATENCY_FP32, m.TOP1_FP32),
            ("int8", m.LATENCY_INT8, m.TOP1_INT8),
        ):
            x, y = (row.result.measurements.get(metric.key) for metric in (ms, top1))
            if x is None or y is None:
                continue
            # The float model of a suite is one, however many qconfigs timed it beside theirs.
            if precision == "fp32" and any(s.precision == "fp32" and s.row.suite == row.key.suite for s in here):
                continue
            here.append(Spot(row.key, precision, x.value, y.value))
    return {key: pareto(here) for key, here in sorted(found.items()) if len(here) > 1}


def pareto(found: Sequence[Spot]) -> list[Spot]:
    """All of them, fastest first, with `front` set where nothing is as fast and more accurate, or as accurate and
    faster."""
    best = float("-inf")
    marked = []
    for spot in sorted(found, key=lambda spot: (spot.ms, -spot.top1)):
        marked.append(Spot(spot.row, spot.precision, spot.ms, spot.top1, spot.top1 > best))
        best = max(best, spot.top1)
    return marked


def spread(pairs: Sequence[Sequence[float]]) -> list[Spread]:
    """Of all pairs, then of each process; a process with a single pair has nothing to spread."""
    everything = [ratio for process in pairs for ratio in process]
    named = [("all", everything), *((f"{index}", list(process)) for index, process in enumerate(pairs, 1))]
    return [_spread(name, ratios) for name, ratios in named if len(ratios) > 1]


def _spread(name: str, ratios: list[float]) -> Spread:
    cut = quantiles(ratios, n=20, method="inclusive")
    return Spread(name, len(ratios), cut[0], cut[4], cut[9], cut[14], cut[18])


def ratio_of(measurements: Mapping[str, Measurement]) -> Measurement | None:
    return measurements.get(m.LATENCY_RATIO.key)
