"""One int8 model in two runtimes: how far apart its answers are, and from which layer on.

The built-in engine's model in torch is what another runtime is held against, image by image. A difference is told in
steps of the output: of its scale where the output is stored as integers, and else of a 255th of the range that torch's
outputs span on these images, which is the scale that 8 bits would need for them. Rounding alone parts two runtimes by a
step of some layer now and then (what lies half-way goes either way); a wrong scale, a saturated sum or a kernel that
left something out parts them by more.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from pytest_ptq.errors import DataError, MeasurementError
from pytest_ptq.measure.outputs import float_tensors
from pytest_ptq.measure.paired import wilson
from pytest_ptq.metrics import AGREEMENT_FLIPS, AGREEMENT_STEPS, NOWHERE, Measurement, Parting

if TYPE_CHECKING:
    from torch import Tensor

LEVELS = 255
"""Steps between the least and the greatest integer of 8 bits."""
WORST_IMAGES = 4
"""How many of the images that differ most are kept in mind, to look for the layer on."""
ROUNDING = 1
"""Steps by which a layer may differ, for what lies half-way goes either way: more is a parting."""
ROUNDED_TWICE = 2


class Agreement:
    """What two runtimes answer, batch by batch; grows with nothing but the number of tensors in an answer.

    Args:
        runtime: the one that is held against torch, for messages.
        scale: of the model's output where that is stored as integers; None where it is computed in float.
        classes: whether outputs are logits (N, classes), so that there is an argmax that can flip.
    """

    def __init__(self, runtime: str, scale: float | None = None, *, classes: bool = True) -> None:
        self._runtime, self._scale, self._classes = runtime, scale, classes
        self._spans: dict[str, _Span] = {}
        self._flips = self._images = 0
        self._worst: list[tuple[float, int]] = []

    def add(self, torch_output: Any, runtime_output: Any, images: int, place: str = "evaluation") -> None:
        """Take what both made of the same images: a tensor (images, ...), or dicts, tuples and lists of tensors.

        Raises MeasurementError: outputs of different forms, without a tensor, or not finite.
        """
        expected, found = list(float_tensors(torch_output)), list(float_tensors(runtime_output))
        self._check(expected, found, place)
        apart = [0.0] * images
        for (name, one), (_, other) in zip(expected, found, strict=True):
            if not one.numel():
                continue
            difference = (one.double() - other.double()).abs()
            span = _Span(float(one.min()), float(one.max()), float(difference.max()))
            self._spans[name] = self._spans[name].joined(span) if name in self._spans else span
            if len(one) == images:  # else its rows are no images, as with boxes
                apart = list(map(max, apart, difference.reshape(images, -1).amax(1).tolist()))
        if self._classes:
            self._flips += int((expected[0][1].argmax(1) != found[0][1].argmax(1)).sum())
        ranked = [(value, self._images + i) for i, value in enumerate(apart) if value > 0]
        self._worst = sorted([*self._worst, *ranked], key=lambda pair: (-pair[0], pair[1]))[:WORST_IMAGES]
        self._images += images

    @property
    def worst(self) -> tuple[int, ...]:
        """Numbers, in the order of evaluation, of the images whose outputs differ most; empty where none differ."""
        return tuple(image for _, image in self._worst)

    def measurements(self) -> dict[str, Measurement]:
        """Flips in percent with their 95 % Wilson interval (logits only) and the largest difference, by key.

        Raises DataError without images, MeasurementError where torch's outputs are all the same and the other's not.
        """
        if not self._images:
            raise DataError("there are no images to evaluate", remedy="Check the evaluation data: its loader is empty.")
        measured = [self._flipped()] if self._classes else []
        return {m.metric.key: m for m in (*measured, self._steps())}

    def _flipped(self) -> Measurement:
        low, high = wilson(self._flips, self._images)
        details = {"flipped_images": self._flips, "images": self._images}
        value = 100 * self._flips / self._images
        return Measurement(AGREEMENT_FLIPS, value, 100 * low, 100 * high, samples=self._images, details=details)

    def _steps(self) -> Measurement:
        whole = [(span.steps(self._scale, self._runtime, name), name, span) for name, span in self._spans.items()]
        steps, name, span = max(whole, key=lambda row: row[0])
        details: dict[str, float | int | str] = {
            "largest_difference": span.largest,
            "step": self._scale or span.step,
            "step_is": "the output's scale" if self._scale else "a 255th of the range of torch's outputs",
        }
        if len(whole) > 1:
            details["output"] = name
        return Measurement(AGREEMENT_STEPS, steps, samples=self._images, details=details)

    def _check(self, expected: list[tuple[str, Tensor]], found: list[tuple[str, Tensor]], place: str) -> None:
        for who, tensors in (("torch", expected), (self._runtime, found)):
            if not tensors:
                raise MeasurementError(f"{who} returns no tensor of floats", place=place)
            for name, tensor in tensors:
                if not tensor.isfinite().all():
                    raise MeasurementError(f"{name} of {who} is not finite (NaN or infinite)", place=place)
        forms = [[tuple(tensor.shape) for _, tensor in tensors] for tensors in (expected, found)]
        if forms[0] != forms[1]:
            message = f"torch answers in the shapes {forms[0]} and {self._runtime} in {forms[1]}"
            raise MeasurementError(message, place=place, remedy="Only outputs of the same form can be compared.")
        if self._classes and (len(expected) != 1 or expected[0][1].ndim != 2):
            message = f"outputs of shapes {forms[0]} are no logits (N, classes)"
            raise MeasurementError(message, place=place, remedy="Declare metrics=... and top1=False.")


@dataclass(frozen=True)
class _Span:
    """Least and greatest value of one of torch's output tensors, and its largest difference from the other's."""

    low: float
    high: float
    largest: float

    def joined(self, other: _Span) -> _Span:
        return _Span(min(self.low, other.low), max(self.high, other.high), max(self.largest, other.largest))

    @property
    def step(self) -> float:
        return (self.high - self.low) / LEVELS

    def steps(self, scale: float | None, runtime: str, name: str) -> float:
        step = scale or self.step
        if not self.largest:
            return 0.0
        if step <= 0:
            message = f"{name} of torch is {self.low:.6g} everywhere, and that of {runtime} is not"
            raise MeasurementError(message, remedy="Check the model's weights: it says the same of every image.")
        return self.largest / step


@dataclass(frozen=True)
class LayerValues:
    """The integers that one layer wrote in torch and in another runtime, of the same images.

    Args:
        layer: its path in the user's model.
        kind: its operation.
        torch, runtime: integers, or floats that hold them, of one shape (N, ...); those of torch made from the same
            inputs, so that a difference is the layer's own.
    """

    layer: str
    kind: str
    torch: Tensor
    runtime: Tensor


def first_parting(layers: Iterable[LayerValues]) -> Parting:
    """The first of `layers`, given in graph order, in which any integer differs by more than one step.

    One that differs by more than two goes before it: a sum that a runtime rounds on the way to its layer's output is
    rounded twice, and is not to hide a layer that is wrong.

    Raises MeasurementError: no layers, or one whose shapes differ or whose values are no integers.
    """
    first: Parting | None = None
    compared, rounded, images = 0, (0.0, ""), 0
    for values in layers:
        difference = _apart(values)
        compared, images = compared + 1, max(images, len(difference) if difference.ndim else 1)
        beyond, most = int((difference > ROUNDING).sum()), int(difference.max()) if difference.numel() else 0
        if beyond and (first is None or most > ROUNDED_TWICE):
            first = Parting(values.layer, values.kind, beyond, difference.numel(), most, compared, *rounded, images)
        if most > ROUNDED_TWICE:
            break
        share = 100 * int((difference > 0).sum()) / max(1, difference.numel())
        rounded = (share, values.layer) if share > rounded[0] else rounded
    if not compared:
        raise MeasurementError("no layer was held against another runtime", remedy="Is anything quantized?")
    return first or Parting(NOWHERE, "", 0, 0, 0, compared, *rounded, images)


def _apart(values: LayerValues) -> Tensor:
    """|torch - runtime| in steps. Written so that NaN is refused too."""
    one, other = values.torch.double(), values.runtime.double()
    if one.shape != other.shape:
        message = f"torch writes {tuple(one.shape)} and the other runtime {tuple(other.shape)}"
        raise MeasurementError(message, place=values.layer, remedy="Report this: the exported graph is another one.")
    for who, tensor in (("torch", one), ("the other runtime", other)):
        if not bool((tensor == tensor.round()).all()):
            raise MeasurementError(f"{who} writes values that are no integers", place=values.layer)
    return (one - other).abs()


def with_parting(measured: Mapping[str, Measurement], parting: Parting) -> dict[str, Measurement]:
    """The same measurements, the largest difference with the layer in its details."""
    steps = measured[AGREEMENT_STEPS.key]
    return {**measured, steps.metric.key: replace(steps, details={**steps.details, **parting.details()})}
