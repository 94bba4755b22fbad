"""What the terminal shows: a header line, the list of suites, and the table at the end."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from pytest_ptq.plugin.options import misled, project_root
from pytest_ptq.plugin.results import merge
from pytest_ptq.plugin.session import PTQSession
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
            isa=machine.isa,
            threads=machine.threads,
            baseline=_baseline(session.book.path(selection.suite.name), root),
        )
        for selection in session.selections
    ]
    if lines and misled(session.config):
        lines.append("ptq: pytest takes the value of an option for its root folder; write --ptq-OPTION=VALUE with '='")
    return lines


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
        terminal.write_line(note)
    for problem in session.problems:
        terminal.write_line(f"ERROR: {problem}", red=True)
