"""`pytest-ptq list`: suites, or runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from pytest_ptq.cli.app import FAILED
from pytest_ptq.cli.output import commit, day, json_option, say, say_json, table
from pytest_ptq.cli.runs import history_option, read_history
from pytest_ptq.cli.suites import described
from pytest_ptq.store.history import Entry


@click.command("list")
@click.argument("what", type=click.Choice(["suites", "runs"]), default="suites")
@click.option("--suite", metavar="NAME", help="Only runs of this suite.")
@click.option("--last", metavar="N", type=click.IntRange(1), help="Only the N newest runs.")
@history_option
@json_option
def list_(what: str, suite: str | None, last: int | None, folder: Path, as_json: bool) -> int:
    """Suites with their data and what they are (the default), or runs, newest last."""
    if what == "suites":
        return _suites(as_json)
    entries = [e for e in read_history(folder).entries if suite is None or suite in e.digest.suites]
    _runs(entries[-last:] if last else entries, as_json)
    return 0


def _suites(as_json: bool) -> int:
    rows: list[list[str | None]] = []
    plain: list[dict[str, object]] = []
    broken = 0
    for name, suite in described():
        if isinstance(suite, str):
            broken = FAILED
            rows.append([name, None, suite])
            plain.append({"name": name, "error": suite})
        else:
            rows.append([name, ", ".join(suite.variants), suite.description or None])
            plain.append({"name": name, "data": list(suite.variants), "description": suite.description})
    if as_json:
        say_json({"suites": plain})
    else:
        say(table(("suite", "data", "what it is"), rows))
    return broken


def _runs(entries: Sequence[Entry], as_json: bool) -> None:
    if as_json:
        say_json({"runs": [_plain(entry) for entry in entries]})
        return
    rows = [
        (
            d.run_id,
            day(d.time),
            commit(d.commit),
            d.branch,
            d.machine or None,
            ", ".join(d.suites),
            _verdict(entry),
            d.subject,
        )
        for entry in entries
        for d in [entry.digest]
    ]
    headers = ("run", "time (UTC)", "commit", "branch", "machine", "suites", "verdict", "subject")
    say(table(headers, rows) if rows else "no runs")


def _verdict(entry: Entry) -> str | None:
    """The most serious one; what could not be measured comes before all."""
    from pytest_ptq.judge.gates import SEVERITY

    if entry.digest.errors:
        return "ERROR"
    verdicts = entry.digest.verdicts
    return min(verdicts, key=SEVERITY.index).value if verdicts else None


def _plain(entry: Entry) -> dict[str, object]:
    found = entry.digest
    return {
        "run_id": found.run_id,
        "path": str(entry.path),
        "time": found.time.isoformat(),
        "commit": found.commit,
        "branch": found.branch,
        "subject": found.subject,
        "machine": found.machine,
        "suites": list(found.suites),
        "verdict": _verdict(entry),
    }
