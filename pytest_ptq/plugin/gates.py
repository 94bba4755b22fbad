"""The gates of a suite: what each one judges."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from pytest_ptq import metrics
from pytest_ptq.metrics import Metric
from pytest_ptq.own_int8 import OwnInt8
from pytest_ptq.qconfig import RUNTIMES, QConfig


@dataclass(frozen=True)
class Gate:
    """One question that is asked of an int8 model.

    Args:
        name: what it is called in `--ptq-metrics`.
        metric: the metric that is held against the limit.
        keyword: how `@pytest.mark.ptq(...)` spells its limit.
        default_limit: what `--ptq-update-baseline new` writes when nobody has written a limit yet.
        beside: what it measures as well. A limit on any of it binds, once somebody writes it down.
        further: default limits on some of that, which are written with the gate's own, by key.
        asks: whether the question makes sense of a qconfig; where not, there is no test.
    """

    name: str
    metric: Metric
    keyword: str
    default_limit: float
    beside: frozenset[str] = frozenset()
    further: tuple[tuple[str, float], ...] = ()
    asks: Callable[[QConfig], bool] = lambda qconfig: True

    def default(self, key: str) -> float | None:
        """The limit that is written where nobody has written one; None for what is only measured."""
        return self.default_limit if key == self.metric.key else dict(self.further).get(key)

    @property
    def marker(self) -> str:
        """The mark its test items carry, for `-m`."""
        return f"ptq_{self.name}"


def _keys(*beside: Metric) -> frozenset[str]:
    return frozenset(metric.key for metric in beside)


_CLASSES = _keys(
    metrics.TOP1_FP32,
    metrics.TOP1_INT8,
    metrics.ACCURACY_DROP,
    metrics.TOP5_FP32,
    metrics.TOP5_INT8,
    metrics.TOP5_DROP,
    metrics.FLIPS,
    metrics.CALIBRATION_CLASSES,
)
CLASSIFICATION = _CLASSES | _keys(metrics.AGREEMENT_FLIPS)
"""What is measured where labels are classes, and not otherwise."""

ACCURACY = Gate("accuracy", metrics.ACCURACY_DROP, "max_accuracy_drop", 1.0, _CLASSES | _keys(metrics.SQNR))
SIZE = Gate("size", metrics.SIZE_REDUCTION, "min_size_reduction", 3.5, _keys(metrics.SIZE_FP32, metrics.SIZE_INT8))
COVERAGE = Gate(
    "coverage",
    metrics.INT8_MACS,
    "min_int8_macs",
    90.0,
    _keys(metrics.QDQ_PAIRS, metrics.INT8_KERNELS, metrics.INT8_SHARE),
    further=((metrics.INT8_SHARE.key, 90.0),),
)
AGREEMENT = Gate(
    "agreement",
    metrics.AGREEMENT_STEPS,
    "max_agreement_steps",
    # Twice what the suites with weights come to where every layer agrees: docs/runtimes.md.
    50.0,
    _keys(metrics.AGREEMENT_FLIPS),
    further=((metrics.AGREEMENT_FLIPS.key, 3.0),),
    # Of a model that somebody else made there is none in torch to hold it against.
    asks=lambda qconfig: qconfig.runtime != RUNTIMES[0] and not isinstance(qconfig, OwnInt8),
)
LATENCY = Gate("latency", metrics.LATENCY_RATIO, "max_latency_ratio", 1.0)

# Latency comes last: by then every model is quantized and nothing else is about to be allocated.
GATES: Mapping[str, Gate] = {gate.name: gate for gate in (ACCURACY, SIZE, COVERAGE, AGREEMENT, LATENCY)}


def gate_of(key: str) -> Gate:
    """The gate that measures a metric. A user's own belong to accuracy, whatever latency measures to latency."""
    if key in metrics.METRICS and key.startswith("latency_"):
        return LATENCY
    return next((gate for gate in GATES.values() if key == gate.metric.key or key in gate.beside), ACCURACY)
