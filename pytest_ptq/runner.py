"""Suite x QConfig -> Measurements. Knows no pytest: the plugin, a command line or a notebook can call it."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from pytest_ptq.errors import MeasurementError, PTQError, UnknownNameError
from pytest_ptq.measure.custom import MetricSource, find
from pytest_ptq.measure.machine import check_installation
from pytest_ptq.metrics import INT8_MACS, KERNELS, QDQ_PAIRS, SQNR, LayerError, Measurement
from pytest_ptq.qconfig import QConfig, get_qconfig
from pytest_ptq.suite import Dataset, Suite, Variant

if TYPE_CHECKING:
    from torch import Tensor, nn

    from pytest_ptq.engine.calibrate import Calibration
    from pytest_ptq.engine.convert import QuantizedModule
    from pytest_ptq.engine.freeze import FrozenModule
    from pytest_ptq.engine.fuse import FusedModule
    from pytest_ptq.engine.observe import PreparedModule
    from pytest_ptq.measure.latency import LatencySamples
    from pytest_ptq.timing import Timing

Progress: TypeAlias = Callable[[Iterable[Any], str, int | None], Iterator[Any]]
"""progress(iterable, title, total) yields the items and shows how far it is."""

WORST_LAYERS = 3
LAYER_IMAGES = 64
"""How many calibration images the per-layer errors are computed on."""


def silent(items: Iterable[Any], title: str, total: int | None = None) -> Iterator[Any]:
    """Progress for those who want none."""
    yield from items


class SuiteRun:
    """One suite on one kind of data. Whatever is expensive is computed when first asked for, once, and kept.

    Args:
        suite: what to run.
        kind: which of its variants; the first one by default.
        argument: what stood behind `=` in the data specification.
        weights: a state dict to load instead of the variant's own weights.
        threads: threads for latency; as many as torch uses by default.
        progress: shows calibration, evaluation and latency going by.
        qconfigs: further qconfigs by name, beside the presets.
        metrics: the metrics that the suite may name.
        cache: folder in which calibration statistics are kept from run to run; nowhere by default.
        results_cache: the same for the float model's logits.

    Raises:
        UnknownNameError: the suite has no such variant, or names an unknown qconfig or metric.
        InstallationError: torch and torchvision do not fit together.
    """

    def __init__(
        self,
        suite: Suite,
        kind: str | None = None,
        argument: str | None = None,
        weights: Path | None = None,
        threads: int | None = None,
        progress: Progress = silent,
        qconfigs: Mapping[str, QConfig] | None = None,
        metrics: Mapping[str, MetricSource] | None = None,
        cache: Path | None = None,
        results_cache: Path | None = None,
    ) -> None:
        self.suite, self.argument, self.weights, self._threads, self.progress = (
            suite,
            argument,
            weights,
            threads,
            progress,
        )
        self.cache, self.results_cache = cache, results_cache
        self.kind = kind if kind is not None else next(iter(suite.variants))
        if self.kind not in suite.variants:
            raise UnknownNameError("kind of data", self.kind, suite.variants, place=f"suite {suite.name}")
        self.qconfigs = tuple(get_qconfig(q, qconfigs) for q in suite.qconfigs)
        self.metrics = find(suite.metrics, metrics or {}, f"suite {suite.name}")
        # Here, before anything imports the engine: whoever has a run is about to measure.
        check_installation()
        self.timed_together: tuple[QConfig, ...] = ()
        """Whose latency will be asked for: the same processes time them all."""
        self._calibrations: dict[tuple[object, ...], tuple[PreparedModule, Calibration]] = {}
        self._quantized: dict[QConfig, QuantizedModule] = {}
        self._measured: dict[tuple[str, QConfig], Mapping[str, Measurement]] = {}
        self._fp32_logits: tuple[Tensor, Tensor] | None = None

    @property
    def variant(self) -> Variant:
        return self.suite.variants[self.kind]

    @cached_property
    def threads(self) -> int:
        import torch

        return self._threads or torch.get_num_threads()

    @cached_property
    def model(self) -> nn.Module:
        """The fp32 model as its source builds it, in eval mode. Raises WeightsError, SuiteError."""
        from pytest_ptq.sources import build_model

        return build_model(self.variant.model, self.weights)

    @cached_property
    def dataset(self) -> Dataset:
        """The data, of which no image both calibrates and evaluates. Raises DataError."""
        from pytest_ptq.sources import checked

        loaded: Dataset = checked(self.variant.data.load(self.argument))
        return loaded

    @cached_property
    def fused(self) -> FusedModule:
        from pytest_ptq import engine

        return engine.fuse(self.model)

    @cached_property
    def fp32(self) -> FrozenModule:
        """The fair fp32 model: folded, channels last, same executor."""
        from pytest_ptq import engine

        return engine.freeze(self.fused)

    def quantized(self, qconfig: QConfig) -> QuantizedModule:
        """The int8 model. All qconfigs of the suite share one calibration pass over the data."""
        from pytest_ptq.engine import pipeline

        if qconfig not in self._quantized:
            prepared, calibration = self._calibrated(qconfig)
            batches = self.dataset.calibration() if qconfig.reads_batches_again else None
            self._quantized[qconfig] = pipeline.convert(prepared, calibration, qconfig, batches, self.progress)
        return self._quantized[qconfig]

    def _calibrated(self, qconfig: QConfig) -> tuple[PreparedModule, Calibration]:
        """The model with the weights of `qconfig`, and statistics that serve all qconfigs of the suite with the same.

        They come from one pass over the data, or from the run before.
        """
        from pytest_ptq.engine import pipeline
        from pytest_ptq.engine.calibration_cache import calibrated
        from pytest_ptq.engine.correct import weights_key
        from pytest_ptq.engine.observers import OBSERVERS

        names = {n for q in (*self.qconfigs, qconfig) for n in (q.activation_observer, *q.observer_search)}
        # Every rule reads the same statistics, and those with histograms serve all of them.
        richest = "histogram" if any(OBSERVERS[name].needs_histogram for name in names) else "minmax"
        key = weights_key(qconfig)
        held = self._calibrations.get(key)
        if held is None or held[0].qconfig.activation_observer not in ("histogram", richest):
            # Layers kept in fp32 by one qconfig are observed for the others.
            collector = replace(
                qconfig, activation_observer=richest, fp32_layers=(), percentile=None, observer_search=()
            )
            batches = self.dataset.calibration() if qconfig.smooth_quant else None
            prepared = pipeline.prepare(self.fused, collector, batches)
            seen = calibrated(self.cache, prepared, self.dataset.calibration, self.progress, pipeline.calibrate)
            held = self._calibrations[key] = prepared, seen
        return held

    def _logits(self, quantized: nn.Module, title: str) -> tuple[Tensor, Tensor, Tensor]:
        """Logits of fp32 and of int8, and labels. int8 comes first: by then it is known whose logits may be kept."""
        from pytest_ptq.fp32_results import Fp32Results
        from pytest_ptq.measure.accuracy import collect_logits

        if self._fp32_logits is not None:
            int8, _ = collect_logits(quantized, self._evaluation(title))
            return self._fp32_logits[0], int8, self._fp32_logits[1]
        kept = Fp32Results(self.results_cache, self.fused)
        int8, labels = collect_logits(quantized, kept.watch(self._evaluation(title)))
        fp32 = kept.find(len(labels))
        if fp32 is None:
            fp32, _ = collect_logits(self.fp32, self._evaluation("evaluating fp32"))
            kept.keep(fp32)
        self._fp32_logits = fp32, labels
        return fp32, int8, labels

    def _evaluation(self, title: str) -> Iterator[Any]:
        batches = self.dataset.evaluation()
        return self.progress(batches, title, len(batches) if isinstance(batches, Sized) else None)

    @cached_property
    def _class_coverage(self) -> Mapping[str, Measurement]:
        from pytest_ptq.measure.classes import class_coverage

        assert self._fp32_logits is not None  # whoever asks has just evaluated
        logits, labels = self._fp32_logits
        known = getattr(self.dataset, "calibration_labels", lambda: None)()
        seen = self._predicted_classes() if known is None else list(known)
        return class_coverage(seen, labels.tolist(), logits.shape[1], predicted=known is None)

    def _predicted_classes(self) -> list[int]:
        """What the float model makes of the calibration images. Costs a small part of calibrating on them."""
        import torch

        batches = self.dataset.calibration()
        total = len(batches) if isinstance(batches, Sized) else None
        with torch.inference_mode():
            shown = self.progress(batches, "classes of the calibration images", total)
            return [label for batch in shown for label in self.fp32(batch).argmax(1).tolist()]

    def measure(self, gate: str, qconfig: QConfig) -> Mapping[str, Measurement]:
        """What a gate is judged by, and what belongs beside it, keyed by metric.

        Args:
            gate: `accuracy`, `size`, `latency` or `coverage`.
        """
        table: Mapping[str, Callable[[QConfig], Mapping[str, Measurement]]] = {
            "accuracy": self._accuracy,
            "size": self._size,
            "latency": self._latency_ratio,
            "coverage": self._coverage,
        }
        if gate not in table:
            raise UnknownNameError("gate", gate, table)
        if (gate, qconfig) not in self._measured:
            self._measured[gate, qconfig] = table[gate](qconfig)
        return self._measured[gate, qconfig]

    def _accuracy(self, qconfig: QConfig) -> Mapping[str, Measurement]:
        from pytest_ptq.engine.deployment import DeployedOnCall
        from pytest_ptq.measure.accuracy import compare
        from pytest_ptq.measure.outputs import compare_outputs, from_logits

        # The form that is timed is the form that is judged: its kernels may round what lies half-way otherwise.
        quantized = DeployedOnCall(self.quantized(qconfig))
        title = f"evaluating {qconfig.name}"
        if not self.suite.top1:
            found = compare_outputs(self.fp32, quantized, self._evaluation(title), self.metrics)
            return _told_how(found, quantized.kind)
        fp32, int8, labels = self._logits(quantized, title)
        own = from_logits(fp32, int8, labels, self.metrics)
        return _told_how({**compare(fp32, int8, labels), **own, **self._class_coverage}, quantized.kind)

    def _size(self, qconfig: QConfig) -> Mapping[str, Measurement]:
        from pytest_ptq.engine.artifact import serialized_bytes
        from pytest_ptq.measure.size import size_measurements

        leftover = self._covered(qconfig).fp32_parameters
        return size_measurements(serialized_bytes(self.model), serialized_bytes(self.quantized(qconfig)), leftover)

    def _covered(self, qconfig: QConfig) -> Any:
        from pytest_ptq.engine.inspect import coverage

        return coverage(self.fused, self.quantized(qconfig), self._first_images(1))

    def _coverage(self, qconfig: QConfig) -> Mapping[str, Measurement]:
        found = self._covered(qconfig)
        if not found.total_macs:
            raise MeasurementError(
                "the model multiplies nothing", place=self.suite.name, remedy="Is it the right model?"
            )
        details = {"fp32_layers": len(found.fp32_layers), "fp32_parameters": found.fp32_parameters}
        return {
            INT8_MACS.key: Measurement(INT8_MACS, 100 * found.int8_macs / found.total_macs, details=details),
            QDQ_PAIRS.key: Measurement(QDQ_PAIRS, float(found.detours)),
        }

    def latency_samples(self, qconfig: QConfig) -> LatencySamples:
        """fp32 and int8 times at the suite's latency shape, on random input, from several fresh processes."""
        name = self._stored(qconfig)
        together = []
        for other in self.timed_together:
            # A model that cannot be made is the trouble of whoever asks for it.
            with contextlib.suppress(PTQError):
                together.append(self._stored(other))
        return self._timing.samples(name, together)

    def latency_pairs(self, qconfig: QConfig) -> tuple[tuple[float, ...], ...]:
        """int8 / fp32 of each timed pair, one tuple a process: what the ratio with its interval is made of."""
        from pytest_ptq.measure.latency import log_ratios

        return tuple(
            tuple(float(f"{math.exp(log):.5g}") for log in log_ratios(pairs))
            for pairs in self.latency_samples(qconfig).processes
        )

    def extend_latency(self, qconfig: QConfig) -> bool:
        """Take the second, longer look at a latency that the first left open; False when there is none left."""
        if not self._timing.can_extend(self._stored(qconfig)):
            return False
        self._timing.extend(self._stored(qconfig))
        self._measured.pop(("latency", qconfig), None)
        return True

    def _stored(self, qconfig: QConfig) -> str:
        """The name under which the processes that time a model know it; stores it the first time."""
        name = f"int8 {qconfig.name}"
        self._timing.add(name, lambda: self.quantized(qconfig))
        return name

    @cached_property
    def _timing(self) -> Timing:
        from pytest_ptq.timing import Timing

        return Timing(self.fused, self.suite.latency_shape, self.threads, self.progress)

    def _latency_ratio(self, qconfig: QConfig) -> Mapping[str, Measurement]:
        from pytest_ptq.measure.latency_measurements import eager, to_measurements

        return {**eager(self._eager_ms), **to_measurements(self.latency_samples(qconfig))}

    @cached_property
    def _eager_ms(self) -> tuple[float, ...]:
        """The model as its user runs it, without any of the care that fp32 gets here; in this process."""
        return self._timing.alone(self.model)

    def _first_images(self, count: int) -> Tensor:
        from pytest_ptq.engine.calibrate import check_batch

        for number, batch in enumerate(self.dataset.calibration()):
            return check_batch(batch, number)[:count]
        raise MeasurementError("there is no calibration image", place=self.suite.name)

    def layers(self, qconfig: QConfig) -> tuple[LayerError, ...]:
        """Every int8 layer in graph order; the few that lose most alone with what the logits gain in fp32.

        What outputs that are no logits gain is not told.
        """
        from pytest_ptq.engine.inspect import gains, inspect_layers

        quantized, x = self.quantized(qconfig), self._first_images(LAYER_IMAGES)
        prepared, calibration = self._calibrated(qconfig)
        rows = inspect_layers(prepared.fused, quantized, x)
        if not self.suite.top1:
            return rows
        worst = sorted(rows, key=LayerError.rank)[:WORST_LAYERS]
        told = {row.name: row for row in gains(prepared.fused, quantized, calibration, worst, x)}
        return tuple(told.get(row.name, row) for row in rows)

    def fp32_layers(self, qconfig: QConfig) -> tuple[tuple[str, str], ...]:
        """(layer, reason) of what stayed in fp32."""
        return self.quantized(qconfig).plan.fp32_layers

    def reduce_range(self, qconfig: QConfig) -> bool:
        """Whether no sum of two products can leave int16."""
        return self.quantized(qconfig).plan.reduce_range

    def save(self, qconfig: QConfig, folder: Path) -> Path:
        """Write the int8 model that is judged, as `<suite>_<qconfig>.safetensors`."""
        from pytest_ptq import engine

        return engine.save(self.quantized(qconfig), folder / f"{self.suite.name}_{qconfig.name}.safetensors")


def _told_how(found: Mapping[str, Measurement], kind: str) -> Mapping[str, Measurement]:
    """The same, with the kernels and the caller of the int8 model that was judged beside its SQNR."""
    return {
        key: replace(m, details={**m.details, KERNELS: kind}) if m.metric is SQNR else m for key, m in found.items()
    }
