"""torchvision's models and a transformer: captured, quantized, run, held against fp32, saved and read again."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from benchmarks.zoo import logits
from benchmarks.zoo_models import ZOO, build, inputs
from pytest_ptq import engine
from pytest_ptq.engine import kernels
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


def _is_left_out(name: str) -> bool:
    return ZOO[name].heavy and not os.environ.get("PTQ_ZOO")


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=pytest.mark.skipif(_is_left_out(n), reason="takes seconds: set PTQ_ZOO=1")) for n in ZOO],
)
def test_a_model_of_the_zoo(name: str, tmp_path: Path) -> None:
    model, x = build(name), inputs(name, 4, seed=2)
    fused = engine.fuse(model)
    quantized = engine.quantize(fused, [inputs(name, 8)])
    with torch.inference_mode():
        expected, actual = logits(model, x), logits(quantized, x)
        alone = logits(quantized, x[:1])
    assert sqnr_db(expected, actual) > ZOO[name].sqnr - LESS
    torch.testing.assert_close(alone, actual[:1])

    found = coverage(fused, quantized, x[:1])
    assert found.int8_macs >= ZOO[name].int8 * found.total_macs
    assert found.detours == 0
    assert [why for _, why in found.fp32_layers if not why.startswith(KNOWN)] == []
    if name in ALL_INT8:
        assert found.fp32_layers == ()

    again = engine.load(engine.save(quantized, tmp_path / "model.safetensors"))
    with torch.inference_mode():
        assert torch.equal(logits(again, x), actual)
    # A graph takes some KB, which count in the transformer of 72 KB.
    assert engine.size_mb(quantized) < 0.35 * engine.size_mb(model) + 0.02
