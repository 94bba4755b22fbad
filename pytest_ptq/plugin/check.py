"""`ptq_check`: measure, judge, and fail the test with everything a person needs to go on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, overload

import pytest

from pytest_ptq.errors import MeasurementError, UnknownNameError, UsageError
from pytest_ptq.judge.gates import overall
from pytest_ptq.metrics import LATENCY_RATIO, Judgement, LayerError, Limit, Measurement, Verdict
from pytest_ptq.plugin.baseline import is_written
from pytest_ptq.plugin.fastest import placement, settled
from pytest_ptq.plugin.gates import ACCURACY, GATES, LATENCY, Gate, gate_of
from pytest_ptq.plugin.judging import Terms
from pytest_ptq.plugin.marker import Marker
from pytest_ptq.plugin.options import LatencyMode, Layers
from pytest_ptq.plugin.own import given_int8, own_selection
from pytest_ptq.plugin.reproduce import reproduce
from pytest_ptq.plugin.results import GateResult, verdict_fails
from pytest_ptq.plugin.selection import Selection
from pytest_ptq.plugin.session import RESULTS, PTQSession
from pytest_ptq.plugin.workers import item_id
from pytest_ptq.qconfig import QConfig
from pytest_ptq.report.failure import failure_text
from pytest_ptq.report.printable import printable
from pytest_ptq.report.where import told
from pytest_ptq.store.record import QConfigRecord

if TYPE_CHECKING:
    from torch import nn

    from pytest_ptq.measure.latency import LatencySamples
    from pytest_ptq.runner import SuiteRun

Loader = Iterable[Any] | Callable[[], Iterable[Any]]


class Check:
    """Holds an int8 model against its limits, for the qconfig of the test item. The value of `ptq_check`."""

    def __init__(
        self,
        session: PTQSession,
        node: pytest.Item,
        selection: Selection | None,
        qconfig: QConfig,
        marker: Marker,
    ) -> None:
        self.qconfig = qconfig
        self._session = session
        self._node = node
        self._selection = selection
        self._marker = marker

    @overload
    def __call__(self, subject: str | None = None, /) -> Mapping[str, Judgement]: ...

    @overload
    def __call__(
        self,
        subject: nn.Module,
        /,
        *,
        calibration: Loader,
        evaluation: Loader | None = None,
        latency_shape: tuple[int, ...] | None = None,
    ) -> Mapping[str, Judgement]: ...

    @overload
    def __call__(
        self,
        subject: nn.Module,
        /,
        *,
        int8: object,
        evaluation: Loader | None = None,
        latency_shape: tuple[int, ...] | None = None,
    ) -> Mapping[str, Judgement]: ...

    def __call__(
        self,
        subject: nn.Module | str | None = None,
        /,
        *,
        calibration: Loader | None = None,
        evaluation: Loader | None = None,
        latency_shape: tuple[int, ...] | None = None,
        int8: object = None,
    ) -> Mapping[str, Judgement]:
        """Measure, judge, and fail the test unless every gate passes. Returns the judgements by gate name.

            ptq_check("accuracy")                        one gate of the suite
            ptq_check()                                  the gates that the marker limits, else all of the suite's
            ptq_check(model, calibration=batches, evaluation=loader)     a model of your own

        For a suite, limits come from `@pytest.mark.ptq(...)` or else from its baseline file, and values are compared
        with those recorded there. For a model of your own the marker gives the limits, and says thereby which gates
        run: `max_accuracy_drop` (percentage points), `min_size_reduction` (fp32 / int8), `min_int8_macs` (percent),
        `max_latency_ratio` (int8 / fp32), `limits` by metric key, and `metrics`, those of your own that are registered.

        Args:
            subject: a gate's name, or an fp32 model in eval mode, which is not changed.
            calibration: batches of model input, float32 (N, C, H, W), or tuples that begin with one: a DataLoader, a
                list, or a callable that returns an iterable. None of its images may appear in `evaluation`.
            evaluation: pairs of input and int64 labels (N,), in the same forms; needed for the accuracy gate. With
                `metrics` and without a limit on top-1, the targets are what those metrics take.
            latency_shape: shape of the input that latency is measured with; default: one image of the first
                calibration batch, or else evaluation batch.
            int8: an int8 model that is there already, to be judged in place of one made here, without calibration: a
                path (`.onnx`, `.xml`, `.pt2`, `.pt`) relative to the test's file, `OnnxFile(...)` and its like, a
                module in eval mode, or a function that returns one.

        Raises:
            PTQError: whatever makes measuring impossible; shown as one sentence.
            pytest.fail.Exception: a gate failed.
            pytest.xfail.Exception: a gate failed as the marker or the baseline file expects, and none otherwise.
        """
        if subject is None or isinstance(subject, str):
            if self._selection is None:
                raise UsageError(
                    "ptq_check needs a model here", place=self._place, remedy="The test is about no suite."
                )
            return self._check(self._selection, self._session.run(self._selection), self._gates(subject))
        if int8 is not None:
            self.qconfig = given_int8(int8, self._node.path.parent, self._marker, self._place)
        selection = own_selection(
            item_id(self._node), self.qconfig, subject, calibration, evaluation, latency_shape, self._marker
        )
        gates = self._gates(None)
        if ACCURACY in gates and evaluation is None:
            raise UsageError("accuracy needs labelled data", place=self._place, remedy="Pass evaluation=loader.")
        return self._check(selection, self._session.fresh_run(selection), gates)

    def latency(self) -> tuple[LatencySamples, Measurement]:
        """The suite's latency samples in ms, and their int8/fp32 ratio. Raises UsageError beside other workers."""
        if self._selection is None:
            raise UsageError("latency samples belong to a suite", place=self._place)
        run = self._session.run(self._selection)
        self.qconfig = settled(self._session, self._selection, run, self.qconfig)
        self._settle(self._selection, run, LATENCY)
        return run.latency_samples(self.qconfig), run.measure(LATENCY.name, self.qconfig)[LATENCY_RATIO.key]

    @property
    def _place(self) -> str:
        return item_id(self._node)

    def _gates(self, name: str | None) -> list[Gate]:
        if name is not None:
            if name not in GATES:
                raise UnknownNameError("gate", name, GATES, place=self._place)
            return [self._asked(GATES[name])]
        limited = {gate_of(key).name for key in self._marker.limits}
        own = ACCURACY.name if self._marker.metrics else None
        named = [gate for gate in GATES.values() if gate.name in (*limited, own)]
        if not named and (self._selection is None or self._selection.path is None):
            remedy = "Add a limit such as max_accuracy_drop=1.0 to @pytest.mark.ptq(...)."
            raise UsageError("no limit is given, so that nothing would be checked", place=self._place, remedy=remedy)
        for key in self._marker.xfail if named else ():
            gate = GATES.get(key) or gate_of(key)
            if gate not in named:
                remedy = f"Limit it as well ({gate.keyword}=...), or take the mark out."
                raise UsageError(f"xfail names {key}, which this test does not judge", place=self._place, remedy=remedy)
        settings = self._session.settings
        fitting = [self._asked(gate) for gate in named] or [g for g in GATES.values() if g.asks(self.qconfig)]
        chosen = [gate for gate in fitting if gate.name in settings.gates]
        if settings.latency is LatencyMode.OFF:
            chosen = [gate for gate in chosen if gate is not LATENCY]
        if not chosen:
            pytest.skip("--ptq-metrics and --ptq-latency leave none of this test's gates")
        return chosen

    def _asked(self, gate: Gate) -> Gate:
        """The gate. Raises UsageError where its question makes no sense: its limit would hold nothing."""
        if gate.asks(self.qconfig):
            return gate
        message = f"{gate.name} is asked of models that run outside torch, and {self.qconfig.name} does not"
        remedy = 'Use a qconfig with runtime="onnxruntime" or "openvino", or --ptq-runtime.'
        raise UsageError(message, place=self._place, remedy=remedy)

    def _check(self, selection: Selection, run: SuiteRun, gates: list[Gate]) -> Mapping[str, Judgement]:
        results: list[GateResult] = []
        self.qconfig = settled(self._session, selection, run, self.qconfig)
        gates = [gate for gate in gates if gate.asks(self.qconfig)]
        unknown = [why for gate in gates if (why := self._unknown(selection, run, gate)) is not None]
        gates = [gate for gate in gates if run.unknown(gate.name, self.qconfig) is None]
        if unknown and not gates:
            pytest.skip("; ".join(unknown))
        if not gates:
            pytest.skip(f"{self.qconfig.name} runs in {self.qconfig.runtime}, of which there is nothing to ask here")
        for gate in gates:
            result = self._measure_and_judge(selection, run, gate)
            # At once: what one gate found is not lost when the next one cannot be measured.
            self._node.stash.setdefault(RESULTS, []).append(result)
            results.append(result)
        failed = [result for result in results if result.fails(strict=self._session.settings.strict)]
        if failed:
            pytest.fail("\n\n".join(self._explain(result) for result in failed), pytrace=False)
        known = [j for r in results for j in r.record.judgements.values() if j.verdict is Verdict.XFAIL]
        if known:
            pytest.xfail(printable("; ".join(judgement.reason for judgement in known)))
        return {result.gate: next(iter(result.record.judgements.values())) for result in results}

    def _unknown(self, selection: Selection, run: SuiteRun, gate: Gate) -> str | None:
        """Why a gate has no answer; None where it has one. Raises MeasurementError where a limit asks for it."""
        why = run.unknown(gate.name, self.qconfig)
        if why is None:
            return None
        limit = next((found for found in self._terms(selection).limits(gate).values() if is_written(found)), None)
        if limit is not None or self._session.settings.strict:
            place = limit.source if limit is not None else "--ptq-strict"
            remedy = "Take the limit out, or bring the model as a file." if limit else "Bring the model as a file."
            raise MeasurementError(why, place=place, remedy=remedy)
        return why

    def _measure_and_judge(self, selection: Selection, run: SuiteRun, gate: Gate) -> GateResult:
        measurements, judgements = self._settle(selection, run, gate)
        self._session.save_once(run, selection, self.qconfig)
        record = QConfigRecord(
            suite=selection.suite.name,
            data=selection.kind,
            qconfig=self.qconfig.name,
            reduce_range=run.reduce_range(self.qconfig),
            measurements=measurements,
            judgements={j.measurement.metric.key: j for j in judgements},
            fp32_layers=tuple(run.fp32_layers(self.qconfig)),
            worst_layers=self._layers(run, gate, judgements),
            pairs=run.latency_pairs(self.qconfig) if gate is LATENCY else (),
            **placement(self._session, run, self.qconfig),
        )
        return GateResult(gate.name, record, selection.path is not None, item_id(self._node))

    def _settle(
        self, selection: Selection, run: SuiteRun, gate: Gate
    ) -> tuple[Mapping[str, Measurement], list[Judgement]]:
        """Measure and judge; a latency that stays open is measured once more, for longer, and then stays what it is."""
        if gate is LATENCY:
            self._session.refuse_latency_beside_others()
        terms = self._terms(selection)
        # Before anything is measured: a damaged baseline file is told at once.
        limits = {} if self._only_reported(gate) else terms.limits(gate)
        measurements = run.measure(gate.name, self.qconfig)
        judgements = self._judge(terms, gate, measurements, limits)
        if gate is not LATENCY:
            return measurements, judgements
        # What is about to be recorded is measured with all processes: later runs are held against it.
        is_open = overall(judgements) is Verdict.INCONCLUSIVE or self._session.settings.update is not None
        if is_open and run.extend_latency(self.qconfig):
            measurements = run.measure(gate.name, self.qconfig)
            judgements = self._judge(terms, gate, measurements, limits)
        if overall(judgements) is Verdict.FAIL:
            self._session.latency.reject(self._place)
        return measurements, judgements

    def _judge(
        self, terms: Terms, gate: Gate, measurements: Mapping[str, Measurement], limits: Mapping[str, Limit]
    ) -> list[Judgement]:
        if self._only_reported(gate):
            reason = "measured, not judged: --ptq-latency report"
            return [Judgement(Verdict.PASS, measurements[gate.metric.key], None, reason)]
        return terms.judge(gate, measurements, limits)

    def _only_reported(self, gate: Gate) -> bool:
        return gate is LATENCY and self._session.settings.latency is LatencyMode.REPORT

    def _terms(self, selection: Selection) -> Terms:
        book = self._session.book if selection.path is not None else None
        comparisons = self._session.latency.open_questions(self._place)
        return Terms(self._marker, self._place, self._session.tables, book, selection, self.qconfig, comparisons)

    def _layers(self, run: SuiteRun, gate: Gate, judgements: Iterable[Judgement]) -> tuple[LayerError, ...]:
        """Per-layer errors take a while: unless all were asked for, only a failed accuracy gate has use for them."""
        wanted = self._session.settings.layers is Layers.ALL or overall(judgements) is Verdict.FAIL
        return run.layers(self.qconfig) if gate is ACCURACY and wanted else ()

    def _explain(self, result: GateResult) -> str:
        """What `report` says about each judgement that fails, the gate's own first."""
        record, config = result.record, self._session.config
        strict = self._session.settings.strict
        texts = [
            failure_text(
                judgement,
                suite=record.suite,
                qconfig=record.qconfig,
                data=record.data,
                machine_key=self._session.machine.key_for(record.runtime) if result.from_suite else "",
                runtime=told(record),
                baseline=str(self._session.book.path(record.suite)) if result.from_suite else "",
                measurements=record.measurements,
                layers=record.worst_layers,
                fp32_layers=record.fp32_layers,
                reproduce=reproduce(config, result.nodeid),
                accept=reproduce(config, result.nodeid, "--ptq-update-baseline", "all"),
            )
            for judgement in record.judgements.values()
            if verdict_fails(judgement.verdict, strict=strict)
        ]
        return "\n\n".join(texts)
