"""int8 against fp32 on the evaluation images; fp32 sees them once, whatever is held against it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Sized
from functools import cached_property
from typing import TYPE_CHECKING, Any

from pytest_ptq.metrics import Measurement

if TYPE_CHECKING:
    from torch import Tensor, nn

    from pytest_ptq.runner.models import SuiteModels


KEPT_BYTES = 1 << 26
"""Logits of int8 models up to this size are kept, for whoever holds them against those of another runtime."""


class Evaluation:
    """What the models of one suite answer to its evaluation images.

    Args:
        models: of the suite; its fair fp32 is what everything is held against.
    """

    def __init__(self, models: SuiteModels) -> None:
        self._models = models
        self.fp32_logits: tuple[Tensor, Tensor] | None = None
        """Logits (images, classes) and labels (images,), once they are known."""
        self._int8_logits: dict[str, Tensor] = {}

    def compare(self, int8: nn.Module, title: str, *, calibrated: bool = True) -> dict[str, Measurement]:
        """Every accuracy metric of the suite, keyed by metric.

        Args:
            int8: takes images (n, ...) and returns what the fp32 model does.
            title: what the progress display says.
            calibrated: it was made from the suite's calibration images, so that it matters which classes they show.
        """
        from pytest_ptq.measure.accuracy import compare
        from pytest_ptq.measure.outputs import compare_outputs, from_logits

        suite, metrics = self._models.suite, self._models.metrics
        if not suite.top1:
            return compare_outputs(self._models.fp32, int8, self._batches(title), metrics)
        first = self.fp32_logits is None
        fp32_logits, logits, labels = self._logits(int8, title)
        if logits.nbytes <= KEPT_BYTES:
            self._int8_logits[title] = logits
        own = from_logits(fp32_logits, logits, labels, metrics)
        seen = self._class_coverage if calibrated else {}
        if first:
            # Every image has been seen by it: whatever comes now holds models of its own.
            self._models.forget_fp32()
        return {**compare(fp32_logits, logits, labels), **own, **seen}

    def kept(self, title: str) -> Tensor | None:
        """Logits (images, classes) of an int8 model that was compared under `title`; None where they are not kept."""
        return self._int8_logits.get(title)

    def answers(self, one: nn.Module, other: nn.Module, title: str) -> Iterator[tuple[Any, Any, int]]:
        """What two models answer to each batch, and how many images it has. Raises DataError."""
        import torch

        from pytest_ptq.measure.accuracy import forward

        with torch.inference_mode():
            for number, batch in enumerate(self._batches(title)):
                images, place = batch[0], f"evaluation batch {number}"
                yield forward(one, images, place), forward(other, images, place), len(images)

    def images(self, numbers: Sequence[int]) -> Tensor:
        """The images with these numbers, in the order of evaluation, (N, ...)."""
        import torch

        found: dict[int, Tensor] = {}
        start = 0
        for images, _ in self._models.dataset.evaluation():
            found.update({n: images[n - start] for n in numbers if start <= n < start + len(images)})
            start += len(images)
            if len(found) == len(numbers):
                break
        return torch.stack([found[n] for n in numbers])

    def _logits(self, int8: nn.Module, title: str) -> tuple[Tensor, Tensor, Tensor]:
        """Logits of fp32 and of int8, and labels. int8 comes first: by then it is known whose logits may be kept."""
        from pytest_ptq.fp32_results import Fp32Results
        from pytest_ptq.measure.accuracy import collect_logits

        if self.fp32_logits is not None:
            logits, _ = collect_logits(int8, self._batches(title))
            return self.fp32_logits[0], logits, self.fp32_logits[1]
        kept = Fp32Results(self._models.results_cache, self._models.fused)
        logits, labels = collect_logits(int8, kept.watch(self._batches(title)))
        fp32 = kept.find(len(labels))
        if fp32 is None:
            fp32, _ = collect_logits(self._models.fp32, self._batches("evaluating fp32"))
            kept.keep(fp32)
        self.fp32_logits = fp32, labels
        return fp32, logits, labels

    def _batches(self, title: str) -> Iterator[Any]:
        batches = self._models.dataset.evaluation()
        return self._models.progress(batches, title, len(batches) if isinstance(batches, Sized) else None)

    @cached_property
    def _class_coverage(self) -> Mapping[str, Measurement]:
        from pytest_ptq.measure.classes import class_coverage

        assert self.fp32_logits is not None  # whoever asks has just evaluated
        logits, labels = self.fp32_logits
        known = getattr(self._models.dataset, "calibration_labels", lambda: None)()
        seen = self._predicted_classes() if known is None else list(known)
        return class_coverage(seen, labels.tolist(), logits.shape[1], predicted=known is None)

    def _predicted_classes(self) -> list[int]:
        """What the float model makes of the calibration images. Costs a small part of calibrating on them."""
        import torch

        batches = self._models.dataset.calibration()
        total = len(batches) if isinstance(batches, Sized) else None
        with torch.inference_mode():
            shown = self._models.progress(batches, "classes of the calibration images", total)
            return [label for batch in shown for label in self._models.fp32(batch).argmax(1).tolist()]
