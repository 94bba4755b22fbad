"""`@pytest.mark.ptq(...)`: what it may say, and what it says on one test."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from pytest_ptq.errors import UnknownNameError, UsageError
from pytest_ptq.plugin.gates import GATES
from pytest_ptq.qconfig import QConfig

NAME = "ptq"
LIMITS: Mapping[str, str] = {gate.keyword: gate.name for gate in GATES.values()}
KEYWORDS = ("suite", "model", "data", "qconfigs", *LIMITS)
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
        limits: bound by gate name.
    """

    suite: str | None = None
    model: str | None = None
    data: str | None = None
    qconfigs: tuple[str | QConfig, ...] = ()
    limits: Mapping[str, float] = field(default_factory=dict)


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
    return Marker(
        suite=_text(said, "suite", node),
        model=_text(said, "model", node),
        data=_text(said, "data", node),
        qconfigs=_qconfigs(said.get("qconfigs"), node),
        limits={LIMITS[key]: _bound(key, said[key], node) for key in LIMITS if said.get(key) is not None},
    )


def _text(said: Mapping[str, Any], key: str, node: pytest.Item | pytest.Collector) -> str | None:
    value = said.get(key)
    if value is not None and not isinstance(value, str):
        raise UsageError(f"{key}={value!r} is not a name", place=_place(node), remedy=f"Write {key}='...'.")
    return value


def _qconfigs(value: Any, node: pytest.Item | pytest.Collector) -> tuple[str | QConfig, ...]:
    if value is None:
        return ()
    given = (value,) if isinstance(value, str | QConfig) else value
    if not isinstance(given, Iterable) or not given:
        raise UsageError(f"qconfigs={value!r} names none", place=_place(node), remedy="Write qconfigs=['x86'].")
    found = tuple(dict.fromkeys(given))
    for qconfig in found:
        if not isinstance(qconfig, str | QConfig):
            raise UsageError(f"qconfigs holds {qconfig!r}", place=_place(node), remedy="Give names or QConfig objects.")
    return found


def _bound(key: str, value: Any, node: pytest.Item | pytest.Collector) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise UsageError(f"{key}={value!r} is not a number", place=_place(node), remedy="A limit has to be finite.")
    return float(value)


def _place(node: pytest.Item | pytest.Collector) -> str:
    return f"{node.nodeid}: @pytest.mark.{NAME}"


def _known() -> str:
    return f"Known: {', '.join(KEYWORDS)}."
