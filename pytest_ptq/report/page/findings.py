"""What moved: for each row what its gates say, since when, at which commit, and in which layers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pytest_ptq.metrics import Metric
from pytest_ptq.report.page.history import Line, change_text
from pytest_ptq.report.page.layers import Layer, Layers
from pytest_ptq.report.page.rows import Row
from pytest_ptq.report.page.runs import RowKey, Run

CHANGES_SHOWN = 3
"""Change points of a row that are told, the newest."""
LAYERS_SHOWN = 5


@dataclass(frozen=True)
class Moved:
    """One metric at a change point."""

    metric: Metric
    text: str
    worse: bool


@dataclass(frozen=True)
class Change:
    """Everything that changed in one row at one run, and how many runs there were since."""

    run: Run
    since: int
    moved: tuple[Moved, ...]

    @property
    def worse(self) -> bool:
        return any(found.worse for found in self.moved)


@dataclass(frozen=True)
class Since:
    """Since when one metric has the verdict it has. `before` is the last run of another one; None if there is none."""

    metric: Metric
    verdict: str
    run: Run
    runs: int
    before: Run | None
    was: str


@dataclass(frozen=True)
class Finding:
    row: Row
    since: tuple[Since, ...]
    changes: tuple[Change, ...]
    layers: Layers | None
    fallen: tuple[Layer, ...]

    @property
    def reasons(self) -> list[tuple[str, str]]:
        """Verdict and sentence of every cell that is no plain pass."""
        return [(cell.verdict, cell.reason) for cell in self.row.ordered if cell.verdict != "PASS" or cell.refresh]


def newest_change(lines: Sequence[Line]) -> dict[RowKey, str]:
    """Of each row with a change point, the id of the first run after the newest one that is for the worse, or any."""
    found: dict[RowKey, tuple[bool, Line, int]] = {}
    for line in lines:
        for shift in line.shifts:
            here = (shift.worse, line, shift.index)
            held = found.get(line.row)
            if held is None or (here[0], line.points[here[2]].time) >= (held[0], held[1].points[held[2]].time):
                found[line.row] = here
    return {row: line.points[index].run_id for row, (_, line, index) in found.items()}


def findings(
    rows: Sequence[Row], lines: Sequence[Line], layers: Sequence[Layers], runs: Mapping[str, Run]
) -> list[Finding]:
    """One for each row with something to tell, in the order of the matrix; within it those that got worse first."""
    by_row: dict[RowKey, list[Line]] = {}
    for line in lines:
        by_row.setdefault(line.row, []).append(line)
    looked_at = {found.row: found for found in layers}
    found = []
    for row in rows:
        here = by_row.get(row.key, [])
        changes, since = _changes(here, runs), _since(here, runs)
        seen = looked_at.get(row.key)
        finding = Finding(row, since, changes, seen, tuple(seen.fallen[:LAYERS_SHOWN]) if seen else ())
        if row.errors or finding.reasons or changes or finding.fallen:
            found.append(finding)
    return sorted(
        found,
        key=lambda finding: (
            not finding.row.current,
            finding.row.severity,
            not any(change.worse for change in finding.changes),
        ),
    )


def _changes(lines: Sequence[Line], runs: Mapping[str, Run]) -> tuple[Change, ...]:
    """Change points by run, the newest first."""
    moved: dict[str, list[Moved]] = {}
    since: dict[str, int] = {}
    for line in lines:
        for shift in line.shifts:
            run = line.points[shift.index].run_id
            text = change_text(line.metric, shift.before, shift.after)
            moved.setdefault(run, []).append(Moved(line.metric, text, shift.worse))
            since[run] = max(since.get(run, 0), len(line.points) - shift.index)
    ordered = sorted(moved, key=lambda run: runs[run].time, reverse=True)[:CHANGES_SHOWN]
    return tuple(Change(runs[run], since[run], tuple(moved[run])) for run in ordered)


def _since(lines: Sequence[Line], runs: Mapping[str, Run]) -> tuple[Since, ...]:
    found = []
    for line in lines:
        if (streak := line.failing_since()) is not None:
            first, count, before = streak
            verdict = line.points[-1].verdict
            assert verdict is not None
            was = before.verdict.name if before and before.verdict else "NONE"
            earlier = runs[before.run_id] if before else None
            found.append(Since(line.metric, verdict.name, runs[first.run_id], count, earlier, was))
    return tuple(found)
