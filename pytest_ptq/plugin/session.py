"""What one pytest session knows: settings, suites, models that are built once, and the results of every worker."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pytest_ptq.errors import UsageError
from pytest_ptq.measure.machine import Machine, describe_machine
from pytest_ptq.plugin.baseline import Book
from pytest_ptq.plugin.budget import Budget, limit_of
from pytest_ptq.plugin.fastest import waits
from pytest_ptq.plugin.options import Settings, project_root, read_settings
from pytest_ptq.plugin.progress import progress_display
from pytest_ptq.plugin.questions import LatencyPlan
from pytest_ptq.plugin.results import GateResult
from pytest_ptq.plugin.selection import Selection, Tables, gather_tables, select, select_all
from pytest_ptq.store.baselines import baseline_path

if TYPE_CHECKING:
    from pytest_ptq.qconfig import QConfig
    from pytest_ptq.runner import Progress, SuiteRun

KEY = pytest.StashKey["PTQSession"]()
RESULTS = pytest.StashKey[list[GateResult]]()
"""On an item: what its gates found."""


@dataclass
class PTQSession:
    """Lives in the config's stash. `results`, `problems` and `notes` fill up on the controller only."""

    config: pytest.Config
    settings: Settings
    tables: Tables
    selections: tuple[Selection, ...]
    progress: Progress
    results: list[GateResult] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    """What went wrong beside the tests, one sentence each: the run ends with a non-zero status."""
    notes: list[str] = field(default_factory=list)
    """What the summary says below the table."""
    misuse: list[str] = field(default_factory=list)
    """Usage errors met while collecting."""
    modules: set[str] = field(default_factory=set)
    """Ids of the suites that pytest came across."""
    places: dict[str, tuple[str, int]] = field(default_factory=dict)
    """Node id of a test that ran -> its file, relative to pytest's root folder, and line."""
    met: bool = False
    """Whether any test that has to do with a suite or a gate ran."""
    latency: LatencyPlan = field(default_factory=LatencyPlan)
    started: datetime = field(default_factory=lambda: datetime.now(UTC))
    _runs: dict[tuple[str, str, str | None], SuiteRun] = field(default_factory=dict)
    _named: dict[tuple[str, str | None], Selection] = field(default_factory=dict)
    _saved: set[tuple[str, str]] = field(default_factory=set)
    _budgets: dict[str, Budget] = field(default_factory=dict)

    @cached_property
    def machine(self) -> Machine:
        found, held = describe_machine(self.settings.threads), self.settings.isa
        if held is not None and found.isa != held:
            message = f"kernels are to be held to {held} and would use {found.isa}"
            raise UsageError(message, place="--ptq-isa", remedy="Run it without pytest.main().")
        return found

    def cache(self, name: str) -> Path | None:
        """A folder in pytest's own cache, which `--cache-clear` empties; none with `-p no:cacheprovider`."""
        cache = getattr(self.config, "cache", None)
        try:
            return None if cache is None else Path(cache.mkdir(name))
        except OSError:  # a project that cannot be written to
            return None

    @cached_property
    def book(self) -> Book:
        return Book(project_root(self.config), self.settings, self.machine, tuple(self.tables.known_metrics))

    def named(self, name: str, data: str | None) -> Selection:
        """The suite that a marker names: the selected one, or one loaded for the purpose."""
        for selection in self.selections:
            if selection.suite.name == name and data is None:
                return selection
        if (name, data) not in self._named:
            self._named[name, data] = select(self.config, self.settings, self.tables, name, data)
        return self._named[name, data]

    def run(self, selection: Selection) -> SuiteRun:
        """The suite's run: one for the whole session, so that everything in it is built once."""
        key = (selection.nodeid, selection.kind, selection.argument)
        if key not in self._runs:
            self._runs[key] = self.fresh_run(selection)
            names = self.latency.together.get(selection.nodeid, ())
            self._runs[key].timed_together = tuple(q for q in selection.qconfigs if q.name in names and not waits(q))
        return self._runs[key]

    def fresh_run(self, selection: Selection) -> SuiteRun:
        """A run that nobody else gets, for a model that a test brings along."""
        from pytest_ptq.runner import SuiteRun

        return SuiteRun(
            selection.suite,
            selection.kind,
            argument=selection.argument,
            weights=self.settings.weights if selection.path is not None else None,
            threads=self.machine.threads,
            progress=self.budget(selection).watch(self.progress),
            metrics=self.tables.metrics,
            cache=self.cache("ptq-calibration"),
            results_cache=self.cache("ptq-fp32"),
        )

    def budget(self, selection: Selection) -> Budget:
        """The time that is left to the suite, in this process. A model of a test's own has no limit."""
        if selection.nodeid not in self._budgets:
            limit = None if selection.path is None else limit_of(selection.suite, self.settings)
            self._budgets[selection.nodeid] = Budget(selection.suite.name, limit)
        return self._budgets[selection.nodeid]

    def refuse_latency_beside_others(self) -> None:
        """Raises UsageError on a worker of pytest-xdist that has company: the others would be measured as well."""
        if worker_count(self.config) > 1:
            raise UsageError(
                "latency is not measured beside other work",
                stage="latency",
                remedy="Run without -n or with --ptq-latency off.",
            )

    def save_once(self, run: SuiteRun, selection: Selection, qconfig: QConfig) -> None:
        """Write the int8 model of a qconfig to `--ptq-save`, the first time it is judged."""
        folder, key = self.settings.save, (selection.nodeid, qconfig.name)
        if folder is None or key in self._saved:
            return
        self._saved.add(key)
        run.save(qconfig, folder)


def session_of(config: pytest.Config) -> PTQSession:
    return config.stash[KEY]


def open_session(config: pytest.Config) -> PTQSession:
    """Read options, hooks and suites. Raises PTQError for what cannot be."""
    settings, tables = read_settings(config), gather_tables(config)
    if settings.update is not None and is_distributed(config):
        raise UsageError(
            "baselines are not updated by several workers",
            place="--ptq-update-baseline",
            remedy="Run without -n.",
        )
    if settings.tune and is_distributed(config):
        raise UsageError("layers are not tuned by several workers", place="--ptq-tune", remedy="Run without -n.")
    selections = select_all(config, settings, tables)
    for selection in selections:
        baseline_path(project_root(config), selection.suite.name)  # at once: a name that cannot name a file
    session = PTQSession(config, settings, tables, selections, progress_display(config))
    config.stash[KEY] = session
    return session


def worker_count(config: pytest.Config) -> int:
    """Processes that run tests at this moment, as a worker of pytest-xdist sees it; 1 without xdist."""
    return int(getattr(config, "workerinput", {}).get("workercount", 1))


def is_worker(config: pytest.Config) -> bool:
    return hasattr(config, "workerinput")


def is_distributed(config: pytest.Config) -> bool:
    """True on the controller and on the workers of a run with pytest-xdist."""
    return is_worker(config) or config.getoption("dist", "no") != "no"
