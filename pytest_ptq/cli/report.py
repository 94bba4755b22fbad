"""`pytest-ptq report`: the HTML page of a history, or Markdown of one run."""

from __future__ import annotations

from pathlib import Path

import click

from pytest_ptq.cli.output import json_option, say, say_json
from pytest_ptq.cli.runs import complete_run, find_record, history_option, read_history
from pytest_ptq.errors import StoreError, UsageError
from pytest_ptq.report.printable import printable
from pytest_ptq.store.atomic import write_text
from pytest_ptq.store.history import History
from pytest_ptq.store.record import RunRecord

FORMATS = {".html": "html", ".htm": "html", ".md": "md", ".markdown": "md"}
RUNS = 200


@click.command()
@click.argument("run", metavar="[RUN]", default="latest", shell_complete=complete_run)
@click.option("-o", "--output", metavar="FILE", type=Path, help="Where to write it; Markdown is printed by default.")
@click.option("--format", "kind", type=click.Choice(["html", "md"]), help="By default what FILE ends in.")
@click.option("--title", metavar="TEXT", help="Of the HTML page.")
@click.option("--last", metavar="N", type=click.IntRange(1), default=RUNS, show_default=True, help="Runs to report on.")
@history_option
@json_option
def report(
    run: str, output: Path | None, kind: str | None, title: str | None, last: int, folder: Path, as_json: bool
) -> None:
    """Write a report of RUN (default: latest) with the runs before it: an HTML page, or Markdown for a pull request.

    The page is one file that opens without a network. It needs the extra `report`: pip install 'pytest-ptq[report]'.
    """
    chosen = _kind(output, kind, as_json=as_json)
    record = find_record(run, folder)
    before = _until(record, read_history(folder), last)
    if chosen == "md":
        from pytest_ptq.report.markdown import markdown_report

        text = markdown_report(record, before)
    else:
        from pytest_ptq.report.html import html_report

        text = html_report([*before, record], **({"title": title} if title else {}))
    if output is None:
        say(text.rstrip("\n"))
        return
    _write(output, text)
    if as_json:
        say_json({"run_id": record.run_id, "runs": len(before) + 1, "format": chosen, "file": str(output)})
    else:
        say(printable(f"{output}: {len(before) + 1} runs"))


def _kind(output: Path | None, kind: str | None, *, as_json: bool) -> str:
    """`html` or `md`. Raises UsageError where nobody can tell, or where it cannot be printed."""
    if output is None:
        if kind == "html" or as_json:
            raise UsageError("no file is named", remedy="Add -o report.html (or report.md).")
        return "md"
    found = kind or FORMATS.get(output.suffix.lower())
    if found is None:
        raise UsageError(f"{output.name!r} says neither HTML nor Markdown", remedy="Add --format html or --format md.")
    return found


def _until(record: RunRecord, history: History, last: int) -> list[RunRecord]:
    """The runs before `record`, oldest first, so that there are `last` with it."""
    older = [
        i
        for i, entry in enumerate(history.entries)
        if (entry.digest.time, entry.digest.run_id) < (record.time, record.run_id)
    ]
    return [history[i] for i in older[len(older) - min(len(older), last - 1) :]]


def _write(path: Path, text: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, text)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        message = f"the report cannot be written ({reason})"
        raise StoreError(message, place=str(path), remedy="Name another file with -o.") from error
