"""`pytest-ptq show`: one run."""

from __future__ import annotations

import json
from pathlib import Path

import click

from pytest_ptq.cli.output import commit, day, json_option, measured, say, say_json, table
from pytest_ptq.cli.runs import find_record, history_option, run_argument
from pytest_ptq.report.printable import printable
from pytest_ptq.store.record import QConfigRecord, RunRecord


@click.command()
@run_argument
@history_option
@json_option
def show(run: str, folder: Path, as_json: bool) -> None:
    """All that RUN measured and judged: `latest`, `latest~1`, an id, a commit, or a file.

    Of ids and commits, the beginning will do. With --json it is the whole record.
    """
    record = find_record(run, folder)
    if as_json:
        say_json(json.loads(record.to_json()))
        return
    from pytest_ptq.report.terminal import notes
    from pytest_ptq.report.where import kernels

    say("\n".join(_head(record)))
    for result in record.results:
        say()
        say(printable(f"{result.suite}[{result.qconfig}] on {result.data} data"))
        if by := kernels(result.measurements):
            say(printable(f"int8 by {by}"))
        say(_values(result))
    if told := notes(record.results):
        say()
        say("\n".join(told))


def _head(record: RunRecord) -> list[str]:
    where = " ".join(
        filter(None, (commit(record.commit), record.branch and f"({record.branch})", record.commit_subject))
    )
    versions = ", ".join(f"{name} {version}" for name, version in record.versions.items())
    lines = {
        "run": f"{record.run_id}, {day(record.time)} UTC",
        "commit": where or "unknown",
        "machine": f"{record.machine_key}, {record.machine.get('cpu', 'unknown CPU')}",
        "versions": versions or "unknown",
    }
    return [f"{key:9} {printable(value)}" for key, value in lines.items()]


def _values(result: QConfigRecord) -> str:
    rows = []
    judged = result.judgements
    for key, found in {**{k: j.measurement for k, j in judged.items()}, **result.measurements}.items():
        judgement = judged.get(key)
        limit = judgement.limit if judgement else None
        rows.append(
            (
                found.metric.title,
                measured(found),
                None if limit is None else f"{limit.bound:g}",
                measured(judgement.recorded) if judgement else None,
                judgement.verdict.value if judgement else None,
            )
        )
    return table(("metric", "value [95 %]", "limit", "recorded", "verdict"), rows)
