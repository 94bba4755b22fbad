"""A suite's data and its models: fp32, and one int8 model a qconfig, all of them from one pass over the data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_ptq.errors import MeasurementError, UnknownNameError, UsageError
from pytest_ptq.measure.custom import MetricSource, find
from pytest_ptq.measure.machine import check_installation
from pytest_ptq.own_int8 import OwnInt8
from pytest_ptq.qconfig import QConfig, get_qconfig, quantization_of
from pytest_ptq.runner.progress import Progress, silent
from pytest_ptq.suite import Dataset, Suite, Variant

if TYPE_CHECKING:
    from torch import Tensor, nn

    from pytest_ptq.engine.calibrate import Calibration
    from pytest_ptq.engine.convert import QuantizedModule
    from pytest_ptq.engine.freeze import FrozenModule
    from pytest_ptq.engine.fuse import FusedModule
    from pytest_ptq.engine.observe import PreparedModule


class SuiteModels:
    """The data and the models of one suite on one kind of data. Each is made when first asked for, once, and kept.

    Args:
        suite: whose models.
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
        self._calibrations: dict[tuple[object, ...], tuple[PreparedModule, Calibration]] = {}
        self._quantized: dict[QConfig, QuantizedModule] = {}

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

    def forget_fp32(self) -> None:
        """Give the fair fp32 model up until it is asked for again: its packed weights are as large as the model."""
        fp32: FrozenModule | None = self.__dict__.pop("fp32", None)
        if fp32 is not None:
            # The two refer to each other, and would stay until Python collects what does.
            fp32.graph.owning_module = None

    def quantized(self, qconfig: QConfig) -> QuantizedModule:
        """The int8 model: one for all runtimes. All qconfigs of the suite share one calibration pass over the data."""
        from pytest_ptq.engine import pipeline

        if isinstance(qconfig, OwnInt8):
            message = f"{qconfig.name} is int8 already: there is nothing to quantize"
            raise UsageError(message, place=f"suite {self.suite.name}")
        qconfig = quantization_of(qconfig)
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

    def first_images(self, count: int) -> Tensor:
        """Up to `count` calibration images. Raises MeasurementError: there is none."""
        from pytest_ptq.engine.calibrate import check_batch

        for number, batch in enumerate(self.dataset.calibration()):
            return check_batch(batch, number)[:count]
        raise MeasurementError("there is no calibration image", place=self.suite.name)
