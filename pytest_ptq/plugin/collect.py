"""A suite file as pytest sees it: a module whose tests are the gates, one of each per qconfig."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import FunctionType, ModuleType

import pytest

from pytest_ptq.errors import UsageError
from pytest_ptq.plugin.gate_tests import gate_tests
from pytest_ptq.plugin.gates import GATES, LATENCY, Gate
from pytest_ptq.plugin.marker import read_marker
from pytest_ptq.plugin.options import LatencyMode, Settings
from pytest_ptq.plugin.publish import replay_mark
from pytest_ptq.plugin.selection import Selection
from pytest_ptq.plugin.session import PTQSession


class SuiteModule(pytest.Module):
    """Collects the gates of one suite.

    Its module object is made up of the functions of `plugin.gate_tests`: the suite's file only declares. For pytest
    they are ordinary tests, so fixtures, marks, `-k`, `-m` and every other plugin work on them as usual.
    """

    selection: Selection
    gates: Mapping[str, Gate]

    @classmethod
    def of(cls, parent: pytest.Collector, selection: Selection, settings: Settings) -> SuiteModule:
        node: SuiteModule = cls.from_parent(parent, path=selection.path, nodeid=selection.nodeid)
        benchmark = node.config.pluginmanager.hasplugin("benchmark")
        chosen = {
            name: (gate, function)
            for name, (gate, function) in gate_tests(benchmark=benchmark).items()
            if gate.name in settings.gates
            and not (gate is LATENCY and settings.latency is LatencyMode.OFF)
            and any(map(gate.asks, selection.qconfigs))
        }
        node.selection = selection
        node.gates = {name: gate for name, (gate, _) in chosen.items()}
        node.obj = _module(selection.suite.name, {name: function for name, (_, function) in chosen.items()})
        return node

    def _getobj(self) -> ModuleType:
        return self.obj  # type: ignore[no-any-return]  # set by `of`; the file itself is no test module

    def collect(self) -> Iterable[pytest.Item | pytest.Collector]:
        if not self.selection.qconfigs:
            return
        for item in super().collect():
            if isinstance(item, pytest.Function):
                self._dress(item)
            yield item

    def _dress(self, item: pytest.Function) -> None:
        """Give an item its marks, and the suite's file as its place instead of the plugin's."""
        gate = self.gates[item.originalname]
        item.location = (self.nodeid, 0, item.name)
        item.add_marker(gate.marker)
        if gate is LATENCY and self.config.pluginmanager.hasplugin("benchmark"):
            item.add_marker(replay_mark(f"{self.selection.suite.name} int8 latency"))


def _module(suite_name: str, functions: Mapping[str, Callable[..., None]]) -> ModuleType:
    module = ModuleType(f"ptq_suite_{suite_name}")
    for name, function in functions.items():
        assert isinstance(function, FunctionType)
        copy = FunctionType(function.__code__, function.__globals__, name, function.__defaults__, function.__closure__)
        copy.__doc__ = function.__doc__
        copy.__annotations__ = dict(function.__annotations__)
        # Collected whatever the project's python_functions says, and not taken for an imported test.
        copy.__test__ = True  # type: ignore[attr-defined]
        copy.__module__ = module.__name__
        setattr(module, name, copy)
    return module


def suite_module(path: Path, parent: pytest.Collector, session: PTQSession) -> SuiteModule | None:
    """The module of the selected suite that `path` declares; None for any other file."""
    for selection in session.selections:
        if selection.path == path:
            session.modules.add(selection.nodeid)
            return SuiteModule.of(parent, selection, session.settings)
    return None


def check_markers(items: Iterable[pytest.Item]) -> list[str]:
    """What is wrong with the markers of items that are not parametrized by this plugin, which reads the others'."""
    faults: list[str] = []
    for item in items:
        try:
            read_marker(item)
        except UsageError as error:
            faults.append(str(error))
    return faults


def missing(session: PTQSession) -> list[str]:
    """Suites that were selected and of which nothing is asked: nothing may go missing silently.

    Those that pytest passed over, and those of whose models the gates of `--ptq-metrics` have nothing to ask.
    """
    gates = [GATES[name] for name in session.settings.gates]
    idle = [s for s in session.selections if s.qconfigs and not any(g.asks(q) for g in gates for q in s.qconfigs)]
    asked = ",".join(session.settings.gates)
    faults = [
        f"suite {s.suite.name}: --ptq-metrics {asked} has nothing to ask of models that run in torch;"
        " add --ptq-runtime onnxruntime or openvino"
        for s in idle
    ]
    return faults + [
        f"suite {s.suite.name}: {s.path} was passed over; name no folder above it that pytest ignores"
        for s in session.selections
        if s.qconfigs and s.nodeid not in session.modules
    ]
