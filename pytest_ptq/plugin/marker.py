"""`@pytest.mark.ptq(...)`: what it may say, and what it says on one test."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from pytest_ptq.errors import UnknownNameError, UsageError
from pytest_ptq.measure.custom import find
from pytest_ptq.plugin.gates import GATES
from pytest_ptq.plugin.session import session_of
from pytest_ptq.qconfig import QConfig, check_runtimes, get_qconfig
from pytest_ptq.torch_ao import is_torch_ao

NAME = "ptq"
LIMITS: Mapping[str, str] = {gate.keyword: gate.metric.key for gate in GATES.values()}
KEYWORDS = ("suite", "model", "data", "qconfigs", "runtimes", "metrics", *LIMITS, "limits", "xfail")
DEFAULT_QCONFIGS = ("x86",)
DESCRIPTION = (
    f"{NAME}({', '.join(f'{key}=...' for key in KEYWORDS)}): what `ptq_check` holds a model against; "
    "limits given here win over those of the baseline file (pytest-ptq)."
)


@dataclass(frozen=True)
class Marker:
    """What the `ptq` marks of a test say together; the mark nearest to the test wins.

    Args:
        suite: the suite that the test is about; None when it brings a model of its own.
        model: a model that a hook registered, for a test without a suite.
        data: a kind of data of the suite, or one that a hook registered.
        qconfigs: what the test is parametrized over; empty leaves it to the suite.
        runtimes: where these run; empty leaves it to the command line and the suite.
        metrics: registered metrics that the accuracy gate measures of a model without a suite.
        limits: bound by metric key: those of the gates' keywords, and those of `limits={key: bound}`.
        xfail: why it is expected to fail, by gate name (its own metric) or metric key.
    """

    suite: str | None = None
    model: str | None = None
    data: str | None = None
    qconfigs: tuple[str | QConfig, ...] = ()
    runtimes: tuple[str, ...] = ()
    metrics: tuple[str, ...] = ()
    limits: Mapping[str, float] = field(default_factory=dict)
    xfail: Mapping[str, str] = field(default_factory=dict)


def read_marker(node: pytest.Item | pytest.Collector) -> Marker | None:
    """The marker of a test, None without one. Raises UsageError or UnknownNameError for what it may not say."""
    marks = list(node.iter_markers(NAME))
    if not marks:
        return None
    said: dict[str, Any] = {}
    for mark in reversed(marks):
        if mark.args:
            raise UsageError(f"{mark.args[0]!r} stands without a keyword", place=_place(node), remedy=_known())
        said.update(mark.kwargs)
    for keyword in said:
        if keyword not in KEYWORDS:
            raise UnknownNameError("keyword of @pytest.mark.ptq", keyword, KEYWORDS, place=node.nodeid)
    marker = Marker(
        suite=_text(said, "suite", node),
        model=_text(said, "model", node),
        data=_text(said, "data", node),
        qconfigs=_qconfigs(said.get("qconfigs"), node),
        runtimes=_runtimes(said.get("runtimes"), node),
        metrics=_metrics(said.get("metrics"), node),
        limits=_limits(said, node),
        xfail=_xfail(said.get("xfail"), node),
    )
    if marker.metrics and marker.suite is not None:
        remedy = f"Write metrics=... in the file of suite {marker.suite}."
        raise UsageError("a suite declares its metrics itself", place=_place(node), remedy=remedy)
    return marker


def _text(said: Mapping[str, Any], key: str, node: pytest.Item | pytest.Collector) -> str | None:
    value = said.get(key)
    if value is not None and not isinstance(value, str):
        raise UsageError(f"{key}={value!r} is not a name", place=_place(node), remedy=f"Write {key}='...'.")
    return value


def _qconfigs(value: Any, node: pytest.Item | pytest.Collector) -> tuple[str | QConfig, ...]:
    if value is None:
        return ()
    given = (value,) if isinstance(value, str | QConfig) or is_torch_ao(value) else value
    if not isinstance(given, Iterable) or not given:
        raise UsageError(f"qconfigs={value!r} names none", place=_place(node), remedy="Write qconfigs=['x86'].")
    found = tuple(get_qconfig(qconfig) if is_torch_ao(qconfig) else qconfig for qconfig in given)
    for qconfig in found:
        if not isinstance(qconfig, str | QConfig):
            raise UsageError(f"qconfigs holds {qconfig!r}", place=_place(node), remedy="Give names or QConfig objects.")
    return tuple(dict.fromkeys(found))


def _runtimes(value: Any, node: pytest.Item | pytest.Collector) -> tuple[str, ...]:
    if value is None:
        return ()
    return check_runtimes((value,) if isinstance(value, str) else value, _place(node))


def _metrics(value: Any, node: pytest.Item | pytest.Collector) -> tuple[str, ...]:
    given = () if value is None else (value,) if isinstance(value, str) else value
    registered = session_of(node.config).tables.metrics
    if not isinstance(given, Iterable) or isinstance(given, Mapping) or (value is not None and not given):
        raise UsageError(f"metrics={value!r} names none", place=_place(node), remedy="Write metrics=['KEY'].")
    return tuple(source.metric.key for source in find(map(str, given), registered, _place(node)))


def _limits(said: Mapping[str, Any], node: pytest.Item | pytest.Collector) -> dict[str, float]:
    found = {LIMITS[key]: _bound(key, said[key], node) for key in LIMITS if said.get(key) is not None}
    known = session_of(node.config).tables.known_metrics
    for key, bound in _mapping(said, "limits", "{'top5_drop_pp': 0.5}", node).items():
        if key not in known:
            raise UnknownNameError("metric", str(key), known, place=_place(node))
        if key in found:
            raise UsageError(f"{key} has two limits", place=_place(node), remedy="Leave one of them.")
        found[key] = _bound(f"limits[{key!r}]", bound, node)
    return found


def _xfail(value: Any, node: pytest.Item | pytest.Collector) -> dict[str, str]:
    known = [*GATES, *session_of(node.config).tables.known_metrics]
    found = _mapping({"xfail": value}, "xfail", "{'accuracy': 'why it is expected to fail'}", node)
    for name, reason in found.items():
        if name not in known:
            raise UnknownNameError("gate or metric", str(name), known, place=_place(node))
        if not isinstance(reason, str) or not reason.strip():
            message = f"xfail[{name!r}] gives no reason"
            raise UsageError(message, place=_place(node), remedy="Say in a sentence why it is expected to fail.")
    return {name: " ".join(reason.split()).rstrip(".") for name, reason in found.items()}


def _mapping(
    said: Mapping[str, Any], key: str, example: str, node: pytest.Item | pytest.Collector
) -> Mapping[str, Any]:
    value = said.get(key)
    if value is not None and not isinstance(value, Mapping):
        raise UsageError(f"{key}={value!r} is no dict", place=_place(node), remedy=f"Write {key}={example}.")
    return value or {}


def _bound(key: str, value: Any, node: pytest.Item | pytest.Collector) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise UsageError(f"{key}={value!r} is not a number", place=_place(node), remedy="A limit has to be finite.")
    return float(value)


def _place(node: pytest.Item | pytest.Collector) -> str:
    return f"{node.nodeid}: @pytest.mark.{NAME}"


def _known() -> str:
    return f"Known: {', '.join(KEYWORDS)}."
