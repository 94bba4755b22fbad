"""The gates of a suite: what each one judges."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pytest_ptq import metrics
from pytest_ptq.metrics import Metric


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
