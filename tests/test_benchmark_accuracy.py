"""The accuracy table: every preset has a row, a preset that fails says why, and other engines' figures stand beside."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from engine.nets import images, residual_net

from benchmarks import accuracy
from pytest_ptq import engine
from pytest_ptq.errors import QuantizationError
from pytest_ptq.qconfig import PRESETS, QConfig


class Run:
    """As much of a SuiteRun as the table asks for."""

    class Suite:
        name = "mobilenet_v2_kit"

    class Data:
        def evaluation(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
            return ((images(4, 16, seed=s), torch.arange(4)) for s in range(3))

    suite, dataset = Suite(), Data()

    def __init__(self) -> None:
        self.fp32 = engine.fuse(residual_net())

    def quantized(self, qconfig: QConfig) -> Any:
        if qconfig.name == "entropy":
            raise QuantizationError("too much disorder")
        return engine.quantize(residual_net(), [images()], QConfig(qconfig.name, "minmax"))


def test_every_preset_and_every_rival_has_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accuracy, "IMAGES", 8)
    text = accuracy.section(Run())  # type: ignore[arg-type]
    rows = {line.split("|")[1].strip(): line for line in text.splitlines() if line.startswith("|")}
    for name in (*PRESETS, "ONNX Runtime Percentile", "torch FX x86 (histogram, per channel)"):
        assert name in rows, name
    assert "too much disorder" in rows["entropy"]
    assert "22.4" in rows["ONNX Runtime Percentile"]


def test_suites_without_embedded_data_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accuracy, "KIT", "")
    assert [run.suite.name for run in accuracy._runs()] == ["mobilenet_v2", "mobilenet_v3_small", "resnet50"]
