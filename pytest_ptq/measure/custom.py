"""A metric of a user's own (mIoU, F1, mAP, perplexity): what it is, and how it is computed. Imports no torch.

Two shapes, as people know them from torchmetrics: a function of all outputs and targets at once, or a stream, an object
with `update(outputs, targets)` and `compute()`, which keeps no more than its own counts. torchmetrics' classes are
streams already.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from pytest_ptq.errors import MeasurementError, UnknownNameError, UsageError
from pytest_ptq.metrics import METRICS, Direction, Measurement, Metric

SUFFIXES: Mapping[str, str] = {"%": "percent", "B": "bytes"}
"""How a unit ends a key where it is not simply written in small letters."""
LOSS_UNITS: Mapping[str, str] = {"%": "pp"}
"""The unit of a difference, where it is another one."""


class Stream(Protocol):
    """What is added up while the batches go by."""

    def update(self, outputs: Any, targets: Any, /) -> object:
        """Take one batch: what the model returned for it, and its targets as the data give them."""
        ...

    def compute(self) -> Any:
        """The metric of all that was seen: a finite number, or a tensor that holds one."""
        ...


@dataclass(frozen=True)
class MetricSource:
    """A metric and one of the two ways to compute it.

    Args:
        metric: key, title, unit and direction; the key ends in its unit (`miou_percent`, `psnr_db`, `perplexity`).
        stream: makes a fresh stream for each model; memory stays what the stream keeps.
        function: of the outputs and the targets of all batches, joined along their first dimension. Everything is in
            memory at once: right for logits and scalars, wrong for segmentation maps.

    Raises:
        UsageError: both ways or none, or a key that does not end in its unit.
    """

    metric: Metric
    stream: Callable[[], Stream] | None = None
    function: Callable[[Any, Any], Any] | None = None

    def __post_init__(self) -> None:
        place = f"metric {self.metric.key}"
        if (self.stream is None) == (self.function is None):
            remedy = "Give stream=... (constant memory) or function=..., not both."
            raise UsageError("it takes one way to compute it", place=place, remedy=remedy)
        suffix = _suffix(self.metric.unit)
        if not self.metric.key.isidentifier() or not self.metric.key.endswith(suffix) or self.metric.key == suffix:
            named = self.metric.key.isidentifier()
            message = f"{self.metric.key!r} is no name that ends in its unit, {self.metric.unit!r}"
            better = f"Call it {self.metric.key}{suffix}." if named else "Use letters, digits and '_'."
            raise UsageError(message, place="metric", remedy=better)

    @property
    def fp32(self) -> Metric:
        return self._derived("fp32", "fp32", self.metric.unit, self.metric.direction)

    @property
    def int8(self) -> Metric:
        return self._derived("int8", "int8", self.metric.unit, self.metric.direction)

    @property
    def loss(self) -> Metric:
        """By how much int8 is worse than fp32, whatever the direction of the metric: `miou_loss_pp`."""
        unit = LOSS_UNITS.get(self.metric.unit, self.metric.unit)
        return self._derived("loss", "loss", unit, Direction.LOWER_IS_BETTER)

    @property
    def derived(self) -> tuple[Metric, Metric, Metric]:
        """What is measured: fp32, int8 and the loss from one to the other."""
        return self.fp32, self.int8, self.loss

    def measurements(self, fp32: float, int8: float, samples: int) -> dict[str, Measurement]:
        """The three of them, by key."""
        worse = fp32 - int8 if self.metric.direction is Direction.HIGHER_IS_BETTER else int8 - fp32
        found = zip(self.derived, (fp32, int8, worse), strict=True)
        return {metric.key: Measurement(metric, value, samples=samples) for metric, value in found}

    def _derived(self, word: str, title: str, unit: str, direction: Direction) -> Metric:
        stem = self.metric.key.removesuffix(_suffix(self.metric.unit))
        return Metric(
            f"{stem}_{word}{_suffix(unit)}", f"{self.metric.title} {title}", unit, direction, self.metric.digits
        )


def _suffix(unit: str) -> str:
    plain = SUFFIXES.get(unit, "".join(c if c.isalnum() else "_" for c in unit.lower()))
    return f"_{plain}" if plain else ""


class Accumulator:
    """One metric over one model's pass. Whatever its code does wrong becomes a sentence that names the metric."""

    def __init__(self, source: MetricSource, model: str) -> None:
        self._source, self._place = source, f"metric {source.metric.key}, {model}"
        self._stream: Stream = self._call("its stream", self._fresh)

    def update(self, outputs: Any, targets: Any) -> None:
        self._call("update", self._stream.update, outputs, targets)

    def compute(self) -> float:
        """The value. Raises MeasurementError: not a number, NaN, infinite, or the metric's own code raises."""
        found = self._call("compute", self._stream.compute)
        value = _number(found)
        if value is None:
            raise MeasurementError(
                f"it gives a {type(found).__name__}, not a number", place=self._place, remedy="Return a float."
            )
        if not math.isfinite(value):
            raise MeasurementError(f"it is {value}", place=self._place, remedy="Look for an empty class or a 0/0.")
        return value

    def _fresh(self) -> Stream:
        source = self._source
        stream: Any = _Joined(source.function) if source.function is not None else source.stream and source.stream()
        if not callable(getattr(stream, "update", None)) or not callable(getattr(stream, "compute", None)):
            remedy = "Give a class, or a function that returns an object, with update(outputs, targets) and compute()."
            message = f"stream makes a {type(stream).__name__} without update and compute"
            raise MeasurementError(message, place=self._place, remedy=remedy)
        return stream  # type: ignore[no-any-return]

    def _call(self, what: str, function: Callable[..., Any], *args: Any) -> Any:
        try:
            return function(*args)
        except MeasurementError:
            raise
        except Exception as error:
            text = " ".join(str(error).split()) or "without a word"
            raise MeasurementError(
                f"{what} raises {type(error).__name__}: {text}", place=self._place, remedy="Correct the metric's code."
            ) from error


class _Joined:
    """A function of everything, as a stream."""

    def __init__(self, function: Callable[[Any, Any], Any]) -> None:
        self._function = function
        self._outputs: list[Any] = []
        self._targets: list[Any] = []

    def update(self, outputs: Any, targets: Any) -> None:
        self._outputs.append(outputs)
        self._targets.append(targets)

    def compute(self) -> Any:
        return self._function(_join(self._outputs), _join(self._targets))


def _join(parts: list[Any]) -> Any:
    """Tensors along their first dimension, dicts and tuples part by part, lists one after the other."""
    import torch

    first = parts[0]
    if isinstance(first, torch.Tensor):
        return torch.cat(parts)
    if isinstance(first, Mapping):
        return {key: _join([part[key] for part in parts]) for key in first}
    if isinstance(first, tuple):
        return tuple(_join(list(same)) for same in zip(*parts, strict=True))
    return [item for part in parts for item in part]


def _number(found: Any) -> float | None:
    if isinstance(found, bool):
        return None
    if isinstance(found, int | float):
        return float(found)
    # A tensor or a numpy scalar that holds one number.
    item, size = getattr(found, "item", None), getattr(found, "numel", None)
    if not callable(item) or (callable(size) and size() != 1):
        return None
    try:
        value = item()
    except (TypeError, ValueError):  # an array of several
        return None
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def find(names: Iterable[str], registered: Mapping[str, MetricSource], place: str) -> tuple[MetricSource, ...]:
    """The sources of these names, without repetition. Raises UnknownNameError."""
    wanted = tuple(dict.fromkeys(names))
    for name in wanted:
        if name not in registered:
            raise UnknownNameError("metric", name, registered, place=place)
    return tuple(registered[name] for name in wanted)


def check_table(registered: Mapping[str, Any]) -> Mapping[str, Metric]:
    """Every metric that may have a limit, by key: the built-in ones and those derived from `registered`.

    Raises:
        UsageError: a source of another type, under another name than its key, or whose keys are taken.
    """
    known: dict[str, Metric] = dict(METRICS)
    for name, source in registered.items():
        if not isinstance(source, MetricSource):
            remedy = "Give MetricSource(Metric(...), stream=...)."
            raise UsageError(f"{name!r} is a {type(source).__name__}", place="registered metrics", remedy=remedy)
        if name != source.metric.key:
            message = f"{name!r} is registered with the key {source.metric.key!r}"
            raise UsageError(message, place="registered metrics", remedy="Give both the same name.")
        for metric in source.derived:
            if metric.key in known:
                message = f"{name!r} would be measured as {metric.key!r}, which is taken"
                raise UsageError(message, place="registered metrics", remedy="Choose another key.")
            known[metric.key] = metric
    return known
