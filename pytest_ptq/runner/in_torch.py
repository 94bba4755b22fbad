"""int8 models judged where they were made: in torch, with the engine's own kernels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_ptq.errors import MeasurementError
from pytest_ptq.metrics import INT8_MACS, KERNELS, NOT_NATIVE, QDQ_PAIRS, SQNR, Measurement
from pytest_ptq.qconfig import QConfig

if TYPE_CHECKING:
    from pytest_ptq.engine.inspect import Coverage
    from pytest_ptq.runner.evaluation import Evaluation
    from pytest_ptq.runner.models import SuiteModels
    from pytest_ptq.timing import Timing


class InTorch:
    """The models of one suite, run by torch.

    Args:
        models: of the suite.
        evaluation: its images.
    """

    def __init__(self, models: SuiteModels, evaluation: Evaluation) -> None:
        self._models, self._evaluation = models, evaluation

    def accuracy(self, qconfig: QConfig) -> Mapping[str, Measurement]:
        from pytest_ptq.engine.deployment import DeployedOnCall

        # The form that is timed is the form that is judged: its kernels may round what lies half-way otherwise.
        quantized = DeployedOnCall(self._models.quantized(qconfig))
        found = self._evaluation.compare(quantized, f"evaluating {qconfig.name}")
        deployed = quantized.deployed
        return told_how(found, quantized.kind, "" if deployed is None else deployed.not_native)

    def size(self, qconfig: QConfig) -> Mapping[str, Measurement]:
        from pytest_ptq.engine.artifact import serialized_bytes
        from pytest_ptq.measure.size import size_measurements

        leftover = covered(self._models, qconfig).fp32_parameters
        fp32, int8 = (serialized_bytes(m) for m in (self._models.model, self._models.quantized(qconfig)))
        return size_measurements(fp32, int8, leftover)

    def coverage(self, qconfig: QConfig) -> Mapping[str, Measurement]:
        found = covered(self._models, qconfig)
        return {
            INT8_MACS.key: int8_share(found, found.int8_macs, self._models.suite.name),
            QDQ_PAIRS.key: Measurement(QDQ_PAIRS, float(found.detours)),
        }

    @cached_property
    def timing(self) -> Timing:
        from pytest_ptq.timing import Timing

        models = self._models
        return Timing(models.fused, models.suite.latency_shape, models.threads, models.progress)

    def stored(self, qconfig: QConfig) -> str:
        """The name under which the processes that time a model know it; stores it the first time."""
        name = f"int8 {qconfig.name}"
        self.timing.add(name, lambda: self._models.quantized(qconfig))
        return name

    def save(self, qconfig: QConfig, folder: Path) -> Path:
        from pytest_ptq import engine

        suite = self._models.suite.name
        return engine.save(self._models.quantized(qconfig), folder / f"{suite}_{qconfig.name}.safetensors")


def covered(models: SuiteModels, qconfig: QConfig) -> Coverage:
    """What the engine computes in int8, counted on one image."""
    from pytest_ptq.engine.inspect import coverage

    return coverage(models.fused, models.quantized(qconfig), models.first_images(1))


def int8_share(found: Coverage, int8_macs: int, place: str, **details: float | int | str) -> Measurement:
    """The share of multiply-accumulates in int8. Raises MeasurementError: the model multiplies nothing."""
    if not found.total_macs:
        raise MeasurementError("the model multiplies nothing", place=place, remedy="Is it the right model?")
    known = {"fp32_layers": len(found.fp32_layers), "fp32_parameters": found.fp32_parameters}
    return Measurement(INT8_MACS, 100 * int8_macs / found.total_macs, details={**known, **details})


def told_how(found: Mapping[str, Measurement], kind: str, not_native: str = "") -> Mapping[str, Measurement]:
    """The same, with the kernels and the caller of the int8 model that was judged beside its SQNR.

    not_native: why these are not the compiled kernels; empty where they are, or nobody asked for them.
    """
    how = {KERNELS: kind, NOT_NATIVE: not_native} if not_native else {KERNELS: kind}
    return {key: replace(m, details={**m.details, **how}) if m.metric is SQNR else m for key, m in found.items()}
