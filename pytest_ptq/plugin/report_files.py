"""Reports that a run writes into files: HTML, Markdown, and what GitHub shows of a step."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_ptq.errors import InstallationError, PTQError, StoreError
from pytest_ptq.report.markdown import markdown_report
from pytest_ptq.store.atomic import write_text
from pytest_ptq.store.history import open_history
from pytest_ptq.store.record import RunRecord

if TYPE_CHECKING:
    from pytest_ptq.plugin.options import Settings
    from pytest_ptq.plugin.session import PTQSession

NEWEST = 500
"""Runs of the history that a report looks back on."""
HTML_NEEDS = ("jinja2", "vl_convert")
STEP_SUMMARY = "GITHUB_STEP_SUMMARY"
"""Names the file in which a step of GitHub Actions collects Markdown ("Adding a job summary", docs.github.com)."""


def check_report_packages(settings: Settings) -> None:
    """Raises InstallationError when a report is asked for that could not be made in the end. Imports nothing."""
    missing = [name for name in HTML_NEEDS if find_spec(name) is None] if settings.report_html else []
    if missing:
        message = f"--ptq-report-html needs {' and '.join(missing)}, not installed here"
        raise InstallationError(message, remedy="pip install 'pytest-ptq[report]'")


def write_reports(session: PTQSession, record: RunRecord, environ: Mapping[str, str] = os.environ) -> None:
    """Write what the options and GitHub ask for; one that fails takes no other along.

    A file that a person named and that cannot be written is a problem of the run. GitHub's is a service: where it
    cannot be written, a line says so, and the run stays what it is.
    """
    settings, summary = session.settings, environ.get(STEP_SUMMARY)
    if not (settings.report_html or settings.report_md or summary):
        return
    runs = _runs(session, record)
    found = tuple(session.problems)
    if settings.report_md is not None:
        _report(session, "md", settings.report_md, lambda: markdown_report(record, runs, found))
    if settings.report_html is not None:
        _report(session, "html", settings.report_html, lambda: _html(runs))
    if summary:
        try:
            _append(Path(summary), markdown_report(record, runs, found))
        except (OSError, ValueError) as error:
            session.notes.append(f"the summary of this step cannot be written ({error})")


def _report(session: PTQSession, kind: str, path: Path, made: Callable[[], str]) -> None:
    try:
        text = made()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_text(path, text)
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            message = f"the report cannot be written ({reason})"
            remedy = f"Name another file with --ptq-report-{kind}."
            raise StoreError(message, place=str(path), remedy=remedy) from error
    except PTQError as error:
        session.problems.append(str(error))
    else:
        session.notes.append(f"report: {path}")


def _html(runs: list[RunRecord]) -> str:
    from pytest_ptq.report.html import html_report

    return html_report(runs)


def _runs(session: PTQSession, record: RunRecord) -> list[RunRecord]:
    """The newest runs of the history, oldest first, and this one, which could perhaps not be written there.

    A history that cannot be read is told in a line: what this run measured is reported all the same.
    """
    found: list[RunRecord] = []
    try:
        history = open_history(session.settings.history)
    except StoreError as error:
        session.notes.append(str(error))
        return [record]
    session.notes += history.problems[:1]
    for place in range(max(len(history) - NEWEST, 0), len(history)):
        with contextlib.suppress(StoreError):  # taken away since the folder was listed
            found.append(history[place])
    return [*(run for run in found if run.run_id != record.run_id), record]


def _append(path: Path, text: str) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.write(f"\n{text}")
