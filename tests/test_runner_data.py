"""SuiteRun and the data of a suite: images on both sides, classes, metrics of one's own, outputs of any kind."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from small_run import Noise, build, suite
from torch import Tensor, nn

from pytest_ptq.errors import DataError, UnknownNameError
from pytest_ptq.measure.custom import MetricSource
from pytest_ptq.metrics import (
    CALIBRATION_CLASSES,
    SQNR,
    TOP1_FP32,
    Direction,
    Metric,
)
from pytest_ptq.qconfig import MINMAX, X86
from pytest_ptq.runner import SuiteRun
from pytest_ptq.sources import Batches
from pytest_ptq.suite import Suite, Variant


class Shared(Noise):
    """Evaluates on an image that it calibrates with."""

    def evaluation(self) -> list[tuple[Tensor, Tensor]]:
        return [*super().evaluation(), (self.images[5:6], self.labels[5:6])]


class Telling(Shared):
    def fingerprints(self) -> tuple[Iterator[str], Iterator[str]]:
        return map(str, range(32)), map(str, (*range(32, 96), 5))


class Nameless(Shared):
    fingerprints = None  # type: ignore[assignment]


@pytest.mark.parametrize("data", [Telling(), Nameless()])
@pytest.mark.parametrize("gates", [("accuracy",), ("size", "accuracy")])
def test_an_image_on_both_sides_is_an_error_for_every_data_set(data: Noise, gates: tuple[str, ...]) -> None:
    run = SuiteRun(suite(data))
    with pytest.raises(DataError, match=r"noise.*1 image stands .*the first is"):
        [run.measure(gate, X86) for gate in gates]


def test_a_loader_that_shares_an_image_is_an_error_too() -> None:
    noise = Noise()
    shared = [(noise.images[:4], noise.labels[:4])]
    made = Suite("tiny", {"own": Variant(build, Batches(noise.calibration(), shared))}, latency_shape=(1, 3, 8, 8))
    with pytest.raises(DataError, match="4 images stand also in batches, calibration; the first is image 0"):
        SuiteRun(made).measure("accuracy", X86)


@pytest.mark.parametrize(("labels", "source"), [(None, "fp32 predictions"), ([0] * 32, "labels")])
def test_the_classes_that_calibration_saw(labels: list[int] | None, source: str) -> None:
    data = Noise()
    data.calibration_labels = lambda: labels  # type: ignore[method-assign]
    run = SuiteRun(suite(data))
    found = run.measure("accuracy", X86)[CALIBRATION_CLASSES.key]
    asked = set(data.labels[32:].tolist())
    seen = set(data.labels[:32].tolist()) if labels is None else {0}
    assert found.value == pytest.approx(100 * len(asked & seen) / len(asked))
    assert found.details["class_source"] == source
    assert found.details["calibration_images"] == 32
    reads = data.reads["calibration"]
    run.measure("accuracy", MINMAX)
    assert data.reads["calibration"] == reads, "once for all qconfigs"


class Norm:
    """The mean size of what the model returns, from its sum alone."""

    def __init__(self) -> None:
        self.sum, self.count = 0.0, 0

    def update(self, outputs: Any, targets: Any) -> None:
        tensor = outputs["out"] if isinstance(outputs, dict) else outputs
        self.sum += float(tensor.double().square().sum())
        self.count += len(tensor)

    def compute(self) -> float:
        return self.sum / self.count


NORM = {"norm": MetricSource(Metric("norm", "norm", "", Direction.HIGHER_IS_BETTER), Norm)}


def test_a_metric_of_ones_own_stands_beside_top1() -> None:
    run = SuiteRun(replace(suite(Noise()), metrics=("norm",)), metrics=NORM)
    found = run.measure("accuracy", X86)
    assert TOP1_FP32.key in found
    logits = run.evaluation.fp32_logits[0]
    assert found["norm_fp32"].value == pytest.approx(float(logits.double().square().sum()) / 64)
    assert found["norm_loss"].value == pytest.approx(found["norm_fp32"].value - found["norm_int8"].value)


class Maps(nn.Module):
    """Returns what torchvision's segmentation models do."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 4, 1))

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"out": self.body(x)}


def test_outputs_that_are_no_classes() -> None:
    data = Noise()
    data.labels = torch.zeros(96, 8, 8)
    made = replace(suite(data, model=lambda: Maps().eval()), metrics=("norm",), top1=False)
    found = SuiteRun(made, metrics=NORM).measure("accuracy", X86)
    assert set(found) == {"norm_fp32", "norm_int8", "norm_loss", SQNR.key}
    assert found[SQNR.key].value > 20
    assert found["norm_loss"].samples == 64
    assert data.reads["evaluation"] == 1


def test_a_metric_that_nobody_registered() -> None:
    with pytest.raises(UnknownNameError, match=r"suite tiny: unknown metric 'nrom'. Did you mean 'norm'\?"):
        SuiteRun(replace(suite(Noise()), metrics=("nrom",)), metrics=NORM)
