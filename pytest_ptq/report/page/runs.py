"""The runs of a page: which of them it shows, what they are called, and which belong to the newest commit."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from pytest_ptq.metrics import METRICS, Metric
from pytest_ptq.report.printable import printable
from pytest_ptq.store.record import QConfigRecord, RunRecord

MOST_RUNS = 1000
"""A page shows the newest ones; with more it would become slow to open."""
MIB = 2**20
MINUS = "\N{MINUS SIGN}"


@dataclass(frozen=True, order=True)
class RowKey:
    """What is compared with its own past only: nothing crosses suites, data, qconfigs or kinds of machine."""

    suite: str
    data: str
    qconfig: str
    machine: str

    @property
    def name(self) -> str:
        return f"{self.suite}[{self.qconfig}]"


@dataclass(frozen=True)
class Run:
    """What a person knows a run by. `commit` is short; where none is known, `name` is the run and its day."""

    run_id: str
    time: datetime
    commit: str
    subject: str
    branch: str

    @property
    def day(self) -> str:
        return f"{self.time:%Y-%m-%d}"

    @property
    def minute(self) -> str:
        return f"{self.time:%Y-%m-%d %H:%M} UTC"

    @property
    def name(self) -> str:
        return self.commit or f"run {self.run_id} of {self.day}"


def named(record: RunRecord) -> Run:
    """The record's run, with everything that comes from elsewhere made harmless to look at."""
    return Run(
        run_id=printable(record.run_id),
        time=record.time,
        commit=printable((record.commit or "")[:10]),
        subject=printable(record.commit_subject or ""),
        branch=printable(record.branch or ""),
    )


def newest_runs(records: Iterable[RunRecord]) -> list[RunRecord]:
    """Each run once, oldest first, and of very many the newest."""
    unique = {record.run_id: record for record in records}
    return sorted(unique.values(), key=lambda record: (record.time, record.run_id))[-MOST_RUNS:]


def is_current(record: RunRecord, newest: RunRecord) -> bool:
    """Whether a run belongs to the newest one: the same, or one of its commit, as when a suite has a job of its own."""
    return record.run_id == newest.run_id or (record.commit is not None and record.commit == newest.commit)


def row_key(record: RunRecord, result: QConfigRecord) -> RowKey:
    return RowKey(result.suite, result.data, result.qconfig, record.key_of(result))


def metrics_of(records: Sequence[RunRecord]) -> dict[str, Metric]:
    """Every metric in the records: the package's in their usual order, then the users' own."""
    found = {
        measured.metric.key: measured.metric
        for record in records
        for result in record.results
        for measured in (*result.measurements.values(), *(j.measurement for j in result.judgements.values()))
    }
    known = [key for key in METRICS if key in found]
    return {key: found[key] for key in (*known, *sorted(found.keys() - set(known)))}


def signed(text: str) -> str:
    """With a minus sign as wide as a plus."""
    return text.replace("-", MINUS)


def shown(metric: Metric, value: float) -> str:
    """The value with its unit, as a person reads it: bytes as MiB, and a minus sign as wide as a plus."""
    if metric.unit == "B" and abs(value) >= MIB:
        return f"{value / MIB:.2f} MiB"
    text = printable(metric.format(value))
    return MINUS + text[1:] if text.startswith("-") else text
