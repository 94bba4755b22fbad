"""`pytest-ptq history`: what a suite's metrics did from run to run, and since when they are different."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

import click

from pytest_ptq.cli.output import commit, day, interval, json_option, say, say_json, table
from pytest_ptq.cli.runs import complete_suite_with_runs, history_option, read_history
from pytest_ptq.cli.sparkline import sparkline
from pytest_ptq.errors import UnknownNameError, UsageError
from pytest_ptq.judge.changes import Change, changes_shown
from pytest_ptq.metrics import METRICS, Metric
from pytest_ptq.report.printable import printable
from pytest_ptq.store.history import History
from pytest_ptq.store.series import Point, SeriesKey

LOOKED_AT = 100
"""Runs of a series in which changes are looked for: the newest."""
ADVICE = "Change points are advice, found by permutation (p <= 0.01); no verdict comes from them."


@dataclass(frozen=True)
class Line:
    """One series, with its changes."""

    key: SeriesKey
    metric: Metric
    points: tuple[Point, ...]
    changes: tuple[Change, ...]


@click.command()
@click.argument("suite", metavar="SUITE", shell_complete=complete_suite_with_runs)
@click.option("--metric", metavar="KEY", help="One metric in full; by default those that were judged, a line each.")
@click.option("--qconfig", metavar="GLOB", default="*", help="Only these qconfigs.")
@click.option("--machine", metavar="GLOB", default="*", help="Only these machine keys.")
@click.option("--last", metavar="N", type=click.IntRange(1), default=20, show_default=True, help="Rows of a table.")
@history_option
@json_option
def history(suite: str, metric: str | None, qconfig: str, machine: str, last: int, folder: Path, as_json: bool) -> None:
    """What SUITE's metrics did from run to run: a sparkline, where it changed, and with --metric every run.

    A series is of one suite, kind of data, qconfig, metric and machine key; they are never mixed.
    """
    lines = find_lines(read_history(folder), suite, metric, qconfig, machine, folder)
    if as_json:
        say_json({"suite": suite, "series": [_plain(line) for line in lines]})
    elif metric is None:
        say(_overview(lines))
        say(f"\n{ADVICE}")
    else:
        say("\n\n".join(_whole(line, last) for line in lines))


def find_lines(found: History, suite: str, metric: str | None, qconfig: str, machine: str, folder: Path) -> list[Line]:
    """The series that are meant. Raises UnknownNameError for a suite or metric without any, UsageError for no match."""
    series = found.series(suite=suite)
    if not series:
        suites = {name for entry in found.entries for name in entry.digest.suites}
        raise UnknownNameError("suite with runs", suite, suites, place=str(folder))
    keys = {key.metric for key in series}
    if metric is not None and metric not in keys:
        raise UnknownNameError("metric", metric, keys, place=suite)
    # What was imported from pytest-benchmark was never judged: then all there is.
    judged = {key for key, points in series.items() if any(point.verdict for point in points)} or series.keys()
    chosen = {
        key: points
        for key, points in series.items()
        if (key.metric == metric if metric else key in judged)
        and fnmatchcase(key.qconfig, qconfig)
        and fnmatchcase(key.machine, machine)
    }
    if not chosen:
        remedy = f"Qconfigs: {', '.join(sorted({key.qconfig for key in series}))}."
        raise UsageError("no series is left", place=suite, remedy=f"Name a metric with --metric. {remedy}")
    known = _metrics(found, {key.metric for key in chosen})
    return [_line(key, known[key.metric], points) for key, points in chosen.items()]


def _line(key: SeriesKey, metric: Metric, points: tuple[Point, ...]) -> Line:
    recent = points[-LOOKED_AT:]
    return Line(key, metric, recent, changes_shown(metric, [point.value for point in recent]))


def _metrics(found: History, keys: set[str]) -> Mapping[str, Metric]:
    """Titles and units: of the built-in metrics, and of others from the newest record that has them."""
    known = {key: METRICS[key] for key in keys if key in METRICS}
    for i in range(len(found) - 1, -1, -1):
        if keys <= known.keys():
            break
        if (keys - known.keys()) & {key.metric for key in found.entries[i].digest.keys}:
            for result in found[i].results:
                known.update({m.metric.key: m.metric for m in result.measurements.values() if m.metric.key in keys})
                known.update({j.measurement.metric.key: j.measurement.metric for j in result.judgements.values()})
    return known


def _overview(lines: Sequence[Line]) -> str:
    headers = ("qconfig", "data", "metric", "machine", "runs", "first", "last", "trend", "last change")
    rows = [
        (
            line.key.qconfig,
            line.key.data,
            line.key.metric,
            line.key.machine,
            len(line.points),
            line.metric.format(line.points[0].value),
            line.metric.format(line.points[-1].value),
            _trend(line),
            _briefly(line, line.changes[-1]) if line.changes else None,
        )
        for line in lines
    ]
    return table(headers, rows, right=(4, 5, 6))


def _whole(line: Line, last: int) -> str:
    key = line.key
    head = f"{key.suite}[{key.qconfig}] on {key.data} data, {line.metric.title}, {key.machine}: {len(line.points)} runs"
    changed = {change.index: change for change in line.changes}
    rows = [
        (
            day(point.time),
            point.run_id,
            commit(point.commit),
            interval(line.metric, point.value, point.low, point.high),
            None if point.bound is None else f"{point.bound:g}",
            None if point.recorded is None else f"{point.recorded:.{line.metric.digits}f}",
            point.verdict.value if point.verdict else None,
            f"<- changed, p={changed[i].p_value:.3f}" if i in changed else "",
        )
        for i, point in list(enumerate(line.points))[-last:]
    ]
    headers = ("time (UTC)", "run", "commit", "value [95 %]", "limit", "recorded", "verdict", "")
    told = [f"changed {_told(line, change)}" for change in line.changes] or ["no change"]
    return "\n".join((printable(head), _trend(line), "", table(headers, rows), "", *map(printable, told), ADVICE))


def _trend(line: Line) -> str:
    return sparkline([point.value for point in line.points], [change.index for change in line.changes])


def _briefly(line: Line, change: Change) -> str:
    """`0123456789ab: 0.400 -> 0.500`, with the run's id where nobody knows the commit."""
    point, metric = line.points[change.index], line.metric
    return f"{commit(point.commit) or point.run_id}: {metric.format(change.before)} -> {metric.format(change.after)}"


def _told(line: Line, change: Change) -> str:
    """`since 2026-02-04 12:00, run 0123456789ab, commit 0123456789ab: 0.400 -> 0.500, p=0.001`."""
    point, metric = line.points[change.index], line.metric
    parts = [day(point.time), f"run {point.run_id}"] + ([f"commit {commit(point.commit)}"] if point.commit else [])
    step = f"{metric.format(change.before)} -> {metric.format(change.after)}"
    return f"since {', '.join(parts)}: {step}, p={change.p_value:.3f}"


def _plain(line: Line) -> dict[str, object]:
    changes = [
        {
            "run_id": line.points[change.index].run_id,
            "commit": line.points[change.index].commit,
            "before": change.before,
            "after": change.after,
            "p_value": change.p_value,
        }
        for change in line.changes
    ]
    points = [
        {
            "run_id": point.run_id,
            "time": point.time.isoformat(),
            "commit": point.commit,
            "value": point.value,
            "low": point.low,
            "high": point.high,
            "limit": point.bound,
            "recorded": point.recorded,
            "verdict": point.verdict.name.lower() if point.verdict else None,
        }
        for point in line.points
    ]
    return {**vars(line.key), "unit": line.metric.unit, "points": points, "changes": changes}
