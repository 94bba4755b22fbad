"""What is remembered of a run record, so that series can be drawn without reading it again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from pytest_ptq.metrics import Verdict
from pytest_ptq.store.record import RunRecord
from pytest_ptq.store.series import Point, SeriesKey, points

Row = tuple[str, str, str, str, str, float, float | None, float | None, float | None, float | None, str | None]
"""Suite, data, qconfig, metric key, machine key; value, low, high, bound, recorded, name of the verdict."""


@dataclass(frozen=True)
class Digest:
    """A run in short. `machine` is the run's machine key, `errors` how much could not be measured."""

    run_id: str
    time: datetime
    commit: str | None
    branch: str | None
    subject: str | None
    machine: str
    suites: tuple[str, ...]
    errors: int
    rows: Sequence[Row]

    def points(
        self, suite: str | None = None, metrics: frozenset[str] | None = None
    ) -> Iterator[tuple[SeriesKey, Point]]:
        """As `series.points` gives them, of one suite and some metrics where these are given."""
        for row in self.rows:
            if (suite is None or row[0] == suite) and (metrics is None or row[3] in metrics):
                verdict = None if row[10] is None else Verdict[row[10]]
                point = Point(self.run_id, self.time, self.commit, *row[5:10], verdict)
                yield SeriesKey(*row[:5]), point

    @property
    def verdicts(self) -> tuple[Verdict, ...]:
        """Of everything that was judged."""
        return tuple(Verdict[row[10]] for row in self.rows if row[10] is not None)


def digest_of(record: RunRecord) -> Digest:
    return Digest(
        record.run_id,
        record.time,
        record.commit,
        record.branch,
        record.commit_subject,
        record.machine_key,
        tuple(dict.fromkeys(result.suite for result in record.results)),
        sum(len(result.errors) for result in record.results),
        [_row(key, point) for key, point in points(record)],
    )


def _row(key: SeriesKey, point: Point) -> Row:
    verdict = None if point.verdict is None else point.verdict.name
    numbers = (point.value, point.low, point.high, point.bound, point.recorded)
    return (key.suite, key.data, key.qconfig, key.metric, key.machine, *numbers, verdict)
