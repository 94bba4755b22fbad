"""A small suite on noise, which counts how often it is read, for tests of `SuiteRun`."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from pytest_ptq.qconfig import QConfig
from pytest_ptq.suite import Suite, Variant


def build() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 32, 3, stride=2, padding=1),
        nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10),
    ).eval()  # fmt: skip


class Noise:
    """Noise that is labelled by the float model, and counts how often it is read."""

    name = "noise"

    def __init__(self, calibration: list[Tensor] | None = None) -> None:
        self.reads = {"load": 0, "calibration": 0, "evaluation": 0}
        generator = torch.Generator().manual_seed(0)
        self.images = torch.rand(96, 3, 8, 8, generator=generator)
        self.given = calibration
        with torch.inference_mode():
            self.labels = build()(self.images).argmax(1)

    def load(self, argument: str | None = None) -> Noise:
        self.reads["load"] += 1
        self.argument = argument
        return self

    def calibration(self) -> list[Tensor]:
        self.reads["calibration"] += 1
        return list(self.images[:32].split(16)) if self.given is None else self.given

    def evaluation(self) -> list[tuple[Tensor, Tensor]]:
        self.reads["evaluation"] += 1
        return list(zip(self.images[32:].split(16), self.labels[32:].split(16), strict=True))

    def fingerprints(self) -> tuple[Iterator[str], Iterator[str]]:
        return map(str, range(32)), map(str, range(32, 96))

    def calibration_labels(self) -> list[int] | None:
        return None


def suite(
    data: Noise, qconfigs: tuple[str | QConfig, ...] = ("x86", "minmax"), model: Callable[[], nn.Module] = build
) -> Suite:
    return Suite("tiny", {"embedded": Variant(model, data)}, qconfigs, latency_shape=(1, 3, 8, 8))
