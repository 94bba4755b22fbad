"""The hooks of a run, and the fixtures: loaded when pytest has something to do, and not for its help."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import pytest

from pytest_ptq.errors import PTQError
from pytest_ptq.plugin import (
    collect,
    finish,
    isa,
    junit,
    marker,
    options,
    parametrize,
    reports,
    selection,
    summary,
    workers,
)
from pytest_ptq.plugin.fixtures import (
    _ptq_run,
    _ptq_selection,
    ptq_calibration_data,
    ptq_check,
    ptq_eval_data,
    ptq_latency,
    ptq_machine,
    ptq_model,
    ptq_qconfig,
    ptq_quantized,
    ptq_suite,
)
from pytest_ptq.plugin.gates import GATES
from pytest_ptq.plugin.latency_plan import plan_latency
from pytest_ptq.plugin.report_files import check_report_packages
from pytest_ptq.plugin.session import PTQSession, is_worker, open_session, session_of
from pytest_ptq.report.printable import printable

# The fixtures are here for pytest to find.
__all__ = [
    "_ptq_run",
    "_ptq_selection",
    "ptq_calibration_data",
    "ptq_check",
    "ptq_eval_data",
    "ptq_latency",
    "ptq_machine",
    "ptq_model",
    "ptq_qconfig",
    "ptq_quantized",
    "ptq_suite",
]


def run_held(config: pytest.Config) -> int | None:
    """Run pytest again as `--ptq-isa` asks; None in the process that does so. Raises pytest.UsageError."""
    if isa.is_held(str(config.getoption("ptq_isa"))):
        return None
    try:
        return isa.run_held(config, str(options.read_settings(config).isa))
    except PTQError as error:
        raise pytest.UsageError(printable(str(error))) from error


def start(config: pytest.Config) -> None:
    """Read options and suites, and say what pytest collects for them. Raises pytest.UsageError."""
    config.addinivalue_line("markers", marker.DESCRIPTION)
    for gate in GATES.values():
        config.addinivalue_line("markers", f"{gate.marker}: an item that gates {gate.metric.title} (pytest-ptq).")
    try:
        session = open_session(config)
        check_report_packages(session.settings)
    except (PTQError, OSError) as error:  # OSError: a name that no file system takes
        raise pytest.UsageError(printable(str(error))) from error
    if not is_worker(config):
        config.pluginmanager.register(_Controller(session), "ptq-controller")
    if session.selections:
        named = config.args_source is pytest.Config.ArgsSource.ARGS
        base = config.invocation_params.dir
        config.args = selection.collection_args(config.args, named, session.selections, base)
        config.args_source = pytest.Config.ArgsSource.ARGS


def pytest_report_header(config: pytest.Config) -> list[str]:
    return summary.header_lines(session_of(config))


def pytest_pycollect_makemodule(module_path: Any, parent: pytest.Collector) -> pytest.Module | None:
    return collect.suite_module(module_path, parent, session_of(parent.config))


@pytest.hookimpl(wrapper=True)
def pytest_collect_file(
    file_path: Any, parent: pytest.Collector
) -> Generator[None, list[pytest.Collector], list[pytest.Collector]]:
    # Below a folder that a person named, the pattern of test files would pass a suite over.
    found = yield
    module = None if found else collect.suite_module(file_path, parent, session_of(parent.config))
    return found if module is None else [module]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    parametrize.parametrize(metafunc)


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    call = getattr(report, "call", None)
    error = call.excinfo.value if call is not None and call.excinfo is not None else None
    reports.shorten(report, error)
    reports.note_misuse(session_of(collector.config), error)
    return report


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    session = session_of(config)
    faults = session.misuse or collect.check_markers(items) or collect.missing(session)
    if faults:
        raise pytest.UsageError(*faults)
    if config.pluginmanager.hasplugin("xdist"):
        workers.group(items)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    budget = parametrize.budget_of(item)
    if budget is None:
        return (yield)
    with budget.counting():
        return (yield)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    budget = parametrize.budget_of(item)
    if budget is not None:
        budget.check()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[Any]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    reports.shorten(report, call.excinfo.value if call.excinfo is not None else None)
    reports.attach(item, call, report)
    return report


def pytest_collection_finish(session: pytest.Session) -> None:
    session_of(session.config).latency = plan_latency(session.items)


def pytest_runtestloop(session: pytest.Session) -> bool | None:
    known = session_of(session.config)
    if not known.settings.tune or session.config.option.collectonly:
        return None
    from pytest_ptq.plugin.tune import run_tuning  # imports torch by and by; only tuning needs it

    return run_tuning(known, session)


class _Controller:
    """The hooks that need the results of all workers: registered once, in the process that talks to the person."""

    def __init__(self, session: PTQSession) -> None:
        self._session = session

    @pytest.hookimpl(optionalhook=True)  # of pytest-xdist
    def pytest_xdist_make_scheduler(self, config: pytest.Config, log: Any) -> Any:
        return workers.scheduler(config, log, self._session.selections)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        reports.receive(self._session, report)

    @pytest.hookimpl(tryfirst=True)  # before pytest writes the JUnit file
    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        finish.finish(self._session, exitstatus)
        junit.add_run_properties(self._session)
        session.exitstatus = reports.exit_status(self._session, exitstatus)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        summary.write_summary(terminalreporter, self._session)
