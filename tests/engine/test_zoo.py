"""torchvision's models and a transformer: captured, quantized, run in torch and in both runtimes, held against fp32."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from benchmarks.zoo import logits
from benchmarks.zoo_models import ZOO, build, inputs
from engine.exported import RUNTIMES, answers, answers_to_each
from pytest_ptq import engine
from pytest_ptq.engine import kernels
from pytest_ptq.engine.convert import QuantizedModule
from pytest_ptq.engine.fuse import FusedModule
from pytest_ptq.engine.inspect import coverage, sqnr_db

ALL_INT8 = set(ZOO) - {
    "convnext_tiny", "vit_b_16", "swin_t", "transformer_encoder", "deeplabv3_mobilenet_v3_large", "fcn_resnet50",
    "squeezenet1_1",
}  # fmt: skip
"""Models of which nothing at all stays in fp32."""
KNOWN = (
    "reads fp32 from", "moves values that only fp32 reads", "the mean and variance of what it reads",
    "int8 kernels multiply an activation by a constant weight", "exponentials over a row", "it depends on sizes alone",
    "its width is computed from sizes", "bilinear interpolation computes between values",
)  # fmt: skip
LESS = 6.1 if kernels.saturates_int16() else 0.0
"""dB that reduce_range costs."""
IN_A_RUNTIME = {"onnxruntime": 4.0, "openvino": 1.0}
"""dB that rounding before activations and residuals may cost, on random weights."""
QUICK = ("mobilenet_v3_small", "transformer_encoder")
"""Exported in a quick run: the others take seconds each."""


@dataclass(frozen=True)
class Made:
    """A model in its three stages, and what fp32 answers to `x`."""

    name: str
    model: nn.Module
    fused: FusedModule
    quantized: QuantizedModule
    x: Tensor
    expected: Tensor


def _is_left_out(name: str) -> bool:
    return ZOO[name].heavy and not os.environ.get("PTQ_ZOO")


@pytest.fixture(
    scope="module",
    params=[pytest.param(n, marks=pytest.mark.skipif(_is_left_out(n), reason="set PTQ_ZOO=1")) for n in ZOO],
)
def made(request: pytest.FixtureRequest) -> Made:
    name: str = request.param
    model, x = build(name), inputs(name, 4, seed=2)
    fused = engine.fuse(model)
    with torch.inference_mode():
        expected = logits(model, x)
    return Made(name, model, fused, engine.quantize(fused, [inputs(name, 8)]), x, expected)


@pytest.fixture
def exported(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files are what runtimes judge: torch's exporter spends most of its time looking over graphs of its own making."""
    if made.name not in QUICK and not os.environ.get("PTQ_ZOO"):
        pytest.skip("set PTQ_ZOO=1")
    monkeypatch.setattr(torch._C, "_jit_pass_lint", lambda graph: None)


def test_in_torch(made: Made, tmp_path: Path) -> None:
    name, x = made.name, made.x
    with torch.inference_mode():
        actual, alone = logits(made.quantized, x), logits(made.quantized, x[:1])
    assert sqnr_db(made.expected, actual) > ZOO[name].sqnr - LESS
    torch.testing.assert_close(alone, actual[:1])

    found = coverage(made.fused, made.quantized, x[:1])
    assert found.int8_macs >= ZOO[name].int8 * found.total_macs
    assert found.detours == 0
    assert [why for _, why in found.fp32_layers if not why.startswith(KNOWN)] == []
    if name in ALL_INT8:
        assert found.fp32_layers == ()

    again = engine.load(engine.save(made.quantized, tmp_path / "model.safetensors"))
    with torch.inference_mode():
        assert torch.equal(logits(again, x), actual)
    # A graph takes some KB, which count in the transformer of 72 KB.
    assert engine.size_mb(made.quantized) < 0.35 * engine.size_mb(made.model) + 0.02


@pytest.mark.usefixtures("exported")
def test_as_files(made: Made, tmp_path: Path) -> None:
    """int8 written for each runtime; fp32 once, for its file is the same but for the runtime that it names."""
    x = made.x
    fp32 = engine.export_onnx(made.fused, tmp_path / "fp32.onnx", x)
    for runtime in RUNTIMES:
        batches = [inputs(made.name, 8)]
        int8 = engine.export_onnx(made.quantized, tmp_path / "int8.onnx", x, runtime=runtime, batches=batches)
        found, alone = (next(iter(answered.values())) for answered in answers_to_each(int8, [x, x[:1]], runtime))
        assert sqnr_db(made.expected, found) > ZOO[made.name].sqnr - LESS - IN_A_RUNTIME[runtime], runtime
        assert sqnr_db(found[:1], alone) > 30
        found = next(iter(answers(fp32, x, runtime).values()))
        torch.testing.assert_close(found, made.expected, atol=1e-3 * float(made.expected.abs().max()), rtol=1e-3)
        # Names and constants take some KB, which count in the transformer of 72 KB.
        assert int8.stat().st_size < 0.3 * fp32.stat().st_size + 40_000
