"""What the terminal shows: a header line, the list of suites, and the table at the end."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from pytest_ptq.plugin.session import PTQSession
from pytest_ptq.suite import list_suites


def header_lines(session: PTQSession) -> list[str]:
    return []


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
    for note in session.notes:
        terminal.write_line(note)
    for problem in session.problems:
        terminal.write_line(f"ERROR: {problem}", red=True)
