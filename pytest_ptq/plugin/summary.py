"""What the terminal shows: a header line, the list of suites, and the table at the end."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import pytest

from pytest_ptq.errors import PTQError
from pytest_ptq.metrics import Judgement
from pytest_ptq.plugin.options import Annotations, misled, project_root
from pytest_ptq.plugin.results import merge
from pytest_ptq.plugin.selection import Selection
from pytest_ptq.plugin.session import PTQSession
from pytest_ptq.report.annotations import Annotation, Level, Place, annotate, github_command, place_of, relative_place
from pytest_ptq.report.printable import printable
from pytest_ptq.report.terminal import header, notes, table
from pytest_ptq.suite import list_suites


def header_lines(session: PTQSession) -> list[str]:
    """A line for each selected suite."""
    machine, root = session.machine, project_root(session.config)
    lines = [
        header(
            suite=selection.suite.name,
            data=selection.kind if selection.argument is None else f"{selection.kind}={selection.argument}",
            engine=f"x86/{machine.engine}",
            isa=machine.isa if session.settings.isa is None else f"{machine.isa} (--ptq-isa)",
            threads=machine.threads,
            baseline=_baseline(session.book.path(selection.suite.name), root),
            runtimes=tuple(dict.fromkeys(qconfig.runtime for qconfig in selection.qconfigs)),
        )
        + _drift(session, selection)
        for selection in session.selections
    ]
    if lines and misled(session.config):
        lines.append("ptq: pytest takes the value of an option for its root folder; write --ptq-OPTION=VALUE with '='")
    return lines


def _drift(session: PTQSession, selection: Selection) -> str:
    try:
        return f" drift={printable(session.book.drift(selection))}"
    except PTQError:  # no file, or a damaged one: its gates will say so
        return ""


def _baseline(path: Path, root: Path) -> str:
    shown = path.relative_to(root) if path.is_relative_to(root) else path
    return str(shown) if path.is_file() else f"{shown} (missing)"


def suite_list(search: Sequence[Path]) -> str:
    """Name and file of each suite that `--ptq-suite` knows by name."""
    found = list_suites(search)
    width = max(map(len, found), default=0)
    return "\n".join(f"{name:{width}}  {path}" for name, path in found.items()) or "no suites"


def write_summary(terminal: pytest.TerminalReporter, session: PTQSession) -> None:
    """The table with failing rows first, what was written, and what could not be."""
    if not session.results and not session.problems:
        return
    terminal.write_sep("=", "ptq")
    rows = merge(session.results)
    if rows:
        terminal.write_line(table(rows, width=session.config.get_terminal_writer().fullwidth))
    for note in (*notes(rows), *session.notes):
        terminal.write_line(printable(note))
    for problem in session.problems:
        terminal.write_line(f"ERROR: {printable(problem)}", red=True)
    for line in annotation_lines(session, os.environ):
        terminal.write_line(line)


def annotation_lines(session: PTQSession, environ: Mapping[str, str]) -> list[str]:
    """Workflow commands for what did not pass, where `--ptq-annotations` wants them."""
    wanted, github = session.settings.annotations, environ.get("GITHUB_ACTIONS") == "true"
    if wanted is Annotations.OFF or (wanted is Annotations.AUTO and not github):
        return []
    # GitHub knows files by their place in the repository, which may be a folder or two above pytest's root.
    root = Path(environ.get("GITHUB_WORKSPACE") or project_root(session.config)).resolve()
    found = [
        annotation
        for result in session.results
        for annotation in annotate(
            result.record, strict=session.settings.strict, locate=partial(_locate, session, result.nodeid, root)
        )
    ]
    found += [Annotation(Level.ERROR, "pytest-ptq", problem) for problem in session.problems]
    return [github_command(annotation) for annotation in found]


def _locate(session: PTQSession, nodeid: str, root: Path, judgement: Judgement | None) -> Place | None:
    """The line of the limit; where no file holds one, the test's, if that is a file of the repository."""
    limit = judgement.limit if judgement is not None else None
    place = place_of(limit.source, Path.cwd(), root) if limit is not None else None
    if place is None and nodeid in session.places:
        file, line = session.places[nodeid]
        place = relative_place(session.config.rootpath / file, root, line)
    return place if place is not None and (root / place.file).is_file() else None
