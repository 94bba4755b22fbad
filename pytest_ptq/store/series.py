"""Run records -> series: what one metric of one qconfig did from run to run, on machines of one key."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime

from pytest_ptq.metrics import Judgement, Measurement, Verdict
from pytest_ptq.store.record import QConfigRecord, RunRecord


@dataclass(frozen=True, order=True)
class SeriesKey:
    """What may be compared with one another: `metric` is a `Metric.key`, `machine` a machine key."""

    suite: str
    data: str
    qconfig: str
    metric: str
    machine: str


@dataclass(frozen=True)
class Point:
    """One run's value in a series; in the metric's unit, None for what the run did not have.

    Args:
        run_id, time, commit: of the run.
        value, low, high: the measurement and its 95 % interval.
        bound: the limit that it was held against.
        recorded: the baseline's value that it was held against.
        verdict: None where it was measured only.
    """

    run_id: str
    time: datetime
    commit: str | None
    value: float
    low: float | None = None
    high: float | None = None
    bound: float | None = None
    recorded: float | None = None
    verdict: Verdict | None = None


def collect_series(records: Iterable[RunRecord]) -> dict[SeriesKey, tuple[Point, ...]]:
    """The series in `records`, each oldest first; keys in sorted order. A run that is there twice counts once."""
    runs = {record.run_id: record for record in records}
    found: dict[SeriesKey, list[Point]] = {}
    for record in sorted(runs.values(), key=lambda run: (run.time, run.run_id)):
        for key, point in points(record):
            found.setdefault(key, []).append(point)
    return {key: tuple(found[key]) for key in sorted(found)}


def points(record: RunRecord) -> Iterator[tuple[SeriesKey, Point]]:
    """Every value of one run, and the series that it belongs to."""
    for result in record.results:
        for measured, judged in _values(result):
            key = SeriesKey(result.suite, result.data, result.qconfig, measured.metric.key, record.key_of(result))
            yield key, _point(record, measured, judged)


def _values(result: QConfigRecord) -> Iterator[tuple[Measurement, Judgement | None]]:
    for key, measured in result.measurements.items():
        yield measured, result.judgements.get(key)
    for key, judged in result.judgements.items():
        if key not in result.measurements:
            yield judged.measurement, judged


def _point(record: RunRecord, measured: Measurement, judged: Judgement | None) -> Point:
    limit, recorded = (judged.limit, judged.recorded) if judged else (None, None)
    return Point(
        record.run_id,
        record.time,
        record.commit,
        measured.value,
        measured.low,
        measured.high,
        limit.bound if limit else None,
        recorded.value if recorded else None,
        judged.verdict if judged else None,
    )
