"""The gates of a suite: what each one judges, and the test functions that a suite's module is made of.

The functions are copied into the module of every selected suite, so that fixtures, marks, `-k`, `-m` and reports treat
them as the suite's own tests.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from pytest_ptq import metrics
from pytest_ptq.metrics import Metric
from pytest_ptq.plugin.publish import publish

if TYPE_CHECKING:
    from pytest_ptq.plugin.check import Check


@dataclass(frozen=True)
class Gate:
    """One question that is asked of an int8 model.

    Args:
        name: what it is called in `--ptq-metrics`.
        metric: the metric that is held against the limit.
        keyword: how `@pytest.mark.ptq(...)` spells its limit.
        default_limit: what `--ptq-update-baseline new` writes when nobody has written a limit yet.
        beside: what it measures as well. A limit on any of it binds, once somebody writes it down.
    """

    name: str
    metric: Metric
    keyword: str
    default_limit: float
    beside: frozenset[str] = frozenset()

    @property
    def marker(self) -> str:
        """The mark its test items carry, for `-m`."""
        return f"ptq_{self.name}"


def _keys(*beside: Metric) -> frozenset[str]:
    return frozenset(metric.key for metric in beside)


CLASSIFICATION = _keys(
    metrics.TOP1_FP32,
    metrics.TOP1_INT8,
    metrics.ACCURACY_DROP,
    metrics.TOP5_FP32,
    metrics.TOP5_INT8,
    metrics.TOP5_DROP,
    metrics.FLIPS,
    metrics.CALIBRATION_CLASSES,
)
"""What is measured where labels are classes, and not otherwise."""

ACCURACY = Gate("accuracy", metrics.ACCURACY_DROP, "max_accuracy_drop", 1.0, CLASSIFICATION | _keys(metrics.SQNR))
SIZE = Gate("size", metrics.SIZE_REDUCTION, "min_size_reduction", 3.5, _keys(metrics.SIZE_FP32, metrics.SIZE_INT8))
COVERAGE = Gate("coverage", metrics.INT8_MACS, "min_int8_macs", 90.0, _keys(metrics.QDQ_PAIRS))
LATENCY = Gate("latency", metrics.LATENCY_RATIO, "max_latency_ratio", 1.0)

# Latency comes last: by then every model is quantized and nothing else is about to be allocated.
GATES: Mapping[str, Gate] = {gate.name: gate for gate in (ACCURACY, SIZE, COVERAGE, LATENCY)}


def gate_of(key: str) -> Gate:
    """The gate that measures a metric. A user's own belong to accuracy, whatever latency measures to latency."""
    if key in metrics.METRICS and key.startswith("latency_"):
        return LATENCY
    return next((gate for gate in GATES.values() if key == gate.metric.key or key in gate.beside), ACCURACY)


def test_accuracy(ptq_check: Check) -> None:
    """int8 loses no more top-1 accuracy than its limit allows."""
    ptq_check(ACCURACY.name)


def test_size(ptq_check: Check) -> None:
    """int8 is smaller than fp32 by at least the limit's factor."""
    ptq_check(SIZE.name)


def test_int8_coverage(ptq_check: Check) -> None:
    """At least the limit's share of multiply-accumulates runs in int8, with no needless conversion between."""
    ptq_check(COVERAGE.name)


def test_latency(request: pytest.FixtureRequest, ptq_check: Check, benchmark: Any) -> None:
    """int8 is faster than a fair fp32 by at least the limit's ratio; pytest-benchmark gets the samples."""
    publish(request.node, benchmark, ptq_check)
    ptq_check(LATENCY.name)


def _test_latency_alone(ptq_check: Check) -> None:
    """The latency gate where pytest-benchmark is absent."""
    ptq_check(LATENCY.name)


def gate_tests(*, benchmark: bool) -> Mapping[str, tuple[Gate, Callable[..., None]]]:
    """Test name -> gate and function, in the order they run. `benchmark`: pytest-benchmark is there."""
    return {
        "test_accuracy": (ACCURACY, test_accuracy),
        "test_size": (SIZE, test_size),
        "test_int8_coverage": (COVERAGE, test_int8_coverage),
        "test_latency": (LATENCY, test_latency if benchmark else _test_latency_alone),
    }
