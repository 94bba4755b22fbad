from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from pytest_ptq.errors import DataError, MeasurementError
from pytest_ptq.measure.custom import MetricSource
from pytest_ptq.measure.outputs import CHUNK, compare_outputs, from_logits
from pytest_ptq.metrics import Direction, Metric

MIOU = Metric("miou_percent", "mIoU", "%", Direction.HIGHER_IS_BETTER)


class MeanIoU:
    """Two classes, from counts alone."""

    def __init__(self) -> None:
        self.shared = torch.zeros(2)
        self.joined = torch.zeros(2)

    def update(self, outputs: dict[str, Tensor], targets: Tensor) -> None:
        found = outputs["out"].argmax(1)
        for c in range(2):
            self.shared[c] += ((found == c) & (targets == c)).sum()
            self.joined[c] += ((found == c) | (targets == c)).sum()

    def compute(self) -> Tensor:
        return 100 * (self.shared / self.joined).mean()


class Segmenter(nn.Module):
    def __init__(self, shift: float = 0.0) -> None:
        super().__init__()
        self.shift = shift

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"out": torch.cat([x, -x + self.shift], 1), "count": torch.ones(len(x), dtype=torch.int64)}


def maps(batches: int = 3) -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(0)
    images = [torch.randn(2, 1, 4, 4, generator=generator) for _ in range(batches)]
    return [(x, (x < 0).squeeze(1).long()) for x in images]


def test_segmentation_by_hand() -> None:
    found = compare_outputs(Segmenter(), Segmenter(0.5), maps(), [MetricSource(MIOU, MeanIoU)])
    x = torch.cat([x for x, _ in maps()])
    a, b = (x < 0), (x < 0.25)
    iou = 50 * float((a & b).sum() / (a | b).sum() + (~a & ~b).sum() / (~a | ~b).sum())
    assert found["miou_fp32_percent"].value == 100
    assert found["miou_int8_percent"].value == pytest.approx(iou, rel=1e-5)
    assert found["miou_loss_pp"].value == pytest.approx(100 - iou, rel=1e-5)
    assert found["miou_loss_pp"].samples == 6
    signal, noise = 2 * float(x.double().square().sum()), float(x.numel()) * 0.25
    # The second channel of fp32 is -x.
    assert found["sqnr_db"].value == pytest.approx(10 * math.log10(signal / noise), rel=1e-5)


def test_nothing_of_a_batch_is_kept() -> None:
    """However many batches go by, no output outlives its batch."""
    import gc
    import weakref

    alive: list[Any] = []
    most = [0]

    class Watched(Segmenter):
        def forward(self, x: Tensor) -> dict[str, Tensor]:
            gc.collect()
            most[0] = max(most[0], sum(ref() is not None for ref in alive))
            out = super().forward(x)
            alive.append(weakref.ref(out["out"]))
            return out

    compare_outputs(Watched(), Watched(), maps(8), [MetricSource(MIOU, MeanIoU)])
    assert most[0] <= 3, "a batch of each model, and the one before until it is replaced"


def test_outputs_of_different_forms_have_metrics_and_no_sqnr() -> None:
    class Boxes(nn.Module):
        def __init__(self, count: int) -> None:
            super().__init__()
            self.count = count

        def forward(self, x: Tensor) -> list[dict[str, Tensor]]:
            return [{"boxes": torch.ones(self.count, 4)} for _ in x]

    class Count:
        total = 0

        def update(self, outputs: Any, targets: Any) -> None:
            self.total += sum(len(one["boxes"]) for one in outputs) - len(targets)

        def compute(self) -> int:
            return self.total

    metric = MetricSource(Metric("boxes", "boxes", "", Direction.HIGHER_IS_BETTER), Count)
    found = compare_outputs(Boxes(3), Boxes(2), [(torch.ones(2, 3), ["a"])], [metric])
    assert {key: m.value for key, m in found.items()} == {"boxes_fp32": 5, "boxes_int8": 3, "boxes_loss": 2}


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_outputs_that_are_not_finite_name_batch_and_place(value: float) -> None:
    bad = [*maps(1), (torch.full((1, 1, 2, 2), value), torch.zeros(1, 2, 2))]
    with pytest.raises(MeasurementError, match=r"evaluation batch 1: the output\['out'\] is not finite"):
        compare_outputs(Segmenter(), Segmenter(), bad, [])


@pytest.mark.parametrize(
    ("batches", "said"),
    [
        ([], "no images to evaluate"),
        ([torch.ones(2, 1)], "a Tensor is not a pair of input tensor and targets"),
        ([([1], [2])], "a tuple is not a pair"),
    ],
)
def test_batches_of_another_form_are_refused(batches: list[Any], said: str) -> None:
    with pytest.raises(DataError, match=said):
        compare_outputs(Segmenter(), Segmenter(), batches, [])


def test_a_model_that_returns_no_tensor_is_told_so() -> None:
    class Words(nn.Module):
        def forward(self, x: Tensor) -> str:
            return "cat"

    with pytest.raises(MeasurementError, match="the model returns str, in which there is no tensor of floats"):
        compare_outputs(Words(), Words(), maps(), [])


def test_a_classifiers_logits_reach_the_metric_in_pieces() -> None:
    sizes: list[int] = []

    class Recall:
        right = seen = 0

        def update(self, outputs: Tensor, targets: Tensor) -> None:
            sizes.append(len(outputs))
            self.right += int((outputs.argmax(1) == targets).sum())
            self.seen += len(targets)

        def compute(self) -> float:
            return self.right / self.seen

    labels = torch.arange(CHUNK + 4) % 3
    fp32 = nn.functional.one_hot(labels, 3).float()
    int8 = fp32.clone()
    int8[:26] = fp32[:26].roll(1, 1)
    source = MetricSource(Metric("recall", "recall", "", Direction.HIGHER_IS_BETTER), Recall)
    found = from_logits(fp32, int8, labels, [source])
    assert found["recall_fp32"].value == 1
    assert found["recall_loss"].value == pytest.approx(26 / (CHUNK + 4))
    assert sizes == [CHUNK, 4, CHUNK, 4]
