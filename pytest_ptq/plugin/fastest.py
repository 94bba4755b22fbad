"""The fastest runtime of a qconfig: asked for by name, found by a measurement, and the one that is judged."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pytest_ptq.qconfig import FASTEST, RUNTIMES, QConfig

if TYPE_CHECKING:
    from pytest_ptq.plugin.selection import Selection
    from pytest_ptq.plugin.session import PTQSession
    from pytest_ptq.runner import SuiteRun


def settled(session: PTQSession, selection: Selection, run: SuiteRun, qconfig: QConfig) -> QConfig:
    """`qconfig` as it runs: in place of `fastest` the runtime that is, under the same name.

    The first to ask measures; the run remembers. Raises UsageError beside other workers, where nothing is timed.
    """
    if qconfig.runtime != FASTEST:
        return qconfig
    session.refuse_latency_beside_others()
    found = replace(qconfig, runtime=run.fastest(qconfig).runtime)
    wanted = session.latency.together.get(selection.nodeid, ())
    if found.name in wanted and found not in run.timed_together:
        run.timed_together = (*run.timed_together, found)
    return found


def placement(session: PTQSession, run: SuiteRun, qconfig: QConfig) -> dict[str, Any]:
    """What a record says of where a settled qconfig ran."""
    key = "" if qconfig.runtime == RUNTIMES[0] else session.machine.key_for(qconfig.runtime)
    found = {"runtime": qconfig.runtime, "machine_key": key}
    if not qconfig.name.endswith(f"-{FASTEST}"):
        return found
    chosen = run.fastest(qconfig)
    return {**found, "runtime_ms": chosen.ms, "runtime_errors": chosen.failed}


def waits(qconfig: QConfig) -> bool:
    """Whether its runtime is yet to be found."""
    return qconfig.runtime == FASTEST
