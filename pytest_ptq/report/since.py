"""Since when a number is what it is: the runs before this one, of the same suite, qconfig, metric and machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pytest_ptq import metrics as m
from pytest_ptq.judge.changes import changes_shown
from pytest_ptq.judge.gates import tolerance_of
from pytest_ptq.metrics import Metric, Verdict
from pytest_ptq.report.markdown_text import safe
from pytest_ptq.store.record import QConfigRecord, RunRecord
from pytest_ptq.store.series import Point, SeriesKey, collect_series

LOOKED_AT = 100
"""Runs of a series in which a change is looked for: the newest."""
UNJUDGED = (m.SQNR.key, m.FLIPS.key)
"""Metrics that are told when they move, though nobody may have set a limit on them."""


@dataclass(frozen=True)
class Story:
    """One series of a run record: its own point last, and those before it, oldest first."""

    metric: Metric
    points: tuple[Point, ...]

    @property
    def moved(self) -> bool:
        """Whether this run differs from the one before by more than the metric's tolerance.

        What has an interval has moved only when the two intervals also lie apart.
        """
        if len(self.points) < 2:
            return False
        before, now = self.points[-2:]
        tolerance = tolerance_of(self.metric)
        allowed = abs(before.value) * tolerance.amount if tolerance.relative else tolerance.amount
        apart = self.metric.key != m.LATENCY_RATIO.key or _apart(before, now)
        return apart and abs(now.value - before.value) > allowed + 1e-9 * max(1.0, abs(before.value))

    def told(self) -> str:
        """Markdown for a cell: since when it fails, and when the value changed; that there is no earlier run, if so."""
        if len(self.points) < 2:
            return "no earlier run"
        said = [text for text in (self._failing(), self._changed()) if text]
        return "; ".join(said) or f"as in {_runs(len(self.points) - 1)} before"

    def _failing(self) -> str:
        """Since when the verdict is what it is; nothing for a pass, and for what was never judged."""
        verdict = self.points[-1].verdict
        if verdict in (Verdict.PASS, None):
            return ""
        same = 1
        while same < len(self.points) and self.points[-same - 1].verdict is verdict:
            same += 1
        word = "fails" if verdict is Verdict.FAIL else safe(verdict.value)
        if same == len(self.points):
            return f"{word} in all {_runs(same)}"
        before = self.points[-same - 1]
        was = "passed" if before.verdict is Verdict.PASS else "differed"
        if same == 1:
            return f"{word} since this run" + ("" if self._changed() else f"; {was} at {_commit(before)}")
        return f"{word} since {_commit(self.points[-same])}, {_runs(same)} ago; {was} at {_commit(before)}"

    def _changed(self) -> str:
        """What it was before, where this run moved it: no change point can tell that yet. Else the newest of these."""
        if self.moved:
            before = self.points[-2]
            return f"was {self._value(before.value)} at {_commit(before)}"
        points = self.points[-LOOKED_AT:]
        found = changes_shown(self.metric, [point.value for point in points])
        if found:
            last = found[-1]
            step = f"{self._value(last.before)} → {self._value(last.after)}"
            return f"{step} at {_commit(points[last.index])} of {points[last.index].time:%Y-%m-%d}"
        return ""

    def _value(self, value: float) -> str:
        return safe(self.metric.format(value), 40)


def stories(record: RunRecord, history: Sequence[RunRecord]) -> Mapping[SeriesKey, Story]:
    """A story for each measurement of `record`; of `history` only what is older counts."""
    older = [run for run in history if run.run_id != record.run_id and run.time <= record.time]
    metrics = {
        found.metric.key: found.metric
        for result in record.results
        for found in (*result.measurements.values(), *(judged.measurement for judged in result.judgements.values()))
    }
    return {
        key: Story(metrics[key.metric], points)
        for key, points in collect_series([*older, record]).items()
        if points[-1].run_id == record.run_id
    }


def key_of(record: RunRecord, result: QConfigRecord, metric: str) -> SeriesKey:
    return SeriesKey(result.suite, result.data, result.qconfig, metric, record.key_of(result))


def _apart(before: Point, now: Point) -> bool:
    ends = (before.low, before.high, now.low, now.high)
    if None in ends:
        return True
    return now.low > before.high or now.high < before.low  # type: ignore[operator]  # none of them is None


def _commit(point: Point) -> str:
    """Twelve digits of the commit; the day where none is known."""
    return f"`{safe(point.commit[:12])}`" if point.commit and point.commit[:12].isalnum() else f"{point.time:%Y-%m-%d}"


def _runs(count: int) -> str:
    return "1 run" if count == 1 else f"{count} runs"
