"""What is remembered of a run record, so that series can be drawn without reading it again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TypeAlias

from pytest_ptq.metrics import Verdict
from pytest_ptq.store.record import RunRecord
from pytest_ptq.store.series import Point, SeriesKey, points

Judged: TypeAlias = tuple[int, float | None, float | None, str]
"""The number of a value, its bound, the recorded value it was held against, and the name of the verdict."""


@dataclass(frozen=True)
class Digest:
    """A run in short. Many are held at a time: values lie in columns, and runs of the same series share `keys`.

    Args:
        run_id, time, commit, branch, subject: of the run.
        machine: its machine key.
        suites: that ran.
        errors: how much could not be measured.
        keys: the series of each value.
        values, lows, highs: the values and their 95 % intervals.
        judged: of those that were.
    """

    run_id: str
    time: datetime
    commit: str | None
    branch: str | None
    subject: str | None
    machine: str
    suites: tuple[str, ...]
    errors: int
    keys: tuple[SeriesKey, ...]
    values: tuple[float, ...]
    lows: tuple[float | None, ...]
    highs: tuple[float | None, ...]
    judged: tuple[Judged, ...]

    def points(
        self, suite: str | None = None, metrics: frozenset[str] | None = None
    ) -> Iterator[tuple[SeriesKey, Point]]:
        """As `series.points` gives them, of one suite and some metrics where these are given."""
        judged = {number: (bound, recorded, Verdict[name]) for number, bound, recorded, name in self.judged}
        for number, key in enumerate(self.keys):
            if (suite is None or key.suite == suite) and (metrics is None or key.metric in metrics):
                interval = self.values[number], self.lows[number], self.highs[number]
                yield (
                    key,
                    Point(self.run_id, self.time, self.commit, *interval, *judged.get(number, (None, None, None))),
                )

    @property
    def verdicts(self) -> tuple[Verdict, ...]:
        """Of everything that was judged."""
        return tuple(Verdict[name] for _, _, _, name in self.judged)


class SharedKeys:
    """Series keys for many runs: those of runs of the same series are one and the same."""

    def __init__(self) -> None:
        self._known: dict[tuple[tuple[str, ...], ...], tuple[SeriesKey, ...]] = {}

    def of(self, names: Sequence[tuple[str, ...]]) -> tuple[SeriesKey, ...]:
        """Args: names: the fields of each key."""
        names = tuple(names)
        found = self._known.get(names)
        if found is None:
            found = self._known[names] = tuple(SeriesKey(*key) for key in names)
        return found


def digest_of(record: RunRecord) -> Digest:
    found = tuple(points(record))
    return Digest(
        record.run_id,
        record.time,
        record.commit,
        record.branch,
        record.commit_subject,
        record.machine_key,
        tuple(dict.fromkeys(result.suite for result in record.results)),
        sum(len(result.errors) for result in record.results),
        tuple(key for key, _ in found),
        tuple(point.value for _, point in found),
        tuple(point.low for _, point in found),
        tuple(point.high for _, point in found),
        tuple((i, p.bound, p.recorded, p.verdict.name) for i, (_, p) in enumerate(found) if p.verdict is not None),
    )
