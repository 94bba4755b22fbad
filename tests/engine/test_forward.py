"""Calibration runs the packed convolutions: the same numbers up to rounding, each weight packed once."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from engine.nets import images, residual_net
from pytest_ptq import engine
from pytest_ptq.engine import kernels
from pytest_ptq.engine.blocks import Block, ConvBlock
from pytest_ptq.engine.forward import StageRunner, run_stage
from pytest_ptq.engine.observers import collect
from pytest_ptq.errors import DataError


class Sequence(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.norm = nn.Conv1d(3, 8, 3, padding=1), nn.BatchNorm1d(8)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = torch.relu(self.norm(self.conv(x)))
        return found


@pytest.mark.parametrize(("model", "x"), [(residual_net(), images(4)), (Sequence(), torch.randn(2, 3, 20))])
def test_packed_and_plain_differ_by_rounding_alone(model: nn.Module, x: Tensor) -> None:
    fused = engine.fuse(model.eval())
    with torch.inference_mode():
        assert torch.allclose(run_stage(StageRunner(fused), x, "batch"), fused(x), atol=1e-5)


def test_every_weight_is_packed_once_and_no_plain_convolution_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    prepared = engine.prepare(residual_net())
    convolutions = [m for m in prepared.modules() if isinstance(m, ConvBlock)]
    packed: list[int] = []
    real = torch.ops.mkldnn._reorder_convolution_weight

    def packing(weight: Tensor, *geometry: object) -> Tensor:
        packed.append(weight.data_ptr())
        found: Tensor = real(weight, *geometry)
        return found

    monkeypatch.setattr(kernels.onednn._mkldnn, "_reorder_convolution_weight", packing)
    monkeypatch.setattr(ConvBlock, "_compute", lambda *_: pytest.fail("a convolution with unpacked weights"))
    engine.calibrate(prepared, [images(2), images(3), images(1)])
    assert sorted(packed) == sorted(m.weight.data_ptr() for m in convolutions)


def test_the_prepared_model_stays_as_it_is() -> None:
    prepared = engine.prepare(residual_net())
    before, layers = str(prepared), [type(m) for m in prepared.modules()]
    engine.calibrate(prepared, [images(2)])
    assert [type(m) for m in prepared.modules()] == layers
    assert [line for line in str(prepared).splitlines() if "Observer" not in line] == [
        line for line in before.splitlines() if "Observer" not in line
    ]


def test_each_tensor_is_read_for_its_extremes_once_and_counted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    prepared = engine.prepare(residual_net())
    read: list[str] = []
    for name in ("extremes", "add_histogram"):
        real = getattr(collect, name)

        def noted(*args: object, name: str = name, real: object = real) -> object:
            read.append(name)
            return real(*args)  # type: ignore[operator]

        monkeypatch.setattr(collect, name, noted)
    engine.calibrate(prepared, [images(2)] * 3)
    observers = 3 * len(prepared.observers())
    assert (read.count("extremes"), read.count("add_histogram")) == (observers, observers)


@pytest.mark.parametrize("bad", [images(2, channels=4), images(2).double(), torch.zeros(2, 3)])
def test_what_the_kernel_would_not_check_meets_the_plain_layer(bad: Tensor) -> None:
    runner = StageRunner(engine.fuse(residual_net()))
    with pytest.raises(DataError, match="batch 7, layer conv1: input of shape"):
        run_stage(runner, bad, "batch 7")


def test_a_weight_that_is_no_float32_is_not_packed() -> None:
    fused = engine.fuse(residual_net())
    for layer in fused.modules():
        if isinstance(layer, Block):
            layer.weight = layer.weight.double()
            layer.bias = None if layer.bias is None else layer.bias.double()
    with torch.inference_mode():
        assert run_stage(StageRunner(fused), images(2).double(), "batch").dtype is torch.float64
