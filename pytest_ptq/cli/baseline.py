"""`pytest-ptq baseline`: what a baseline file says, what a run would change in it, and changing it so."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import click

from pytest_ptq.cli.output import commit, interval, json_option, say, say_json, table
from pytest_ptq.cli.runs import find_record, history_option, run_argument
from pytest_ptq.cli.suites import complete_suite
from pytest_ptq.errors import UsageError
from pytest_ptq.metrics import METRICS, Direction, Metric
from pytest_ptq.report.printable import printable
from pytest_ptq.speeds import speed_text
from pytest_ptq.store.baseline_format import COMMENT
from pytest_ptq.store.baselines import Baselines, baseline_path, shown
from pytest_ptq.store.diff import changes
from pytest_ptq.store.entries import each_speed
from pytest_ptq.store.provenance import Provenance, named_versions
from pytest_ptq.store.record import QConfigRecord, RunRecord
from pytest_ptq.store.update import update_file
from pytest_ptq.suite import packaged_baselines

F = TypeVar("F", bound=Callable[..., Any])

FOLDER = Path("baselines")


def _folder_option(command: F) -> F:
    help_ = "Folder of baselines, as pytest's --ptq-baseline-dir."
    return click.option(
        "--baselines", "where", metavar="DIR", type=Path, default=FOLDER, show_default=True, help=help_
    )(command)


@click.group(no_args_is_help=False)
def baseline() -> None:
    """What a baseline file says (show), what a run would change in it (diff), and changing it so (update)."""


@baseline.command()
@click.argument("suite", metavar="SUITE", shell_complete=complete_suite)
@_folder_option
@json_option
def show(suite: str, where: Path, as_json: bool) -> None:
    """Limits of SUITE, and what was recorded on each kind of machine."""
    found = _read(where, suite)
    rows = list(_rows(found))
    if as_json:
        say_json({"suite": suite, "file": shown(found.path), "values": rows})
        return
    say(printable(shown(found.path)))
    headers = ("data", "qconfig", "metric", "limit", "machine", "recorded [95 %]", "date", "commit")
    say(table(headers, [cells for row in rows for cells in _cells(row)], right=(3,)))


def _read(where: Path, suite: str) -> Baselines:
    """The file in `where`, or else the one that comes with the package, as a test run does. Raises BaselineError."""
    own, packaged = (baseline_path(folder, suite) for folder in (where, packaged_baselines()))
    if where == FOLDER and not own.exists() and packaged.is_file():
        return Baselines.read(packaged, AnyMetric())
    return Baselines.read(own, AnyMetric())


class AnyMetric(frozenset[str]):
    """Every metric there may be: which ones a user's hooks register is known to a test run only."""

    def __contains__(self, key: object) -> bool:
        return True


def _rows(found: Baselines) -> Iterator[dict[str, Any]]:
    """A row for each metric of each qconfig that has a limit or a record."""
    for data, entry in json.loads(found.text)["data"].items():
        limits, xfails = entry.get("limits", {}), entry.get("xfail", {})
        recorded = entry.get("recorded", {})
        for qconfig in found.names(data):
            values = {machine: names.get(qconfig, {}) for machine, names in recorded.items()}
            keys = [*limits.get(qconfig, {}), *(key for known in values.values() for key in known)]
            for key in dict.fromkeys(key for key in keys if key != COMMENT):
                yield {
                    "data": data,
                    "qconfig": qconfig,
                    "metric": key,
                    "limit": limits.get(qconfig, {}).get(key),
                    "tolerance": entry.get("tolerances", {}).get(key),
                    "xfail": xfails.get(qconfig, {}).get(key),
                    "recorded": [
                        {"machine": machine, **one}
                        for machine, known in values.items()
                        if key in known
                        for one in each_speed(known[key])
                    ],
                }


def _cells(row: dict[str, Any]) -> Iterator[tuple[object, ...]]:
    """A line for each record; the limit stands in the first."""
    key = row["metric"]
    metric = METRICS.get(key) or Metric(key, key, "", Direction.LOWER_IS_BETTER, 3)
    limit = None if row["limit"] is None else f"{row['limit']:g}{' (xfail)' if row['xfail'] else ''}"
    names = (row["data"], row["qconfig"], key, limit)
    if not row["recorded"]:
        yield (*names, None, None, None, None)
    several = len(row["recorded"]) > len({found["machine"] for found in row["recorded"]})
    for found in row["recorded"]:
        value = interval(metric, found["value"], found.get("low"), found.get("high"))
        speed = f", {speed_text(found)}" if several and speed_text(found) else ""
        yield (*names, f"{found['machine']}{speed}", value, found.get("date"), commit(found.get("commit")))
        names = ("", "", "", "")


@baseline.command()
@run_argument
@click.option("--suite", metavar="NAME", help="Only this one of the run's suites.")
@click.option("--new", "only_new", is_flag=True, help="Only what has no record on such a machine yet.")
@_folder_option
@history_option
@json_option
def diff(run: str, suite: str | None, only_new: bool, where: Path, folder: Path, as_json: bool) -> None:
    """What `update` would change, from RUN; nothing is written."""
    record = find_record(run, folder)
    told = {}
    for name in _suites(record, suite):
        before = _read(where, name)
        told[name] = _changes(before, updated(before, record, only_new=only_new), record)
    _tell(told, as_json=as_json)


@baseline.command()
@run_argument
@click.option("--suite", metavar="NAME", help="Only this one of the run's suites.")
@click.option("--new", "only_new", is_flag=True, help="Only what has no record on such a machine yet.")
@_folder_option
@history_option
@json_option
def update(run: str, suite: str | None, only_new: bool, where: Path, folder: Path, as_json: bool) -> None:
    """Record what RUN measured as the baseline of its machines; limits, tolerances and comments stay.

    A value says from which run's day, commit and versions it comes. What is recorded already keeps that.
    """
    record = find_record(run, folder)
    files = {name: _read(where, name) for name in _suites(record, suite)}
    told = {}
    for name, before in files.items():
        start = replace(before, path=baseline_path(where, name))  # never into the package
        done = update_file(start, lambda found: updated(found, record, only_new=only_new))
        told[name] = _changes(done.before, done.after, record)
        if done.wrote:
            told[name].append(f"baseline written to {shown(done.after.path)}")
    _tell(told, as_json=as_json)


def updated(before: Baselines, record: RunRecord, *, only_new: bool = False) -> Baselines:
    """`before` with what `record` measured of its suite."""
    after = before
    for result in _results(record, before.suite):
        place = (result.data, record.key_of(result), result.qconfig)
        told = named_versions(record.versions, result.runtime)
        origin = Provenance(record.time.date().isoformat(), record.commit, told)
        after = after.with_recorded(*place, result.measurements.values(), origin, missing=only_new)
    return after


def _suites(record: RunRecord, only: str | None) -> list[str]:
    """Those of the run. Raises UsageError where there is nothing to record."""
    if not record.machine_key:
        raise UsageError(f"run {record.run_id} does not say on what machine it was", remedy="Record another run.")
    found = list(dict.fromkeys(result.suite for result in record.results if result.measurements))
    chosen = [name for name in found if only in (None, name)]
    if not chosen:
        known = f"It has {', '.join(found)}." if found else "Choose a run that measured something."
        raise UsageError(f"run {record.run_id} measured nothing of {only or 'any suite'}", remedy=known)
    return chosen


def _results(record: RunRecord, suite: str) -> Iterator[QConfigRecord]:
    return (result for result in record.results if result.suite == suite)


def _changes(before: Baselines, after: Baselines, record: RunRecord) -> list[str]:
    lines: list[str] = []
    for result in _results(record, before.suite):
        metrics: list[Metric] = [m.metric for m in result.measurements.values()]
        lines += changes(before, after, result.data, record.key_of(result), result.qconfig, metrics)
    return lines


def _tell(told: dict[str, list[str]], *, as_json: bool) -> None:
    if as_json:
        say_json({"suites": {name: {"changed": bool(lines), "lines": lines} for name, lines in told.items()}})
        return
    for name, lines in told.items():
        for line in lines or [f"the baseline of {name} says so already"]:
            say(printable(line))
