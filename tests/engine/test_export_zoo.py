"""torchvision's models and a transformer as exported files: run in both runtimes, and held against torch's int8."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from benchmarks.zoo import logits
from benchmarks.zoo_models import ZOO, build, inputs
from engine.exported import RUNTIMES, answers
from pytest_ptq import engine
from pytest_ptq.engine import kernels
from pytest_ptq.engine.inspect import sqnr_db

QUICK = ("mobilenet_v3_small", "transformer_encoder")
"""The others take seconds each."""
LESS = 6.1 if kernels.saturates_int16() else 0.0
"""dB that reduce_range costs."""
ONNX_RUNTIME_LESS = 4.0
"""dB that rounding before activations and residuals may cost, on random weights."""


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(
            n, marks=pytest.mark.skipif(n not in QUICK and not os.environ.get("PTQ_ZOO"), reason="set PTQ_ZOO=1")
        )
        for n in ZOO
    ],
)
def test_a_model_of_the_zoo(name: str, tmp_path: Path) -> None:
    x = inputs(name, 4, seed=2)
    fused = engine.fuse(build(name))
    quantized = engine.quantize(fused, [inputs(name, 8)])
    with torch.inference_mode():
        expected = logits(fused, x)
    for runtime in RUNTIMES:
        path = engine.export_onnx(quantized, tmp_path / "int8.onnx", x, runtime=runtime, batches=[inputs(name, 8)])
        found = next(iter(answers(path, x, runtime).values()))
        less = LESS + (ONNX_RUNTIME_LESS if runtime == "onnxruntime" else 1.0)
        assert sqnr_db(expected, found) > ZOO[name].sqnr - less, runtime
        alone = next(iter(answers(path, x[:1], runtime).values()))
        assert sqnr_db(found[:1], alone) > 30
        size = path.stat().st_size
        path = engine.export_onnx(fused, tmp_path / "fp32.onnx", x, runtime=runtime)
        found = next(iter(answers(path, x, runtime).values()))
        torch.testing.assert_close(found, expected, atol=1e-3 * float(expected.abs().max()), rtol=1e-3)
        # Names and constants take some KB, which count in the transformer of 72 KB.
        assert size < 0.3 * path.stat().st_size + 40_000
