"""The verdict matrix: a row a suite, qconfig and machine, a cell a judged metric, the most serious first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from pytest_ptq import metrics as m
from pytest_ptq.judge.gates import REFRESH, SEVERITY, overall
from pytest_ptq.metrics import Direction, Judgement, Metric, Verdict
from pytest_ptq.report.page.runs import RowKey, Run, is_current, named, row_key, shown, signed
from pytest_ptq.report.printable import printable
from pytest_ptq.store.record import QConfigRecord, RunRecord

SIGNS: Mapping[str, str] = {
    Verdict.PASS.name: "✓",
    Verdict.FAIL.name: "✕",
    Verdict.INCONCLUSIVE.name: "?",
    Verdict.NO_BASELINE.name: "!",
    Verdict.XFAIL.name: "○",
    "ERROR": "!",
    "NONE": "\N{EN DASH}",
}
"""A verdict is never told by colour alone."""
WORDS: Mapping[str, str] = {verdict.name: verdict.value for verdict in Verdict} | {
    Verdict.FAIL.name: "fail",
    "ERROR": "not measured",
    "NONE": "not judged",
}


@dataclass(frozen=True)
class Cell:
    """One judged value. `earlier` names the run it is from when the row's newest run did not judge it."""

    metric: str
    verdict: str
    value: str
    interval: str
    limit: str
    drift: str
    reason: str
    refresh: bool
    earlier: str = ""


@dataclass(frozen=True)
class Row:
    """`current` when the newest commit has been through it."""

    key: RowKey
    run: Run
    result: QConfigRecord
    cells: Mapping[str, Cell]
    errors: tuple[str, ...]
    current: bool

    @property
    def verdict(self) -> str:
        """Its most serious: what could not be measured, then by verdict."""
        if self.errors:
            return "ERROR"
        worst = overall(judged for key, judged in self.result.judgements.items() if not self.cells[key].earlier)
        return worst.name if worst else "NONE"

    @property
    def severity(self) -> int:
        return severity(self.verdict)

    @property
    def ordered(self) -> list[Cell]:
        """Its cells, the most serious first."""
        return sorted(self.cells.values(), key=lambda cell: severity(cell.verdict))


def severity(verdict: str) -> int:
    """0 for the most serious."""
    order = ["ERROR", *(found.name for found in SEVERITY), "NONE"]
    return order.index(verdict)


def matrix(records: Sequence[RunRecord]) -> list[Row]:
    """Rows of the newest commit before older ones, and in both the most serious first. `records`: oldest first."""
    found: dict[RowKey, tuple[RunRecord, QConfigRecord]] = {}
    cells: dict[RowKey, dict[str, tuple[RunRecord, Judgement]]] = {}
    for record in records:
        for result in record.results:
            key = row_key(record, result)
            found[key] = record, result
            cells.setdefault(key, {}).update({name: (record, j) for name, j in result.judgements.items()})
    rows = [
        Row(
            key=key,
            run=named(record),
            result=result,
            cells={name: _cell(judged, run, record) for name, (run, judged) in cells[key].items()},
            errors=tuple(map(printable, result.errors)),
            current=is_current(record, records[-1]),
        )
        for key, (record, result) in found.items()
    ]
    return sorted(rows, key=lambda row: (not row.current, row.severity, row.key))


def columns(rows: Iterable[Row], metrics: Mapping[str, Metric]) -> list[Metric]:
    """The metrics that are judged anywhere, in their usual order."""
    judged = {name for row in rows for name in row.cells}
    return [metric for key, metric in metrics.items() if key in judged]


def headline(rows: Sequence[Row]) -> tuple[str, str]:
    """A verdict and a sentence on the newest commit: `2 gates fail`."""
    current = [row for row in rows if row.current]
    errors = sum(len(row.errors) for row in current)
    counts = Counter(cell.verdict for row in current for cell in row.cells.values() if not cell.earlier)
    total = sum(counts.values())
    if counts["FAIL"] or errors:
        said = [f"{_gates(counts['FAIL'])} fail{'s' if counts['FAIL'] == 1 else ''}"] if counts["FAIL"] else []
        said += [f"{errors} could not be measured"] if errors else []
        return "FAIL", " and ".join(said)
    if counts["NO_BASELINE"]:
        return "NO_BASELINE", f"{_gates(counts['NO_BASELINE'])} without a limit"
    if not total:
        return "NONE", "Nothing was judged"
    if counts["INCONCLUSIVE"]:
        return "INCONCLUSIVE", f"Nothing fails, {_gates(counts['INCONCLUSIVE'])} left open"
    if counts["XFAIL"]:
        return "PASS", "Everything passes but what was expected to fail"
    return "PASS", "Every gate passes" if total > 1 else "The gate passes"


def counted(rows: Iterable[Row]) -> list[tuple[str, int]]:
    """How often each verdict stands in the newest commit's rows, the most serious first; no zeros."""
    current = [row for row in rows if row.current]
    counts = Counter(cell.verdict for row in current for cell in row.cells.values() if not cell.earlier)
    counts["ERROR"] = sum(len(row.errors) for row in current)
    return [(verdict, counts[verdict]) for verdict in sorted(counts, key=severity) if counts[verdict]]


def limit_text(judged: Judgement) -> str:
    """`≤ 1 pp`; empty without a limit."""
    if judged.limit is None:
        return ""
    sign = "≤" if judged.limit.metric.direction is Direction.LOWER_IS_BETTER else "≥"
    return printable(f"{sign} {judged.limit.bound:g} {judged.limit.metric.unit}".rstrip())


def _cell(judged: Judgement, run: RunRecord, newest: RunRecord) -> Cell:
    measured = judged.measurement
    metric = measured.metric
    interval = ""
    if measured.low is not None and measured.high is not None:
        interval = f"{measured.low:.{metric.digits}f} to {measured.high:.{metric.digits}f}"
    return Cell(
        metric=metric.key,
        verdict=judged.verdict.name,
        value=shown(metric, measured.value),
        interval=interval,
        limit=limit_text(judged),
        drift=_drift(judged),
        reason=printable(judged.reason),
        refresh=REFRESH in judged.reason,
        earlier="" if run.run_id == newest.run_id else f"{named(run).name}, {named(run).day}",
    )


def _drift(judged: Judgement) -> str:
    """How far the value is from its record; empty where nothing was recorded on such a machine."""
    then, now = judged.recorded, judged.measurement
    if then is None:
        return ""
    if now.metric.key == m.LATENCY_RATIO.key and then.value:
        percent = round(100 * (now.value / then.value - 1))
        return signed(f"{percent:+d} %") if percent else "±0 %"
    change = round(now.value - then.value, now.metric.digits)
    return signed(f"{change:+.{now.metric.digits}f}") if change else "±0"


def _gates(count: int) -> str:
    return f"{count} gate{'' if count == 1 else 's'}"
