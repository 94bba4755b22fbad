"""One test item per qconfig, for gates and for a user's own tests alike."""

from __future__ import annotations

import pytest

from pytest_ptq.plugin.budget import Budget
from pytest_ptq.plugin.collect import SuiteModule
from pytest_ptq.plugin.marker import DEFAULT_QCONFIGS, read_marker
from pytest_ptq.plugin.own import registered_selection
from pytest_ptq.plugin.runtimes import check_placed
from pytest_ptq.plugin.selection import Selection, placed, wanted
from pytest_ptq.plugin.session import session_of
from pytest_ptq.qconfig import RUNTIMES, QConfig, get_qconfig, in_runtimes


def selections_of(node: pytest.Item | pytest.Collector) -> tuple[Selection, ...]:
    """The suites that a test is about.

    A gate belongs to the suite of its module; a test with the marker to the suite or the registered model that the
    marker names, or to none when it brings a model of its own; any other test to every selected suite.
    """
    session = session_of(node.config)
    module = node.getparent(SuiteModule)
    if module is not None:
        return (module.selection,)
    marker = read_marker(node)
    if marker is None:
        return session.selections
    if marker.suite is not None:
        return (session.named(marker.suite, marker.data),)
    if marker.model is not None:
        return (registered_selection(node.nodeid, marker.model, marker.data, session.tables, marker),)
    return ()


def qconfigs_of(node: pytest.Item | pytest.Collector, selection: Selection | None) -> tuple[QConfig, ...]:
    """The qconfigs that a test is repeated for, in each runtime: those of its marker, or else of its suite."""
    marker = read_marker(node)
    if marker is None or (selection is not None and not (marker.qconfigs or marker.runtimes)):
        return tuple(q for q in selection.qconfigs if asked(node, q)) if selection is not None else ()
    session = session_of(node.config)
    settings, registered = session.settings, session.tables.qconfigs
    if selection is not None and not marker.qconfigs:
        found = wanted(placed(selection.suite, settings, marker.runtimes), settings)
    else:
        named = [get_qconfig(qconfig, registered) for qconfig in marker.qconfigs or DEFAULT_QCONFIGS]
        usual = selection.suite.runtimes if selection is not None else RUNTIMES[:1]
        found = in_runtimes(named, marker.runtimes or settings.runtimes or usual)
    check_placed(found, settings)
    return found


def asked(node: pytest.Item | pytest.Collector, qconfig: QConfig) -> bool:
    """Whether a gate's question makes sense of the qconfig; whoever wrote a test of their own knows that it does."""
    module = node.getparent(SuiteModule)
    gate = module.gates.get(getattr(node, "originalname", None) or node.name) if module is not None else None
    return gate is None or gate.asks(qconfig)


def selection_of(item: pytest.Item) -> Selection | None:
    """The suite that an item is about; None for a test that has nothing to do with one. Raises PTQError."""
    if "_ptq_selection" not in getattr(item, "fixturenames", ()):
        return None
    found = selections_of(item)
    callspec = getattr(item, "callspec", None)
    if len(found) > 1 and callspec is not None:
        found = tuple(s for s in found if s.suite.name == callspec.params.get("_ptq_selection"))
    return found[0] if found else None


def budget_of(item: pytest.Item) -> Budget | None:
    """The time of the suite that the item belongs to; None for a test that has nothing to do with one."""
    selection = selection_of(item)
    return session_of(item.config).budget(selection) if selection is not None else None


def parametrize(metafunc: pytest.Metafunc) -> None:
    """Parametrize by name, so that ids, `-k` and pytest-benchmark's JSON show just the name."""
    wants_qconfig = "ptq_qconfig" in metafunc.fixturenames
    if not wants_qconfig and "_ptq_selection" not in metafunc.fixturenames:
        return
    node = metafunc.definition
    selections = selections_of(node)
    if len(selections) > 1 and wants_qconfig:
        pairs = [(s.suite.name, q.name) for s in selections for q in qconfigs_of(node, s)]
        ids = [f"{suite}-{qconfig}" for suite, qconfig in pairs]
        metafunc.parametrize(("_ptq_selection", "ptq_qconfig"), pairs, ids=ids, indirect=True)
    elif len(selections) > 1:
        names = [s.suite.name for s in selections]
        metafunc.parametrize("_ptq_selection", names, ids=names, indirect=True)
    elif wants_qconfig:
        names = [q.name for q in qconfigs_of(node, selections[0] if selections else None)]
        if names:  # without any, the fixture says what is missing
            metafunc.parametrize("ptq_qconfig", names, ids=names, indirect=True)
