"""What a gate's measurements are held against, and what comes of it.

A limit that is written down binds: the gate's own, and one on whatever else the gate measures. The marker's wins over
the baseline file's. A limit or a mark that nothing measures is an error, for it would hold nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from pytest_ptq.errors import MeasurementError, UsageError
from pytest_ptq.judge.expected import Expected, expect_failure
from pytest_ptq.judge.gates import TOLERANCES, judge, judge_drift
from pytest_ptq.measure.custom import MetricSource, find
from pytest_ptq.metrics import (
    CALIBRATION_CLASSES,
    INT8_MACS,
    INT8_SHARE,
    QDQ_PAIRS,
    Judgement,
    Limit,
    Measurement,
    Metric,
)
from pytest_ptq.own_int8 import OwnInt8
from pytest_ptq.plugin.baseline import Book
from pytest_ptq.plugin.gates import ACCURACY, CLASSIFICATION, COVERAGE, Gate, gate_of
from pytest_ptq.plugin.marker import Marker
from pytest_ptq.plugin.selection import Selection, Tables
from pytest_ptq.qconfig import QConfig

OF_QCONFIGS = frozenset({INT8_MACS.key, QDQ_PAIRS.key, CALIBRATION_CLASSES.key})
OF_OWN_INT8 = frozenset({INT8_SHARE.key})
"""What is measured of models that were quantized here only, and only of those that somebody else brings."""
NO_DETOURS = "the coverage gate itself"
"""Where the limit on needless conversions stands unless somebody writes down another one."""


@dataclass(frozen=True)
class Terms:
    """The terms on which one qconfig of one suite is judged.

    Args:
        marker: what the test's marks say.
        place: the test.
        tables: what hooks registered.
        book: the baseline files; None for a model that a test brings along.
        selection: the suite.
        qconfig: the qconfig.
        comparisons: questions of this session that chance can answer wrongly, and that are still open.
    """

    marker: Marker
    place: str
    tables: Tables
    book: Book | None
    selection: Selection
    qconfig: QConfig
    comparisons: int = 1

    def limits(self, gate: Gate) -> dict[str, Limit]:
        """Every limit on what the gate measures, by key. Raises BaselineError; MeasurementError when it cannot bind."""
        found: dict[str, Limit] = {}
        for metric in self._metrics(gate):
            default = None if self._is_unmeasured(metric.key) else gate.default(metric.key)
            limit = self._limit(metric, default)
            if limit is not None:
                found[metric.key] = limit
        if gate is COVERAGE and not isinstance(self.qconfig, OwnInt8):
            found.setdefault(QDQ_PAIRS.key, Limit(QDQ_PAIRS, 0, NO_DETOURS))
        self._refuse_idle(limit for key, limit in found.items() if self._is_unmeasured(key))
        return found

    def judge(
        self, gate: Gate, measurements: Mapping[str, Measurement], limits: Mapping[str, Limit]
    ) -> list[Judgement]:
        """The gate's own metric first. Raises MeasurementError or UsageError for what cannot be judged."""
        self._refuse_idle(limit for key, limit in limits.items() if key not in measurements)
        required = self._required(gate, limits)
        expected = self._expected(gate)
        found: list[Judgement] = []
        own = [gate.metric.key] if gate.metric.key in measurements else []
        for key in dict.fromkeys((*own, *required, *measurements)):
            if key not in measurements:
                raise MeasurementError(f"{key} was not measured", place=self.place)
            judged = self._one(measurements[key], limits.get(key), own=key == gate.metric.key, required=key in required)
            if judged is not None:
                found.append(expect_failure(judged, expected.pop(key, None)))
        for key, mark in expected.items():
            remedy = "Set a limit on it, or take the mark out."
            raise UsageError(f"{key} is expected to fail, and nothing judges it", place=mark.source, remedy=remedy)
        return found

    def _one(self, measured: Measurement, limit: Limit | None, *, own: bool, required: bool) -> Judgement | None:
        """None for what is only measured."""
        metric = measured.metric
        recorded = tolerance = None
        if self.book is not None and (limit is None or limit.source != NO_DETOURS):
            tolerance = self.book.tolerance(self.selection, metric)
            # Beside the gate's own metric, drift is judged where somebody knows how much of it is nothing.
            if own or tolerance is not None or (limit is not None and metric.key in TOLERANCES):
                recorded = self.book.recorded(self.selection, self.qconfig, measured)
        if limit is not None or required:
            return judge(measured, limit, recorded, tolerance, self.comparisons)
        return None if recorded is None else judge_drift(measured, recorded, tolerance, self.comparisons)

    def _required(self, gate: Gate, limits: Mapping[str, Limit]) -> list[str]:
        """What has to have a limit: the gate's metric, and of each declared metric fp32, int8 or the loss.

        A model without a file is judged by what its marker says: one limit is enough.
        """
        said_otherwise = self.book is None and bool(limits)
        needed = [gate.metric.key, *(key for key, _ in gate.further)]
        required = [] if said_otherwise else [key for key in needed if not self._is_unmeasured(key)]
        for source in self._declared if gate is ACCURACY else ():
            limited = [metric.key for metric in source.derived if metric.key in limits]
            required += limited or [source.loss.key]
        return required

    def _limit(self, metric: Metric, default: float | None) -> Limit | None:
        said = self.marker.limits.get(metric.key)
        if said is not None:
            return Limit(metric, said, f"{self.place}: @pytest.mark.ptq")
        return None if self.book is None else self.book.limit(self.selection, self.qconfig, metric, default)

    def _expected(self, gate: Gate) -> dict[str, Expected]:
        found: dict[str, Expected] = {}
        for metric in self._metrics(gate):
            known = self.book.xfail(self.selection, self.qconfig, metric) if self.book is not None else None
            if known is not None:
                found[metric.key] = Expected(*known)
        for name, reason in self.marker.xfail.items():
            key = self._main(gate) if name == gate.name else name
            if name == gate.name or gate_of(name) is gate:
                found[key] = Expected(reason, f"{self.place}: @pytest.mark.ptq")
        return found

    def _main(self, gate: Gate) -> str:
        """The metric that is meant by the gate's name."""
        unmeasured = self._is_unmeasured(gate.metric.key)
        return self._declared[0].loss.key if unmeasured and self._declared else gate.metric.key

    @property
    def _declared(self) -> tuple[MetricSource, ...]:
        return find(self.selection.suite.metrics, self.tables.metrics, self.place)

    def _metrics(self, gate: Gate) -> Iterator[Metric]:
        return (metric for key, metric in self.tables.known_metrics.items() if gate_of(key) is gate)

    def _is_unmeasured(self, key: str) -> bool:
        """Whether the suite does not even try: top-1 where labels are no classes, a metric that it does not name.

        Of a model that somebody else made, kernels are counted, for nobody knows what each of them multiplies.
        """
        if key in (OF_QCONFIGS if isinstance(self.qconfig, OwnInt8) else OF_OWN_INT8):
            return True
        if key in CLASSIFICATION:
            return not self.selection.suite.top1
        derived = {metric.key for source in self._declared for metric in source.derived}
        return key not in derived and key in {m.key for s in self.tables.metrics.values() for m in s.derived}

    def _refuse_idle(self, limits: Iterator[Limit]) -> None:
        for limit in limits:
            message = f"a limit is set on {limit.metric.title} ({limit.metric.key}), which is not measured here"
            remedy = "Take it out, or let the suite measure it (top-5 needs six classes; see metrics= and top1=)."
            raise MeasurementError(message, place=limit.source, remedy=remedy)
