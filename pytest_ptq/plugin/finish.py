"""The end of a session, on the controller: the run record, the baselines, and what the summary says."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from dataclasses import asdict
from functools import partial

import pytest

from pytest_ptq.errors import PTQError
from pytest_ptq.plugin.fastest import waits
from pytest_ptq.plugin.gates import CLASSIFICATION, GATES, LATENCY
from pytest_ptq.plugin.options import LatencyMode, project_root
from pytest_ptq.plugin.report_files import write_reports
from pytest_ptq.plugin.results import GateResult, merge
from pytest_ptq.plugin.selection import Selection, placed, search_folders
from pytest_ptq.plugin.session import PTQSession
from pytest_ptq.qconfig import RUNTIMES
from pytest_ptq.store.audit import Known, audit, orphans
from pytest_ptq.store.export import export_record
from pytest_ptq.store.history import write_record
from pytest_ptq.store.provenance import CommitNames, commit_names, current_commit, versions
from pytest_ptq.store.record import RunRecord
from pytest_ptq.suite import list_suites


def finish(session: PTQSession, exitstatus: int) -> None:
    """Write what is to be kept. A file that cannot be written is a problem of the run, and takes nothing else along.

    After an interrupt nothing is written: half a run is neither a baseline nor history. An interrupt while something
    is written ends the run as one; a file is the old one or the new one then.
    """
    if not session.results or exitstatus in (pytest.ExitCode.INTERRUPTED, pytest.ExitCode.INTERNAL_ERROR):
        return
    try:
        _write(session)
    except KeyboardInterrupt:
        pytest.exit(
            "interrupted while pytest-ptq wrote its files: each is whole, and the old one or the new one",
            returncode=int(pytest.ExitCode.INTERRUPTED),
        )
    session.notes += remarks(session)


def _write(session: PTQSession) -> None:
    record, settings = run_record(session), session.settings
    writers = [partial(write_record, settings.history, record)]
    writers += [partial(export_record, settings.json, record)] if settings.json is not None else []
    for write in writers:
        try:
            session.notes.append(f"run record: {write()}")
        except PTQError as error:
            session.problems.append(str(error))
    failed = [result for result in session.results if result.fails(strict=session.settings.strict)]
    lines, problems = session.book.update(session.results, failed)
    session.notes += lines
    session.problems += problems
    write_reports(session, record)


def run_record(session: PTQSession) -> RunRecord:
    """Everything that this session measured and judged, and on what."""
    machine, root = session.machine, project_root(session.config)
    commit = current_commit(root)
    names = commit_names(root) if commit else CommitNames()
    return RunRecord(
        machine={**asdict(machine), "key": machine.key, **_held(session)},
        versions=versions(dict.fromkeys(result.record.runtime for result in session.results)),
        results=merge(session.results),
        commit=commit,
        time=session.started,
        branch=names.branch,
        commit_time=names.time,
        commit_subject=names.subject,
    )


def _held(session: PTQSession) -> dict[str, str]:
    """Said of a run only that was held back: what its machine is called is not what the CPU is."""
    held = session.settings.isa
    return {} if held is None else {"isa_held_by": f"--ptq-isa {held}"}


def remarks(session: PTQSession) -> list[str]:
    """What is stale in the baseline files and what they lack, as far as this run can know it: a sentence each."""
    found: list[str] = []
    for selection in session.selections:
        results = [r for r in session.results if r.from_suite and r.record.suite == selection.suite.name]
        if results:
            with contextlib.suppress(PTQError):  # a file that cannot be read failed its gates, and was told there
                baselines = session.book.current(selection.suite.name)
                found += audit(baselines, _known(session, selection, results))
    return found + _orphans(session) if session.selections else found


def _known(session: PTQSession, selection: Selection, results: Iterable[GateResult]) -> Known:
    settings = session.settings
    judges = [
        gate
        for gate in map(GATES.get, settings.gates)
        if gate is not None and (gate is not LATENCY or settings.latency is LatencyMode.GATE)
    ]
    records = [result.record for result in results if result.record.data == selection.kind]
    keys = {record.qconfig: record.machine_key for record in records if record.machine_key}
    # All that the suite declares: what --ptq-qconfig leaves out is not gone.
    declared = [q for q in placed(selection.suite, settings) if not waits(q) or q.name in keys]
    return Known(
        kinds=tuple(selection.suite.variants),
        qconfigs=[qconfig.name for qconfig in declared],
        data=selection.kind,
        machine_key=session.machine.key,
        metrics=[g.metric for g in judges if selection.suite.top1 or g.metric.key not in CLASSIFICATION],
        judged={(record.qconfig, key) for record in records for key in record.judgements},
        keys={**{q.name: session.machine.key_for(q.runtime) for q in declared if not waits(q)}, **keys},
        declared=[q.name for q in placed(selection.suite, settings, RUNTIMES[:1])],
        unasked={(q.name, gate.metric.key) for q in declared for gate in judges if not gate.asks(q)},
    )


def _orphans(session: PTQSession) -> list[str]:
    """Baseline files without a suite, in the folder that is this project's own."""
    named = [selection.path.parent for selection in session.selections if selection.path is not None]
    suites = list_suites([*search_folders(session.config), *dict.fromkeys(named)])
    return orphans(session.book.folder, {*suites, *(s.suite.name for s in session.selections)}, suites.values())
