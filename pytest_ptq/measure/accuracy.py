"""Accuracy of int8 against fp32 on the same images."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from pytest_ptq.errors import DataError, MeasurementError
from pytest_ptq.heap import kept_heap
from pytest_ptq.measure.paired import PairedCounts, mcnemar_exact, newcombe, resolvable_drop, wilson
from pytest_ptq.measure.rows import Rows
from pytest_ptq.metrics import (
    ACCURACY_DROP,
    FLIPS,
    SQNR,
    TOP1_FP32,
    TOP1_INT8,
    TOP5_DROP,
    TOP5_FP32,
    TOP5_INT8,
    Measurement,
    Metric,
)

if TYPE_CHECKING:
    from torch import Tensor, nn

SQNR_CAP_DB = 200.0
"""What identical logits count as. float32 carries 24 bits, so no real difference can measure above about 150 dB."""

ROWS = 4096
"""Images at a time wherever something as large as their logits is made in passing: 1,000 classes of 50,000 images in
float64 would be 400 MB for each."""


def collect_logits(model: nn.Module, batches: Iterable[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """Run `model` over pairs of input and labels.

    Args:
        model: gives logits (n, classes) for an input (n, ...).
        batches: pairs of input (n, ...) and integer labels (n,). Batches count from 0 in messages.

    Returns:
        Logits float32 (N, classes) and labels int64 (N,), both on the CPU.

    Raises:
        DataError: no batches, an input the model refuses, labels of another shape, dtype or range.
        MeasurementError: logits of another shape, or not finite.
    """
    import torch

    kept, truth = Rows(), Rows()
    classes: int | None = None
    with kept_heap():
        with torch.inference_mode():
            for number, batch in enumerate(batches):
                place = f"evaluation batch {number}"
                images, labels = _pair(batch, place)
                logits = _forward(model, images, place)
                _check_logits(logits, len(images), classes, place)
                classes = logits.shape[1]
                _check_labels(labels, len(logits), classes, place)
                kept.add(logits.to(torch.float32))
                truth.add(labels.to(torch.int64))
        if not len(truth):
            raise DataError("there are no images to evaluate", remedy="Check the evaluation data: its loader is empty.")
        return kept.take(), truth.take()


def _pair(batch: object, place: str) -> tuple[Tensor, Tensor]:
    import torch

    if isinstance(batch, (tuple, list)) and len(batch) == 2:
        images, labels = batch
        if isinstance(images, torch.Tensor) and isinstance(labels, torch.Tensor) and images.ndim:
            return images, labels
        what = f"({type(images).__name__}, {type(labels).__name__})"
    else:
        what = f"a {type(batch).__name__}"
    raise DataError(
        f"{what} is not a pair of image and label tensors",
        place=place,
        remedy="Evaluation data yields (images, labels); where labels are no classes, declare top1=False.",
    )


def _forward(model: nn.Module, images: Tensor, place: str) -> Tensor:
    import torch

    output = forward(model, images, place)
    if not isinstance(output, torch.Tensor):
        raise MeasurementError(
            f"the model returns {type(output).__name__}, not a tensor of logits",
            place=place,
            remedy="Wrap the model so that it returns logits (N, classes), or declare metrics=... and top1=False.",
        )
    return output


def forward(model: nn.Module, images: Tensor, place: str) -> Any:
    """What the model returns, of any type. Raises DataError for an input that it refuses."""
    try:
        return model(images)
    except (RuntimeError, ValueError, TypeError, IndexError) as error:
        first_line = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
        raise DataError(
            f"the model refuses an input of shape {tuple(images.shape)} ({first_line})",
            place=place,
            remedy="Give images of the shape that the model was made for.",
        ) from error


def _check_logits(logits: Tensor, images: int, classes: int | None, place: str) -> None:
    if logits.ndim != 2 or logits.shape[0] != images or classes not in (None, logits.shape[1]):
        expected = f"({images}, {classes or 'classes'})"
        raise MeasurementError(f"logits have shape {tuple(logits.shape)} instead of {expected}", place=place)
    if not logits.isfinite().all():
        raise MeasurementError(
            "logits are not finite (NaN or infinite)", place=place, remedy="Look for NaN in the weights and the images."
        )


def _check_labels(labels: Tensor, images: int, classes: int, place: str) -> None:
    if labels.shape != (images,):
        raise DataError(f"{images} images have labels of shape {tuple(labels.shape)}", place=place)
    if labels.is_floating_point() or labels.is_complex():
        raise DataError(f"labels are {labels.dtype}, not integers", place=place)
    low, high = (int(labels.min()), int(labels.max())) if images else (0, 0)
    if low < 0 or high >= classes:
        raise DataError(
            f"labels run from {low} to {high}, the model has classes 0 to {classes - 1}",
            place=place,
            remedy="Check that data and model number the same classes.",
        )


def evaluate(model: nn.Module, batches: Iterable[tuple[Tensor, Tensor]]) -> float:
    """Top-1 accuracy of a model in percent. Takes and raises what `collect_logits` does."""
    logits, labels = collect_logits(model, batches)
    return 100 * float((logits.argmax(1) == labels).double().mean())


def compare(fp32_logits: Tensor, int8_logits: Tensor, labels: Tensor) -> dict[str, Measurement]:
    """Top-1 and top-5 of both models, their drop in percentage points, flips and SQNR, keyed by metric.

    Top-5 is measured where there are more than five classes: below, it is always 100 %.

    Args:
        fp32_logits: (N, classes).
        int8_logits: (N, classes), of the same images in the same order.
        labels: integers (N,).

    Raises:
        MeasurementError: shapes that do not fit, no images, logits that are not finite.
    """
    if fp32_logits.shape != int8_logits.shape or labels.shape != fp32_logits.shape[:1] or fp32_logits.ndim != 2:
        shapes = ", ".join(str(tuple(t.shape)) for t in (fp32_logits, int8_logits, labels))
        raise MeasurementError(f"fp32 logits, int8 logits and labels of shapes {shapes} do not belong together")
    fp32_class, int8_class = fp32_logits.argmax(1), int8_logits.argmax(1)
    counts = _count(fp32_class == labels, int8_class == labels)
    flips = int((fp32_class != int8_class).sum())
    measured = [
        *_pair_of_accuracies(counts, TOP1_FP32, TOP1_INT8, ACCURACY_DROP),
        _percent(FLIPS, flips, counts.images),
        _sqnr(fp32_logits, int8_logits),
    ]
    if fp32_logits.shape[1] > 5:
        in_five = _count(_among(fp32_logits, labels, 5), _among(int8_logits, labels, 5))
        measured += _pair_of_accuracies(in_five, TOP5_FP32, TOP5_INT8, TOP5_DROP)
    return {m.metric.key: m for m in measured}


def _among(logits: Tensor, labels: Tensor, places: int) -> Tensor:
    """Whether each label is among the `places` largest logits.

    Of equal logits the lower class comes first, as in argmax: int8 logits are often equal, and are not to gain by it.
    """
    import torch

    def among(some: Tensor, truth: Tensor) -> Tensor:
        own = some.gather(1, truth.view(-1, 1))
        earlier = torch.arange(some.shape[1], device=some.device) < truth.view(-1, 1)
        ahead = (some > own) | ((some == own) & earlier)
        return ahead.sum(1) < places

    return torch.cat([among(logits[i : i + ROWS], labels[i : i + ROWS]) for i in range(0, len(labels), ROWS)])


def _pair_of_accuracies(counts: PairedCounts, fp32: Metric, int8: Metric, drop: Metric) -> list[Measurement]:
    return [
        _percent(fp32, counts.fp32_correct, counts.images),
        _percent(int8, counts.int8_correct, counts.images),
        _drop(counts, drop),
    ]


def _count(fp32_right: Tensor, int8_right: Tensor) -> PairedCounts:
    return PairedCounts(
        both=int((fp32_right & int8_right).sum()),
        lost=int((fp32_right & ~int8_right).sum()),
        gained=int((~fp32_right & int8_right).sum()),
        neither=int((~fp32_right & ~int8_right).sum()),
    )


def _percent(metric: Metric, count: int, images: int) -> Measurement:
    low, high = wilson(count, images)
    details = {"images": count}
    return Measurement(metric, 100 * count / images, 100 * low, 100 * high, samples=images, details=details)


def _drop(counts: PairedCounts, metric: Metric) -> Measurement:
    low, high = newcombe(counts)
    return Measurement(
        metric,
        100 * counts.drop,
        100 * low,
        100 * high,
        samples=counts.images,
        details={
            "lost_images": counts.lost,
            "gained_images": counts.gained,
            "mcnemar_p": mcnemar_exact(counts.lost, counts.gained),
            "resolvable_drop_pp": 100 * resolvable_drop(counts.images, counts.discordance),
        },
    )


def _sqnr(fp32_logits: Tensor, int8_logits: Tensor) -> Measurement:
    """Signal to quantization noise of all logits together: 10 log10(sum fp32^2 / sum (fp32 - int8)^2), in dB."""
    signal = noise = 0.0
    for i in range(0, len(fp32_logits), ROWS):
        expected = fp32_logits[i : i + ROWS].double()
        signal += float(expected.square().sum())
        noise += float(expected.sub_(int8_logits[i : i + ROWS]).square_().sum())
    return sqnr_of(signal, noise, len(fp32_logits), "logit")


def sqnr_of(signal: float, noise: float, images: int, what: str) -> Measurement:
    """The ratio of two sums of squares in dB. Raises MeasurementError: not finite, or no signal."""
    if not math.isfinite(signal) or not math.isfinite(noise):
        raise MeasurementError(f"{what}s are not finite (NaN or infinite)")
    if noise == 0:
        details = {"note": f"identical {what}s, counted as {SQNR_CAP_DB:g} dB"}
        return Measurement(SQNR, SQNR_CAP_DB, samples=images, details=details)
    if signal == 0:
        raise MeasurementError(f"every fp32 {what} is zero: there is no signal", remedy="Check the model's weights.")
    return Measurement(SQNR, min(SQNR_CAP_DB, 10 * math.log10(signal / noise)), samples=images)
