"""What the report says of the runs, held against what the commits did: Markdown."""

from __future__ import annotations

from collections.abc import Sequence

from tabulate import tabulate

from benchmarks.demonstration_story import PLANTED, states
from pytest_ptq.metrics import Verdict
from pytest_ptq.report.page.history import UNJUDGED, Line, Shift, lines
from pytest_ptq.report.page.runs import metrics_of
from pytest_ptq.store.record import RunRecord

SHORT = 12
TIMED = "latency_"
"""How keys of metrics begin that are never the same twice, whatever a commit did."""


def watched(runs: Sequence[RunRecord]) -> list[Line]:
    """The series in which the report looks for changes, oldest run first."""
    return [line for line in lines(runs, metrics_of(runs)) if line.judged or line.key.metric in UNJUDGED]


def text_of(runs: Sequence[RunRecord]) -> str:
    """What was told of the planted commit, and of all others; which gates failed. `runs`: oldest first."""
    found = watched(runs)
    parts = [
        "### The planted commit",
        planted(runs, found),
        "### Every change point",
        every_change(runs, found),
        elsewhere(runs, found),
        "### What the gates said",
        failures(runs),
    ]
    return "\n\n".join(part for part in parts if part)


def planted(runs: Sequence[RunRecord], found: Sequence[Line]) -> str:
    """Each series that the planted commit moved, and where the report tells it."""
    at = next((i for i, run in enumerate(runs) if run.commit_subject == PLANTED), None)
    if at is None:
        return "It is not among these runs."
    rows = []
    for line in found:
        here = next((i for i, point in enumerate(line.points) if point.run_id == runs[at].run_id), None)
        if here not in _moved(runs, line):
            continue
        before, now = (line.metric.format(point.value) for point in line.points[here - 1 : here + 1])
        told = next((shift for shift in line.shifts if shift.index == here), None)
        said = f"`{_commit(runs[at])}`, p = {told.p_value:.3f}" if told else "not told"
        rows.append([_name(line), line.metric.title, before, now, said])
    head = f"`{_commit(runs[at])}` “{PLANTED}”, commit {at + 1} of {len(runs)}:"
    return f"{head}\n\n{_markdown(['qconfig', 'metric', 'the run before', 'its run', 'told at'], rows)}"


def every_change(runs: Sequence[RunRecord], found: Sequence[Line]) -> str:
    """For each series in which changes are looked for: how many commits moved it, and what is told of it."""
    rows = []
    for line in found:
        moved = _moved(runs, line)
        told = [shift.index for shift in line.shifts]
        hit = sum(index in moved for index in told)
        rows.append([_name(line), line.metric.title, len(line.points), len(moved), len(told), hit, len(told) - hit])
    rows.append(["all", "", "", *(sum(row[i] for row in rows) for i in range(3, 7))])  # type: ignore[misc]
    heads = ["qconfig", "metric", "runs", "commits that moved it", "change points", "at such a commit", "elsewhere"]
    return _markdown(heads, rows)


def elsewhere(runs: Sequence[RunRecord], found: Sequence[Line]) -> str:
    """Change points at commits that did not move the series, by name."""
    lines_ = [
        f"- {_name(line)}, {line.metric.title}: {_step(line, shift)} at {_quoted(runs, line, shift)}"
        for line in found
        for shift in line.shifts
        if shift.index not in _moved(runs, line)
    ]
    return "\n".join(["Elsewhere:", "", *lines_]) if lines_ else ""


def failures(runs: Sequence[RunRecord]) -> str:
    """Runs in which a gate did not pass."""
    rows = []
    for number, run in enumerate(runs, 1):
        for result in run.results:
            for judged in result.judgements.values():
                if judged.verdict is not Verdict.PASS:
                    title = judged.measurement.metric.title
                    verdict = judged.verdict.value
                    rows.append(
                        [number, f"`{_commit(run)}` {run.commit_subject}", f"`{result.qconfig}`", title, verdict]
                    )
    if not rows:
        return "Every gate of every run passed."
    return _markdown(["run", "commit", "qconfig", "gate", "verdict"], rows)


def _moved(runs: Sequence[RunRecord], line: Line) -> set[int]:
    """Which of its points are the first after a commit that moved the series.

    What is exact says so itself. A latency never comes out twice: it may have moved where a commit since the last time
    changed which layers are in int8, or how many scales they have.
    """
    values: list[object] = [point.value for point in line.points]
    if line.key.metric.startswith(TIMED):
        kernels = [state.kernels(line.key.qconfig) for _, state in states()]
        number = {run.run_id: i for i, run in enumerate(runs)}
        values = [kernels[number[point.run_id]] for point in line.points]
    return {i for i in range(1, len(values)) if values[i] != values[i - 1]}


def _name(line: Line) -> str:
    return f"`{line.key.qconfig}`"


def _commit(run: RunRecord) -> str:
    return (run.commit or "")[:SHORT]


def _step(line: Line, shift: Shift) -> str:
    return f"{line.metric.format(shift.before)} -> {line.metric.format(shift.after)}, p = {shift.p_value:.3f}"


def _quoted(runs: Sequence[RunRecord], line: Line, shift: Shift) -> str:
    run = next(run for run in runs if run.run_id == line.points[shift.index].run_id)
    return f"`{_commit(run)}` {run.commit_subject}"


def _markdown(heads: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    return tabulate(rows, headers=heads, tablefmt="github", disable_numparse=True)
