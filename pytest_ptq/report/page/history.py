"""Series of values with their change points: since when, by how much, at which commit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pytest_ptq import metrics as m
from pytest_ptq.judge.changes import changes_shown
from pytest_ptq.metrics import Metric, Verdict
from pytest_ptq.report.page.runs import RowKey, Run, shown, signed
from pytest_ptq.store.record import RunRecord
from pytest_ptq.store.series import Point, SeriesKey, collect_series

LOOKED_AT = 100
"""Runs of a series in which changes are looked for: the newest."""
UNJUDGED = frozenset({m.SQNR.key, m.FLIPS.key, m.TOP1_INT8.key})
"""Metrics that are looked at though nobody may have limited them: they move first."""


@dataclass(frozen=True)
class Shift:
    """A change point: the index of the first value after it, and medians of what is before and after."""

    index: int
    before: float
    after: float
    p_value: float
    worse: bool


@dataclass(frozen=True)
class Line:
    """One series, oldest first. Never holds values of two kinds of machine."""

    key: SeriesKey
    metric: Metric
    points: tuple[Point, ...]
    shifts: tuple[Shift, ...]

    @property
    def row(self) -> RowKey:
        return RowKey(self.key.suite, self.key.data, self.key.qconfig, self.key.machine)

    @property
    def judged(self) -> bool:
        return any(point.verdict is not None for point in self.points)

    @property
    def still(self) -> bool:
        """Whether it has one value only, and that was never a failure or an open question."""
        same = len({point.value for point in self.points}) == 1
        return same and all(point.verdict in (Verdict.PASS, None) for point in self.points)

    def failing_since(self) -> tuple[Point, int, Point | None] | None:
        """The first run of the verdict it has now, how many runs have it, and the run before; None for a pass."""
        verdict = self.points[-1].verdict
        if verdict in (Verdict.PASS, None):
            return None
        same = 1
        while same < len(self.points) and self.points[-same - 1].verdict is verdict:
            same += 1
        return self.points[-same], same, self.points[-same - 1] if same < len(self.points) else None


def lines(records: Sequence[RunRecord], metrics: Mapping[str, Metric]) -> list[Line]:
    """Every series of the records, with change points where the metric is judged or usually moves first."""
    found = []
    for key, points in collect_series(records).items():
        metric = metrics[key.metric]
        watched = key.metric in UNJUDGED or any(point.verdict is not None for point in points)
        found.append(Line(key, metric, points, _shifts(metric, points) if watched else ()))
    return found


def _shifts(metric: Metric, points: Sequence[Point]) -> tuple[Shift, ...]:
    start = max(0, len(points) - LOOKED_AT)
    return tuple(
        Shift(start + found.index, found.before, found.after, found.p_value, metric.worse(found.after, found.before))
        for found in changes_shown(metric, [point.value for point in points[start:]])
    )


def change_text(metric: Metric, before: float, after: float) -> str:
    """`0.331 → 0.402 (+21 %)`: a share for what is a ratio or a time, the difference for all else."""
    text = f"{shown(metric, before)} → {shown(metric, after)}"
    if metric.key.startswith(("latency_", "size_")) and before:
        by = f"{100 * (after / before - 1):+.1f} %"
    else:
        by = f"{after - before:+.{metric.digits}f}"
    return f"{text} ({signed(by)})"


@dataclass(frozen=True)
class Summary:
    """One series in words: the text that stands for a chart. `change` is the newest change point's."""

    row: RowKey
    runs: int
    first: str
    last: str
    lowest: str
    highest: str
    recorded: str
    limit: str
    verdict: str
    change: str
    change_run: Run | None
    worse: bool


def summarize(line: Line, runs: Mapping[str, Run]) -> Summary:
    """The series' first and last value, what it is held against, and its newest change with the commit."""
    metric, last = line.metric, line.points[-1]
    values = [point.value for point in line.points]
    shift = line.shifts[-1] if line.shifts else None
    return Summary(
        row=line.row,
        runs=len(values),
        first=shown(metric, values[0]),
        last=shown(metric, values[-1]),
        lowest=shown(metric, min(values)),
        highest=shown(metric, max(values)),
        recorded="" if last.recorded is None else shown(metric, last.recorded),
        limit="" if last.bound is None else f"{last.bound:g}",
        verdict=last.verdict.name if last.verdict else "NONE",
        change=change_text(metric, shift.before, shift.after) if shift else "",
        change_run=runs[line.points[shift.index].run_id] if shift else None,
        worse=bool(shift and shift.worse),
    )
