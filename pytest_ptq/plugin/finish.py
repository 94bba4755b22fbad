"""The end of a session, on the controller: the run record, the baselines, and what the summary says."""

from __future__ import annotations

from dataclasses import asdict

import pytest

from pytest_ptq.errors import PTQError
from pytest_ptq.plugin.options import project_root
from pytest_ptq.plugin.results import merge
from pytest_ptq.plugin.session import PTQSession
from pytest_ptq.store.history import write_record
from pytest_ptq.store.provenance import current_commit, versions
from pytest_ptq.store.record import RunRecord


def finish(session: PTQSession, exitstatus: int) -> None:
    """Write what is to be kept. A file that cannot be written is a problem of the run, and takes nothing else along.

    After an interrupt nothing is written: half a run is neither a baseline nor history.
    """
    if not session.results or exitstatus in (pytest.ExitCode.INTERRUPTED, pytest.ExitCode.INTERNAL_ERROR):
        return
    try:
        path = write_record(session.settings.history, run_record(session))
        session.notes.append(f"run record: {path}")
    except PTQError as error:
        session.problems.append(str(error))
    failed = [result for result in session.results if result.fails(strict=session.settings.strict)]
    try:
        session.notes += [f"baseline {line}" for line in session.book.update(session.results, failed)]
    except PTQError as error:
        session.problems.append(str(error))


def run_record(session: PTQSession) -> RunRecord:
    """Everything that this session measured and judged, and on what."""
    machine = session.machine
    return RunRecord(
        machine={**asdict(machine), "key": machine.key},
        versions=versions(),
        results=merge(session.results),
        commit=current_commit(project_root(session.config)),
        time=session.started,
    )
