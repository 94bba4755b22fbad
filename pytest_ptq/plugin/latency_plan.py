"""Items -> what this session is going to ask of latencies, known once pytest has collected."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from pytest_ptq.errors import UsageError
from pytest_ptq.plugin.collect import SuiteModule
from pytest_ptq.plugin.gates import LATENCY
from pytest_ptq.plugin.marker import read_marker
from pytest_ptq.plugin.questions import LatencyPlan

QUESTIONS = 2
"""Asked of a suite's latency: does it keep its limit, and is it worse than recorded?"""


def plan_latency(items: Iterable[pytest.Item]) -> LatencyPlan:
    """What the items that are left after deselection ask for."""
    together: dict[str, tuple[str, ...]] = {}
    questions: dict[str, int] = {}
    for item in items:
        if isinstance(item.parent, SuiteModule) and item.get_closest_marker(LATENCY.marker):
            name = str(getattr(item, "callspec").params["ptq_qconfig"])  # noqa: B009 - pytest does not declare it
            suite = item.parent.selection.nodeid
            together[suite] = (*together.get(suite, ()), name)
            questions[item.nodeid] = QUESTIONS
        elif _limits_latency(item):
            questions[item.nodeid] = 1
    return LatencyPlan(together, questions)


def _limits_latency(item: pytest.Item) -> bool:
    try:
        marker = read_marker(item)
    except UsageError:  # said once already, by whoever checks markers
        return False
    return marker is not None and LATENCY.metric.key in marker.limits
