"""Another runtime's answers held against torch's, of the same int8 model on the same images."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_ptq.errors import PTQError
from pytest_ptq.metrics import AGREEMENT_STEPS, Measurement, Parting
from pytest_ptq.qconfig import QConfig, quantization_of
from pytest_ptq.runtimes import find_runtime

if TYPE_CHECKING:
    from torch import Tensor

    from pytest_ptq.measure.agreement import LayerValues
    from pytest_ptq.runner.evaluation import Evaluation
    from pytest_ptq.runner.in_runtime import InRuntime
    from pytest_ptq.runner.models import SuiteModels

UNKNOWN = "layers_unknown"
"""Key of the reason for which nobody can tell in which layer two runtimes part."""


class AgreementWithTorch:
    """Holds the models of one suite in one runtime against themselves in torch.

    Args:
        models: of the suite.
        evaluation: its images.
        place: the runtime.
    """

    def __init__(self, models: SuiteModels, evaluation: Evaluation, place: InRuntime) -> None:
        self._models, self._evaluation, self._place = models, evaluation, place

    def measure(self, qconfig: QConfig) -> Mapping[str, Measurement]:
        """Flips (of logits) and the largest difference in steps, with the first layer in which they part.

        Raises MeasurementError for answers that cannot be compared, and what exporting and running raise.
        """
        from pytest_ptq.engine.inspect.output import output_scale
        from pytest_ptq.measure.agreement import Agreement

        suite, scale = self._models.suite, output_scale(self._models.quantized(qconfig))
        held = Agreement(find_runtime(qconfig.runtime).title, scale, classes=suite.top1)
        for number, (expected, found, images) in enumerate(self._answers(qconfig)):
            held.add(expected, found, images, f"evaluation batch {number}")
        measured = held.measurements()
        return self._with_layer(measured, qconfig, held.worst) if held.worst else measured

    def _answers(self, qconfig: QConfig) -> Iterator[tuple[Any, Any, int]]:
        """What both answer to each batch. Logits that were compared with fp32's already are not computed again."""
        from pytest_ptq.engine.deployment import DeployedOnCall

        names = (quantization_of(qconfig).name, qconfig.name)
        known = [self._evaluation.kept(f"evaluating {name}") for name in names]
        if known[0] is not None and known[1] is not None:
            yield known[0], known[1], len(known[0])
            return
        # As it is judged and shipped in torch: its kernels may round what lies half-way otherwise than the plain ones.
        quantized = DeployedOnCall(self._models.quantized(qconfig))
        yield from self._evaluation.answers(quantized, self._place.called(qconfig), f"agreement of {qconfig.name}")

    def _with_layer(
        self, measured: Mapping[str, Measurement], qconfig: QConfig, worst: tuple[int, ...]
    ) -> Mapping[str, Measurement]:
        """The layers are asked on the images whose outputs differ most."""
        from pytest_ptq.measure.agreement import with_parting

        try:
            return with_parting(measured, self.parting(qconfig, self._evaluation.images(worst)))
        except PTQError as error:  # the answers differ all the same
            steps = measured[AGREEMENT_STEPS.key]
            told = Measurement(
                steps.metric, steps.value, samples=steps.samples, details={**steps.details, UNKNOWN: str(error)}
            )
            return {**measured, steps.metric.key: told}

    def parting(self, qconfig: QConfig, images: Tensor) -> Parting:
        """The first layer in which the runtime and torch differ by more than a step on `images` (N, ...).

        Raises ExportError or InferenceError where the model with all of its layers as outputs cannot be made or run.
        """
        from pytest_ptq.measure.agreement import first_parting

        return first_parting(self._layers(qconfig, images))

    def _layers(self, qconfig: QConfig, images: Tensor) -> Iterator[LayerValues]:
        """Every quantized tensor in graph order, as the runtime wrote it and as torch would from the same inputs."""
        from pytest_ptq.engine.export import quantized_tensors
        from pytest_ptq.engine.inspect.given import run_on_given
        from pytest_ptq.measure.agreement import LayerValues

        quantized = self._models.quantized(qconfig)
        kinds = {decision.layer: decision.op for decision in quantized.plan.nodes.values()}
        tensors = quantized_tensors(quantized)
        arrays = zip(tensors.items(), self._run_layers(qconfig, images), strict=True)
        found = {path: integers(array, q.scale, q.zero_point) for (path, q), array in arrays}
        expected = run_on_given(quantized, images, found)
        for path in tensors:
            yield LayerValues(path, kinds.get(path, "quantize"), expected[path], found[path])

    def _run_layers(self, qconfig: QConfig, images: Tensor) -> tuple[Any, ...]:
        from pytest_ptq.engine.export import export_onnx, quantized_tensors

        quantized = self._models.quantized(qconfig)
        with tempfile.TemporaryDirectory(prefix="pytest-ptq-") as folder:
            path = Path(folder) / "layers.onnx"
            seen = self._place.files.observed()  # the ranges that the judged file has
            export_onnx(quantized, path, images[:1], runtime=qconfig.runtime, batches=seen, layer_outputs=True)
            session = find_runtime(qconfig.runtime).load(path, self._models.threads)
            answers = session.run(images.contiguous().numpy())
        count = len(quantized_tensors(quantized))
        return tuple(answers)[-count:] if count else ()


def integers(array: Any, scale: float, zero_point: int) -> Tensor:
    """The integers that a runtime wrote, from the floats (N, ...) that they stand for; NaN stays what it is."""
    import torch

    return (torch.from_numpy(array).double() / scale).round() + zero_point
