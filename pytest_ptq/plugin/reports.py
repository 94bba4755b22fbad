"""Test reports: one sentence instead of a traceback for a PTQError, and results that travel with them."""

from __future__ import annotations

from typing import Any

import pytest

from pytest_ptq.errors import PTQError, UsageError
from pytest_ptq.plugin.collect import SuiteModule
from pytest_ptq.plugin.results import GateResult, from_wire, properties, to_wire
from pytest_ptq.plugin.session import RESULTS, PTQSession, is_worker
from pytest_ptq.store.record import QConfigRecord

ATTRIBUTE = "ptq_results"
"""Of a test report; pytest-xdist serializes whatever attributes a report has."""


def shorten(report: pytest.TestReport | pytest.CollectReport, error: BaseException | None) -> None:
    """Replace a traceback by the sentence of the PTQError that it ends in."""
    if isinstance(error, PTQError) and report.failed:
        report.longrepr = str(error)


def note_misuse(session: PTQSession, error: BaseException | None) -> None:
    """Keep a usage error met while collecting, to end the run with it (exit code 4)."""
    if isinstance(error, UsageError) and not is_worker(session.config):
        session.misuse.append(str(error))


def attach(item: pytest.Item, call: pytest.CallInfo[Any], report: pytest.TestReport) -> None:
    """Put what the item's gates found into its report, and a gate that could not be measured as well."""
    error = call.excinfo.value if call.excinfo is not None else None
    module = item.getparent(SuiteModule)
    if isinstance(error, PTQError) and module is not None and isinstance(item, pytest.Function):
        result = _impossible(item, module, error)
        item.stash.setdefault(RESULTS, []).append(result)
        item.user_properties.extend(properties(result))
        report.user_properties = list(item.user_properties)
    results = item.stash.get(RESULTS, [])
    if results:
        setattr(report, ATTRIBUTE, to_wire(results))
        item.stash[RESULTS] = []


def receive(session: PTQSession, report: pytest.TestReport) -> None:
    """On the controller: take over what a report brings along."""
    if not is_worker(session.config):
        session.results.extend(from_wire(getattr(report, ATTRIBUTE, ())))


def _impossible(item: pytest.Function, module: SuiteModule, error: PTQError) -> GateResult:
    selection, gate = module.selection, module.gates[item.originalname]
    record = QConfigRecord(
        suite=selection.suite.name,
        data=selection.kind,
        qconfig=item.callspec.id,
        reduce_range=None,
        errors=(f"{gate.name}: {error}",),
    )
    return GateResult(gate.name, record, from_suite=True, nodeid=item.nodeid)
