"""However many images there are, only a batch or two of them lives at a time, and each qconfig adds the same passes."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from pytest_ptq.runner import SuiteRun
from pytest_ptq.suite import Suite, Variant

QCONFIGS = ("x86", "minmax", "percentile", "mse")
CALIBRATED = 4
"""Batches that calibrate."""


def build() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 10)).eval()


class Stream:
    """Makes batches when they are asked for, and counts how many were alive at once, and how many were made."""

    name = "stream"

    def __init__(self, batches: int) -> None:
        self.batches = batches
        self.alive: weakref.WeakSet[Tensor] = weakref.WeakSet()
        self.most, self.made = 0, 0

    def load(self, argument: str | None = None) -> Stream:
        return self

    def _batch(self, number: int) -> Tensor:
        x = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(number))
        self.alive.add(x)
        self.most, self.made = max(self.most, len(self.alive)), self.made + 1
        return x

    def calibration(self) -> Iterator[Tensor]:
        return (self._batch(number) for number in range(CALIBRATED))

    def calibration_labels(self) -> list[int]:
        return [0, 1] * CALIBRATED

    def evaluation(self) -> Iterator[tuple[Tensor, Tensor]]:
        return ((self._batch(CALIBRATED + n), torch.tensor([n % 10, 0])) for n in range(self.batches))

    def fingerprints(self) -> tuple[Iterator[str], Iterator[str]]:
        return map(str, range(CALIBRATED)), (str(CALIBRATED + n) for n in range(self.batches))


def judge(batches: int, qconfigs: tuple[str, ...], cache: Path | None = None) -> Stream:
    data = Stream(batches)
    run = SuiteRun(Suite("tiny", {"embedded": Variant(build, data)}, qconfigs, (1, 3, 8, 8)), results_cache=cache)
    for qconfig in run.qconfigs:
        run.measure("accuracy", qconfig)
    return data


@pytest.mark.parametrize("batches", [4, 400])
@pytest.mark.parametrize("cached", [False, True], ids=["", "cached"])
def test_images_stream(batches: int, cached: bool, tmp_path: Path) -> None:
    data = judge(batches, QCONFIGS[:2], tmp_path if cached else None)
    assert data.most <= 2, "the one that the model reads, and the next one"
    assert data.made == CALIBRATED + batches * 3, "calibration once, fp32 once, int8 for each qconfig"


def test_each_qconfig_costs_one_evaluation() -> None:
    passes = [judge(10, QCONFIGS[:count]).made - CALIBRATED for count in (1, 2, 3, 4)]
    assert passes == [20, 30, 40, 50]


def test_the_stream_sees_who_keeps_batches() -> None:
    data = Stream(4)
    kept = list(data.evaluation())
    assert data.most == len(kept) == 4
