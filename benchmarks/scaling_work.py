"""The pieces of work that the scaling table times, for one embedded suite with its images in memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from benchmarks.accuracy_cases import first
from benchmarks.rounds import Work
from pytest_ptq.engine import pipeline
from pytest_ptq.measure.accuracy import collect_logits
from pytest_ptq.runner import SuiteRun
from pytest_ptq.sources import Batches
from pytest_ptq.suite import Suite, Variant, load_suite, packaged_suites


class Subject:
    """A suite's model, and its first evaluation images for whatever is to be done with them.

    Args:
        name: of the suite.
        images: how many at most.
    """

    def __init__(self, name: str, images: int) -> None:
        self.suite = load_suite(name, [packaged_suites()])
        self.run = SuiteRun(self.suite, "embedded")
        self.batches = list(first(self.run.dataset.evaluation(), images))
        self.calibration = list(self.run.dataset.calibration())
        self.fused, self.fp32 = self.run.fused, self.run.fp32
        self.int8 = pipeline.quantize(self.fused, self.calibration[:2])

    def calibrating(self, count: int) -> Work:
        """`x86` on so many images."""
        inputs = [x for x, _ in first(self.batches, count)]

        def ready() -> Callable[[], object]:
            prepared = pipeline.prepare(self.fused, "x86")
            return lambda: pipeline.calibrate(prepared, inputs)

        return ready

    def evaluating(self, count: int) -> Work:
        """The logits of fp32 and int8 on so many images."""
        batches = list(first(self.batches, count))
        return lambda: lambda: [collect_logits(model, batches) for model in (self.fp32, self.int8)]

    def judging(self, names: Sequence[str], images: int) -> Work:
        """Everything that the accuracy gates of these qconfigs need, from scratch."""
        batches = list(first(self.batches, images))

        def ready() -> Callable[[], object]:
            variant = Variant(model=self.suite.variants["embedded"].model, data=Batches(self.calibration, batches))
            run = SuiteRun(Suite(name="several", description="", variants={"own": variant}, qconfigs=tuple(names)))
            run.__dict__.update(model=self.run.model, fused=self.fused)
            return lambda: [run.measure("accuracy", qconfig) for qconfig in run.qconfigs]

        return ready
