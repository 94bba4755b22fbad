"""Test reports: one sentence instead of a traceback for a PTQError, and results that travel with them."""

from __future__ import annotations

from typing import Any

import pytest

from pytest_ptq.errors import InstallationError, PTQError, UsageError
from pytest_ptq.plugin.collect import SuiteModule
from pytest_ptq.plugin.gate_tests import gate_tests
from pytest_ptq.plugin.junit import item_properties
from pytest_ptq.plugin.results import GateResult, from_wire, to_wire
from pytest_ptq.plugin.selection import Selection
from pytest_ptq.plugin.session import RESULTS, PTQSession, is_worker, session_of
from pytest_ptq.plugin.workers import item_id
from pytest_ptq.qconfig import RUNTIMES
from pytest_ptq.report.printable import printable
from pytest_ptq.store.record import QConfigRecord

# Attributes of a test report; pytest-xdist serializes whatever a report has.
ATTRIBUTE = "ptq_results"
ITEM_ID = "ptq_item"
MET = "ptq_met"
"""There when the test has to do with a suite or a gate."""


def shorten(report: pytest.TestReport | pytest.CollectReport, error: BaseException | None) -> None:
    """Replace a traceback by the sentence of the PTQError that it ends in."""
    if isinstance(error, PTQError) and report.failed:
        report.longrepr = printable(str(error))


def note_misuse(session: PTQSession, error: BaseException | None) -> None:
    """Keep a usage error or a missing package met while collecting, to end the run with it (exit code 4)."""
    if isinstance(error, UsageError | InstallationError) and not is_worker(session.config):
        session.misuse.append(printable(str(error)))


def attach(item: pytest.Item, call: pytest.CallInfo[Any], report: pytest.TestReport) -> None:
    """Put what the item's gates found into its report, and a gate that could not be measured as well."""
    if "_ptq_selection" in getattr(item, "fixturenames", ()):
        setattr(report, MET, True)
    setattr(report, ITEM_ID, item_id(item))
    error = call.excinfo.value if call.excinfo is not None else None
    module = item.getparent(SuiteModule)
    if isinstance(error, PTQError) and module is not None and isinstance(item, pytest.Function):
        result = _impossible(
            session_of(item.config), module.selection, item.originalname, item.callspec.id, item_id(item), error
        )
        item.stash.setdefault(RESULTS, []).append(result)
    results = item.stash.get(RESULTS, [])
    if results:
        item.user_properties.extend(item_properties(results, session_of(item.config).machine.key))
        report.user_properties = list(item.user_properties)
        setattr(report, ATTRIBUTE, to_wire(results))
        item.stash[RESULTS] = []


def receive(session: PTQSession, report: pytest.TestReport) -> None:
    """On the controller: take over what a report brings along."""
    if is_worker(session.config):
        return
    file, line, _ = report.location
    session.places[_id(report)] = file, (line or 0) + 1
    session.met = session.met or hasattr(report, MET)
    results = from_wire(getattr(report, ATTRIBUTE, ()))
    if report.failed and not results:
        results = _unexplained(session, report)
    session.results.extend(results)


def exit_status(session: PTQSession, status: int) -> int:
    """pytest's own status, unless a success would hide a problem, or that nothing of the suites ran.

    Suites that were asked for on the command line and whose gates were all deselected end as pytest ends when nothing
    was collected, even if other tests passed. In the ini file they are a standing wish, which `-k` may narrow.
    """
    if status != pytest.ExitCode.OK:
        return status
    if session.problems:
        return pytest.ExitCode.TESTS_FAILED
    asked = session.selections and session.config.getoption("ptq_suite") is not None
    idle = session.config.option.collectonly or getattr(session.config.option, "setupplan", False)
    if not asked or idle or session.met:
        return status
    names = ", ".join(selection.suite.name for selection in session.selections)
    session.problems.append(f"no gate of {names} was run: -k, -m or --deselect left none")
    return pytest.ExitCode.NO_TESTS_COLLECTED


def _unexplained(session: PTQSession, report: pytest.TestReport) -> list[GateResult]:
    """A gate that failed by something else than a PTQError: a fault in a suite's code, or a worker that died."""
    if any(result.nodeid == _id(report) for result in session.results):
        return []
    for selection in session.selections:
        name, _, rest = report.nodeid.removeprefix(f"{selection.nodeid}::").partition("[")
        qconfig, _, _ = rest.partition("]")  # behind which pytest-xdist writes a group
        if report.nodeid.startswith(f"{selection.nodeid}::") and name in gate_tests(benchmark=True):
            session.met = True
            nodeid = f"{selection.nodeid}::{name}[{qconfig}]"
            return [_impossible(session, selection, name, qconfig, nodeid, _last_words(report))]
    return []


def _id(report: pytest.TestReport) -> str:
    return str(getattr(report, ITEM_ID, report.nodeid))


def _last_words(report: pytest.TestReport) -> str:
    """The first line of what pytest sums the failure up in."""
    whole = report.longrepr if isinstance(report.longrepr, str) else report.longreprtext
    crash = getattr(report.longrepr, "reprcrash", None)
    text = str(getattr(crash, "message", "") or whole).strip()
    return text.splitlines()[0] if text else f"failed during {report.when}"


def _impossible(
    session: PTQSession, selection: Selection, test: str, qconfig: str, nodeid: str, error: object
) -> GateResult:
    gate, _ = gate_tests(benchmark=True)[test]
    runtime = next((q.runtime for q in selection.qconfigs if q.name == qconfig), RUNTIMES[0])
    record = QConfigRecord(
        suite=selection.suite.name,
        data=selection.kind,
        qconfig=qconfig,
        reduce_range=None,
        errors=(f"{gate.name}: {error}",),
        runtime=runtime,
        machine_key=session.machine.key_for(runtime) if runtime in RUNTIMES[1:] else "",
    )
    return GateResult(gate.name, record, from_suite=True, nodeid=nodeid)
