"""int8 against fp32 where the outputs are not class logits: segmentation maps, boxes, sequences, embeddings.

Both models see each batch one after the other, and nothing of it is kept but sums and what the metrics keep: memory
does not grow with the data.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from pytest_ptq.errors import DataError, MeasurementError
from pytest_ptq.heap import kept_heap
from pytest_ptq.measure.accuracy import forward, sqnr_of
from pytest_ptq.measure.custom import Accumulator, MetricSource
from pytest_ptq.metrics import SQNR, Measurement

if TYPE_CHECKING:
    from torch import Tensor, nn

CHUNK = 256
"""Images an update, where the logits of all images are there already."""


def compare_outputs(
    fp32: nn.Module, int8: nn.Module, batches: Iterable[Any], sources: Iterable[MetricSource]
) -> dict[str, Measurement]:
    """Each metric of both models and its loss, keyed by metric; the SQNR of outputs that have the same form.

    Args:
        fp32, int8: return a tensor, or tensors in dicts, tuples and lists.
        batches: pairs of input (n, ...) and targets of any type; the metrics get them as they are.
        sources: what is computed.

    Raises:
        DataError: no batches, something else than pairs, an input that a model refuses.
        MeasurementError: outputs that are not finite or of different forms, a metric that cannot be computed.
    """
    import torch

    pairs = [(source, Accumulator(source, "fp32"), Accumulator(source, "int8")) for source in sources]
    powers: list[tuple[float, float] | None] = []
    images = 0
    with torch.inference_mode(), kept_heap():
        for number, batch in enumerate(batches):
            place = f"evaluation batch {number}"
            x, targets = _pair(batch, place)
            expected, found = forward(fp32, x, place), forward(int8, x, place)
            powers.append(_powers(expected, found, place))
            images += len(x)
            for _, of_fp32, of_int8 in pairs:
                of_fp32.update(expected, targets)
                of_int8.update(found, targets)
    if not images:
        raise DataError("there are no images to evaluate", remedy="Check the evaluation data: its loader is empty.")
    known = [both for both in powers if both is not None]
    measured: dict[str, Measurement] = {}
    if len(known) == len(powers):
        measured[SQNR.key] = sqnr_of(sum(s for s, _ in known), sum(n for _, n in known), images, "output")
    for source, of_fp32, of_int8 in pairs:
        measured |= source.measurements(of_fp32.compute(), of_int8.compute(), images)
    return measured


def from_logits(
    fp32_logits: Tensor, int8_logits: Tensor, labels: Tensor, sources: Iterable[MetricSource]
) -> dict[str, Measurement]:
    """The same metrics of a classifier, whose logits (N, classes) are there. Raises MeasurementError."""
    measured: dict[str, Measurement] = {}
    for source in sources:
        fp32 = _of_logits(Accumulator(source, "fp32"), fp32_logits, labels)
        int8 = _of_logits(Accumulator(source, "int8"), int8_logits, labels)
        measured |= source.measurements(fp32, int8, len(labels))
    return measured


def _of_logits(accumulator: Accumulator, logits: Tensor, labels: Tensor) -> float:
    for start in range(0, len(labels), CHUNK):
        accumulator.update(logits[start : start + CHUNK], labels[start : start + CHUNK])
    return accumulator.compute()


def _pair(batch: Any, place: str) -> tuple[Tensor, Any]:
    import torch

    if isinstance(batch, (tuple, list)) and len(batch) == 2 and isinstance(batch[0], torch.Tensor) and batch[0].ndim:
        return batch[0], batch[1]
    raise DataError(
        f"a {type(batch).__name__} is not a pair of input tensor and targets",
        place=place,
        remedy="Evaluation data yields (input, targets).",
    )


def _powers(fp32: Any, int8: Any, place: str) -> tuple[float, float] | None:
    """Sum of squares of the fp32 outputs and of what int8 adds to them; None where their forms differ, as boxes may."""
    expected, found = list(float_tensors(fp32)), list(float_tensors(int8))
    if not expected:
        message = f"the model returns {type(fp32).__name__}, in which there is no tensor of floats"
        raise MeasurementError(message, place=place, remedy="Return tensors, or dicts, tuples or lists of them.")
    for name, tensor in (*expected, *found):
        if not tensor.isfinite().all():
            remedy = "Look for NaN in the weights and the images."
            raise MeasurementError(f"{name} is not finite (NaN or infinite)", place=place, remedy=remedy)
    if [(name, tensor.shape) for name, tensor in expected] != [(name, tensor.shape) for name, tensor in found]:
        return None
    signal = sum(float(tensor.double().square().sum()) for _, tensor in expected)
    pairs = zip(expected, found, strict=True)
    return signal, sum(float((one.double() - other.double()).square().sum()) for (_, one), (_, other) in pairs)


def float_tensors(output: Any, name: str = "the output") -> Iterator[tuple[str, Tensor]]:
    """Every tensor of floats in what a model returned, in order, with where it stands."""
    import torch

    if isinstance(output, torch.Tensor):
        if output.is_floating_point():
            yield name, output
    elif isinstance(output, Mapping):
        for key, value in output.items():
            yield from float_tensors(value, f"{name}[{key!r}]")
    elif isinstance(output, (tuple, list)):
        for index, value in enumerate(output):
            yield from float_tensors(value, f"{name}[{index}]")
