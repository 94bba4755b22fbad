"""Convolutions over volumes: one int8 kernel, held against exact sums."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from engine.nets import Net, run, sqnr
from engine.test_kernels import assert_close, integers, output_range, seeds, zero_points
from pytest_ptq import engine
from pytest_ptq.engine import affine, kernels, modules
from pytest_ptq.engine.activations import ACTIVATIONS
from pytest_ptq.engine.affine import UINT7, UINT8, QParams
from pytest_ptq.engine.geometry import is_miscomputed
from pytest_ptq.engine.inspect import coverage


def triples(low: int, high: int) -> st.SearchStrategy[tuple[int, ...]]:
    return st.tuples(*[st.integers(low, high)] * 3)


def volumes(count: int = 4, channels: int = 3, size: int = 6) -> Tensor:
    return torch.randn(count, channels, size, size + 1, size, generator=torch.Generator().manual_seed(1))


@settings(max_examples=120)
@given(
    triples(1, 3), triples(1, 2), triples(0, 2), triples(1, 2), st.sampled_from([1, 1, 2, 4]), st.integers(1, 5),
    triples(1, 5), st.sampled_from(sorted(ACTIVATIONS)), zero_points, st.sampled_from([UINT8, UINT7, None]),
    st.booleans(), seeds,
)  # fmt: skip
def test_convolution(
    kernel: Any, stride: Any, padding: Any, dilation: Any, groups: int, per_group: int, size: Any, activation: str,
    zero_point: int, bounds: Any, bias: bool, seed: int,
) -> None:  # fmt: skip
    for n, k, p, d in zip(size, kernel, padding, dilation, strict=True):
        assume(n + 2 * p >= d * (k - 1) + 1)
    x, x_q = integers(2, groups * per_group, *size, seed=seed), QParams(0.02, zero_point)
    generator = torch.Generator().manual_seed(seed)
    real_weight = torch.randn(2 * groups, per_group, *kernel, generator=generator)
    scales = affine.weight_scales(real_weight, per_channel=True)
    weight, shift = affine.quantize_weight(real_weight, scales), torch.randn(2 * groups, generator=generator)
    geometry = (stride, padding, dilation, groups)
    sums = F.conv3d(x.double() - zero_point, weight.double(), None, *geometry)  # exact in float64
    expected = sums * (scales.double() * x_q.scale).view(-1, 1, 1, 1) + (
        shift.double().view(-1, 1, 1, 1) if bias else 0
    )
    expected = ACTIVATIONS[activation].function(expected)
    out = None if bounds is None else output_range(expected, bounds, 0.9)
    layer = modules.QuantizedConv3d(weight, scales, shift if bias else None, activation, x_q, out, *geometry)
    if out is None:
        torch.testing.assert_close(layer(x).double(), expected, rtol=1e-5, atol=1e-5)
    else:
        assert_close(layer(x), affine.quantize(expected, out))
        assert int(layer(x).max()) <= out.quant_max


def test_one_voxel_deep_and_depthwise_is_computed_without_the_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    """oneDNN is wrong about it; about the same volume two voxels deep it is right."""
    weight, scales = integers(4, 1, 3, 1, 1, seed=1).to(torch.int8), torch.full((4,), 0.01)
    q, calls, real = QParams(0.02, 0), [], kernels.conv2d
    monkeypatch.setattr(kernels, "conv2d", lambda *args: calls.append(1) or real(*args))
    layer = modules.QuantizedConv3d(weight, scales, None, "none", q, None, (1,) * 3, (1, 0, 0), (1,) * 3, 4)
    for depth, kernel_calls in ((1, 0), (2, 1)):
        x = integers(1, 4, depth, 5, 5, seed=2)
        assert is_miscomputed(x.shape[2:], *layer._where) == (depth == 1)
        expected = F.conv3d(x.double(), weight.double(), None, 1, (1, 0, 0), 1, 4) * 0.01 * 0.02
        torch.testing.assert_close(layer(x).double(), expected, rtol=1e-4, atol=1e-5)
        assert len(calls) == kernel_calls


@pytest.mark.parametrize(
    "options", [{}, {"stride": (1, 2, 1)}, {"dilation": 2}, {"groups": 2}, {"padding": "same"}, {"bias": False}]
)
def test_a_network(options: dict[str, Any], tmp_path: Path) -> None:
    def compute(m: Net, x: Tensor) -> Tensor:
        y = F.relu6(m.norm(m.a(x)))
        y = F.silu(m.b(y)) + F.max_pool3d(F.relu(m.d(y)), 3, 1, 1)
        y = F.conv3d(F.avg_pool3d(y, 2), m.e.weight, m.e.bias)
        return m.c(y.mean((2, 3, 4)))

    inner = nn.Conv3d(8, 8, 3, **{"padding": options.get("dilation", 1), **options, "stride": 1})
    first = nn.Conv3d(3, 8, 3, **{"padding": 1, "stride": options.get("stride", 1)})
    layers = {"norm": nn.BatchNorm3d(8), "b": inner, "d": nn.Conv3d(8, 8, 1), "e": nn.Conv3d(8, 8, 1)}
    model, x = Net(compute, a=first, **layers, c=nn.Linear(8, 4)), volumes()
    quantized = engine.quantize(model, [x])
    assert quantized.plan.fp32_layers == ()
    assert sum(isinstance(layer, modules.QuantizedConv3d) for layer in quantized.modules()) == 4
    assert sqnr(run(model, x), run(quantized, x)) > 22
    torch.testing.assert_close(run(engine.freeze(model), x), run(model, x), rtol=1e-4, atol=1e-4)
    loaded = engine.load(engine.save(quantized, tmp_path / "m.safetensors"))
    assert torch.equal(run(loaded, x), run(quantized, x))
    assert torch.equal(run(quantized, x[:1]), run(quantized, x)[:1])
    found = coverage(engine.fuse(model), quantized, x[:1])
    assert found.int8_macs == found.total_macs > 0


def test_bias_correction_reaches_it() -> None:
    model = Net(lambda m, x: m.b(F.relu(m.a(x))), a=nn.Conv3d(3, 8, 3), b=nn.Conv3d(8, 4, 1))
    quantized = engine.quantize(model, [volumes(8)], "x86+bias")
    assert quantized.plan.fp32_layers == ()
    assert sqnr(run(model, volumes()), run(quantized, volumes())) > 25


def test_padding_by_reflection_stays_in_fp32() -> None:
    model = Net(lambda m, x: m.b(m.a(x)), a=nn.Conv3d(3, 4, 3, padding=1, padding_mode="reflect"), b=nn.Conv3d(4, 4, 1))
    quantized = engine.quantize(model, [volumes()])
    assert quantized.plan.fp32_layers == (("a", "padding mode reflect"),)
