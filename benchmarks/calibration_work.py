"""The pieces of work that the calibration table times, for one model with its images in memory."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch

from benchmarks.accuracy_cases import Case, first
from benchmarks.rounds import Work
from pytest_ptq.engine import pipeline
from pytest_ptq.qconfig import PRESETS, QConfig
from pytest_ptq.runner import SuiteRun
from pytest_ptq.sources import Batches
from pytest_ptq.suite import Suite, Variant, load_suite

if TYPE_CHECKING:
    from torch import Tensor

SWEPT = tuple(qconfig for qconfig in PRESETS.values() if qconfig.rounding is None)
"""The six presets that look at nothing but statistics and means; `best` trains for minutes."""
OBSERVING = (
    *(qconfig for qconfig in SWEPT if not qconfig.reads_batches_again),
    QConfig("moving_average", activation_observer="moving_average"),
)
"""One qconfig for each of the six observers: five presets, and the one that has none."""


class Subject:
    """One model with its first calibration images. Raises PTQError: the model or the images cannot be had.

    Args:
        case: model and data.
        images: how many of its calibration images.
    """

    def __init__(self, case: Case, images: int) -> None:
        suite = load_suite(case.suite, [])
        self.run = SuiteRun(suite, case.kind, case.argument, case.weights)
        batches = ((x, torch.zeros(len(x))) for x in self.run.dataset.calibration())
        self.batches = [x for x, _ in first(batches, images)]
        self.images = sum(map(len, self.batches))
        self.model, self.fused, self.fp32 = self.run.model, self.run.fused, self.run.fp32

    def forward(self, model: Callable[[Tensor], object]) -> Work:
        """The model over all images."""

        def run() -> None:
            with torch.inference_mode():
                for batch in self.batches:
                    model(batch)

        return lambda: run

    def calibrating(self, name: str) -> Work:
        """A preset's calibration; making the observed model is not timed."""

        def ready() -> Callable[[], object]:
            prepared = pipeline.prepare(self.fused, name)
            return lambda: pipeline.calibrate(prepared, self.batches)

        return ready

    def torch_fx(self) -> Work:
        """torch's own prepared model with its HistogramObserver."""

        def ready() -> Callable[[], object]:
            from torch.ao.quantization import get_default_qconfig_mapping
            from torch.ao.quantization.quantize_fx import prepare_fx

            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # that it will be removed
                mapping = get_default_qconfig_mapping("x86")
                prepared = prepare_fx(copy.deepcopy(self.model), mapping, (self.batches[0],))
            return self.forward(prepared)()

        return ready

    def converting(self, name: str) -> Work:
        """From statistics to the int8 model."""
        prepared = pipeline.prepare(self.fused, name)
        calibration = pipeline.calibrate(prepared, self.batches)
        return lambda: lambda: pipeline.convert(prepared, calibration)

    def sweeping(self, qconfigs: Sequence[QConfig]) -> Work:
        """int8 models of all these from scratch, as a suite makes them: one pass over the data serves them."""

        def ready() -> Callable[[], object]:
            # Never evaluated; some image that is not among those that calibrate.
            evaluation = [(self.batches[0][:1] + 1, torch.zeros(1, dtype=torch.int64))]
            variant = Variant(model=_Ready(self.model), data=Batches(self.batches, evaluation))
            suite = Suite(name="sweep", description="", variants={"own": variant}, qconfigs=tuple(qconfigs))
            run = SuiteRun(suite)
            run.__dict__["fused"] = self.fused
            return lambda: [run.quantized(qconfig) for qconfig in run.qconfigs]

        return ready


class _Ready:
    """A model source that has its model."""

    def __init__(self, model: Any) -> None:
        self._model = model

    def build(self, weights: object = None) -> Any:
        return self._model
