"""Every int8 kernel, as the layers call it, against the integer reference."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from pytest_ptq.engine import affine, kernels, modules
from pytest_ptq.engine.activations import ACTIVATIONS
from pytest_ptq.engine.affine import UINT7, UINT8, QParams, choose_qparams

LARGEST = 127 if kernels.saturates_int16() else 255
"""Where sums saturate in int16, kernels are exact for seven bits only: what reduce_range is for."""

seeds = st.integers(0, 2**16)
zero_points = st.sampled_from([0, 1, 17, 100, LARGEST])
shapes = st.tuples(st.integers(1, 4), st.integers(1, 20), st.integers(1, 9), st.integers(1, 9))


def integers(*shape: int, seed: int) -> Tensor:
    return torch.randint(0, LARGEST + 1, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def real(x: Tensor, q: QParams) -> Tensor:
    return (x.double() - q.zero_point) * q.scale


def channels_last(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last)


def assert_close(actual: Tensor, expected: Tensor) -> None:
    """Bit for bit, but for values that rounding in fp32 moves across the border of a step."""
    assert actual.dtype is torch.uint8
    assert actual.shape == expected.shape
    steps = (actual.int() - expected.int()).abs()
    assert int(steps.max()) <= 1
    assert int((steps > 0).sum()) <= max(1, 0.01 * steps.numel())


@dataclass(frozen=True)
class Conv:
    """A random convolution, with what a kernel can meet."""

    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]
    groups: int
    inputs: int
    outputs: int
    size: tuple[int, int]
    batch: int
    bias: bool
    zero_channels: bool
    per_channel: bool
    seed: int

    def images(self) -> Tensor:
        return integers(self.batch, self.inputs, *self.size, seed=self.seed)

    def weights(self) -> tuple[Tensor, Tensor, Tensor | None]:
        generator = torch.Generator().manual_seed(self.seed + 1)
        shape = (self.outputs, self.inputs // self.groups, *self.kernel)
        # Channels differ by orders of magnitude, as they do behind a folded batch norm.
        weight = torch.randn(shape, generator=generator) * torch.logspace(-2, 0, self.outputs).view(-1, 1, 1, 1)
        if self.zero_channels:
            weight[:: max(self.outputs // 2, 1)] = 0
        scales = affine.weight_scales(weight, self.per_channel)
        bias = torch.randn(self.outputs, generator=generator) if self.bias else None
        return affine.quantize_weight(weight, scales), scales, bias

    def geometry(self) -> tuple[Any, ...]:
        return self.stride, self.padding, self.dilation, self.groups


def pairs(low: int, high: int) -> st.SearchStrategy[tuple[int, int]]:
    return st.tuples(st.integers(low, high), st.integers(low, high))


@st.composite
def convs(draw: st.DrawFn) -> Conv:
    groups = draw(st.sampled_from([1, 1, 2, 8]))
    per_group = 1 if groups == 8 else draw(st.integers(1, 12))  # depthwise among them
    outputs = groups * draw(st.integers(1, 3 if groups > 1 else 20))
    found = Conv(
        draw(pairs(1, 3)), draw(pairs(1, 3)), draw(pairs(0, 2)), draw(pairs(1, 2)), groups, groups * per_group, outputs,
        draw(pairs(1, 9)), draw(st.integers(1, 4)), draw(st.booleans()), draw(st.booleans()), draw(st.booleans()),
        draw(seeds),
    )  # fmt: skip
    for size, k, p, d in zip(found.size, found.kernel, found.padding, found.dilation, strict=True):
        assume(size + 2 * p >= d * (k - 1) + 1)
    return found


def reference(conv: Conv, x: Tensor, x_q: QParams) -> Tensor:
    """The convolution's exact result, in float64."""
    weight, scales, bias = conv.weights()
    sums = affine.conv2d_sums(x, x_q.zero_point, weight, *conv.geometry())
    y = sums.double() * (scales.double() * x_q.scale).view(1, -1, 1, 1)
    return y if bias is None else y + bias.double().view(1, -1, 1, 1)


def output_range(y: Tensor, bounds: tuple[int, int], clip: float) -> QParams:
    """As calibration would choose it, clipping some of the values."""
    return choose_qparams(float(y.min()) * clip, float(y.max()) * clip, bounds)


@settings(max_examples=200)
@given(convs(), st.sampled_from(sorted(ACTIVATIONS)), zero_points, st.sampled_from([UINT8, UINT7]), st.floats(0.5, 1))
def test_convolution(conv: Conv, activation: str, zero_point: int, bounds: tuple[int, int], clip: float) -> None:
    x, x_q = conv.images(), QParams(0.02, zero_point)
    expected = ACTIVATIONS[activation].function(reference(conv, x, x_q))
    out = output_range(expected, bounds, clip)
    layer = modules.QuantizedConv2d(*conv.weights(), activation, x_q, out, *conv.geometry())
    actual = layer(channels_last(x))
    assert_close(actual, affine.quantize(expected, out))
    assert int(actual.max()) <= bounds[1]
    if activation == "none":
        weight, scales, bias = conv.weights()
        sums = affine.conv2d_sums(x, zero_point, weight, *conv.geometry())
        assert_close(actual, affine.requantize(sums, scales.double() * x_q.scale, bias, out))


@given(convs(), st.sampled_from(sorted(ACTIVATIONS)), zero_points, st.integers(1, 200))
def test_convolution_with_any_output_zero_point(conv: Conv, activation: str, zero_point: int, out_zero: int) -> None:
    x, x_q = conv.images(), QParams(0.02, zero_point)
    expected = ACTIVATIONS[activation].function(reference(conv, x, x_q))
    out = QParams(max(float(expected.abs().max()) / 150, 1e-6), out_zero)
    layer = modules.QuantizedConv2d(*conv.weights(), activation, x_q, out, *conv.geometry())
    assert_close(layer(channels_last(x)), affine.quantize(expected, out))


@given(convs(), st.sampled_from(sorted(ACTIVATIONS)), zero_points)
def test_convolution_that_writes_fp32(conv: Conv, activation: str, zero_point: int) -> None:
    x, x_q = conv.images(), QParams(0.02, zero_point)
    expected = ACTIVATIONS[activation].function(reference(conv, x, x_q))
    actual = modules.QuantizedConv2d(*conv.weights(), activation, x_q, None, *conv.geometry())(channels_last(x))
    assert actual.dtype is torch.float32
    torch.testing.assert_close(actual.double(), expected, rtol=1e-5, atol=1e-5)


@given(
    convs(), st.sampled_from([n for n, a in ACTIVATIONS.items() if a.after_add]), zero_points, zero_points,
    st.sampled_from([UINT8, UINT7]), st.booleans(),
)  # fmt: skip
def test_convolution_with_a_residual(
    conv: Conv, activation: str, zero_point: int, other_zero: int, bounds: tuple[int, int], overwrites: bool
) -> None:
    x, x_q = conv.images(), QParams(0.02, zero_point)
    sums = reference(conv, x, x_q)
    residual, residual_q = (
        integers(*sums.shape, seed=conv.seed + 2),
        QParams(float(sums.std(False)) / 60 + 1e-4, other_zero),
    )
    expected = ACTIVATIONS[activation].function(sums + real(residual, residual_q))
    out = output_range(expected, bounds, 0.9)
    layer = modules.QuantizedConv2d(*conv.weights(), activation, x_q, out, *conv.geometry(), residual=residual_q)
    layer.overwrites = overwrites
    given_residual = residual.clone()
    actual = layer(channels_last(x), given_residual)
    assert_close(actual, affine.quantize(expected, out))
    assert int(actual.max()) <= bounds[1]
    if not overwrites:
        assert torch.equal(given_residual, residual)


@pytest.mark.parametrize("shape", [(2, 8, 1, 1), (1, 8, 5, 5), (2, 1, 5, 5), (2, 8, 1, 5)])
@pytest.mark.parametrize("activation", ["none", "relu"])
def test_a_residual_that_broadcasts(shape: tuple[int, ...], activation: str) -> None:
    conv = Conv((3, 3), (1, 1), (1, 1), (1, 1), 1, 8, 8, (5, 5), 2, True, False, True, 3)
    x, x_q, residual, residual_q = conv.images(), QParams(0.02, 5), integers(*shape, seed=4), QParams(0.05, 9)
    expected = ACTIVATIONS[activation].function(reference(conv, x, x_q) + real(residual, residual_q))
    out = output_range(expected, UINT8, 1.0)
    layer = modules.QuantizedConv2d(*conv.weights(), activation, x_q, out, *conv.geometry(), residual=residual_q)
    layer.overwrites = True
    assert_close(layer(channels_last(x), residual), affine.quantize(expected, out))


@pytest.mark.parametrize("layout", ["contiguous", "strided", "permuted", "sliced"])
def test_a_convolution_takes_any_layout(layout: str) -> None:
    conv = Conv((3, 3), (1, 1), (1, 1), (1, 1), 1, 8, 6, (6, 7), 2, True, False, True, 5)
    x = {
        "contiguous": conv.images(),
        "strided": integers(2, 8, 12, 14, seed=5)[:, :, ::2, ::2],
        "permuted": integers(8, 7, 6, 2, seed=5).permute(3, 0, 2, 1),
        "sliced": integers(4, 16, 6, 7, seed=5)[1:3, 4:12],
    }[layout]
    expected = reference(conv, x, QParams(0.02, 7))
    out = output_range(expected, UINT8, 1.0)
    layer = modules.QuantizedConv2d(*conv.weights(), "none", QParams(0.02, 7), out, *conv.geometry())
    assert_close(layer(x), affine.quantize(expected, out))


def test_a_convolution_meets_images_of_several_sizes() -> None:
    conv = Conv((3, 3), (1, 1), (1, 1), (1, 1), 1, 16, 32, (6, 7), 2, True, False, True, 5)
    x_q, out = QParams(0.02, 7), QParams(0.1, 128)
    layer = modules.QuantizedConv2d(*conv.weights(), "none", x_q, out, *conv.geometry())
    for batch, height, width in [(1, 5, 5), (3, 5, 5), (1, 28, 28), (1, 5, 5), (2, 14, 3)]:
        x = integers(batch, 16, height, width, seed=height)
        assert_close(layer(channels_last(x)), affine.quantize(reference(conv, x, x_q), out))


def test_weights_are_packed_once_for_each_image_size() -> None:
    packed_for: list[list[int]] = []
    packed = kernels.PackedFor(lambda shape: packed_for.append(shape) or torch.zeros(1))
    for batch, size in [(1, 5), (3, 5), (1, 28), (1, 28), (2, 5)]:
        packed(torch.zeros(batch, 16, size, size))
    assert packed_for == [[1, 16, 5, 5], [1, 16, 28, 28], [2, 16, 5, 5]]


@given(
    st.lists(st.integers(1, 4), min_size=0, max_size=2), st.integers(1, 70), st.integers(1, 33),
    st.sampled_from(sorted(ACTIVATIONS)), zero_points, st.sampled_from([UINT8, UINT7, None]), st.booleans(), seeds,
)  # fmt: skip
def test_linear(
    batch: list[int], inputs: int, outputs: int, activation: str, zero_point: int, bounds: Any, bias: bool, seed: int
) -> None:
    x, x_q = integers(*batch, 2, inputs, seed=seed), QParams(0.02, zero_point)
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(outputs, inputs, generator=generator)
    weight[0] = 0
    scales = affine.weight_scales(weight, per_channel=True)
    stored, shift = affine.quantize_weight(weight, scales), torch.randn(outputs, generator=generator) if bias else None
    sums = affine.linear_sums(x.flatten(0, -2), zero_point, stored).unflatten(0, x.shape[:-1])
    expected = sums.double() * scales.double() * x_q.scale + (0 if shift is None else shift.double())
    expected = ACTIVATIONS[activation].function(expected)
    out = None if bounds is None else output_range(expected, bounds, 0.8)
    actual = modules.QuantizedLinear(stored, scales, shift, activation, x_q, out)(x)
    if out is None:
        torch.testing.assert_close(actual.double(), expected, rtol=1e-5, atol=1e-5)
    else:
        assert_close(actual, affine.quantize(expected, out))
        assert int(actual.max()) <= out.quant_max


def test_linear_takes_a_transposed_input() -> None:
    x, weight = integers(16, 4, seed=1).T, torch.eye(16)
    scales = affine.weight_scales(weight, per_channel=True)
    q = QParams(0.5, 3)
    layer = modules.QuantizedLinear(affine.quantize_weight(weight, scales), scales, None, "none", q, q)
    assert_close(layer(x), x.contiguous())


@given(shapes, zero_points, zero_points, st.sampled_from([UINT8, UINT7]), st.booleans(), seeds)
def test_elementwise(
    shape: tuple[int, ...], a_zero: int, b_zero: int, bounds: tuple[int, int], gate: bool, seed: int
) -> None:
    """Sum and product, of tensors of one shape and with one value a channel."""
    a, a_q = integers(*shape, seed=seed), QParams(0.03, a_zero)
    b, b_q = integers(*shape[:2], *((1, 1) if gate else shape[2:]), seed=seed + 1), QParams(0.007, b_zero)
    for kind, expected in (
        (modules.QuantizedAdd, real(a, a_q) + real(b, b_q)),
        (modules.QuantizedMul, real(a, a_q) * real(b, b_q)),
    ):
        out = output_range(expected, bounds, 0.9)
        for first, first_q, second, second_q in ((a, a_q, b, b_q), (b, b_q, a, a_q)):
            assert_close(kind(first_q, second_q, out)(first, second), affine.quantize(expected, out))
            exact = kind(first_q, second_q, None)(first, second)
            torch.testing.assert_close(exact.double(), expected, rtol=1e-5, atol=1e-5)


@given(shapes, zero_points, st.booleans(), seeds)
def test_mean(shape: tuple[int, ...], zero_point: int, keepdim: bool, seed: int) -> None:
    x, q = integers(*shape, seed=seed), QParams(0.03, zero_point)
    expected = real(x, q).mean((2, 3), keepdim=keepdim)
    out = output_range(expected, UINT8, 0.9)
    assert_close(modules.QuantizedMean(q, out, keepdim)(x), affine.quantize(expected, out))
    exact = modules.QuantizedMean(q, None, keepdim)(x)
    torch.testing.assert_close(exact.double(), expected, rtol=1e-5, atol=1e-5)


@given(shapes, pairs(1, 3), st.one_of(st.none(), pairs(1, 3)), pairs(0, 1), pairs(1, 2), st.booleans(), seeds)
def test_max_pool_is_exact(
    shape: tuple[int, ...], kernel: tuple[int, int], stride: Any, padding: Any, dilation: Any, ceil: bool, seed: int
) -> None:
    padding = tuple(min(p, k // 2) for p, k in zip(padding, kernel, strict=True))
    for size, k, p, d in zip(shape[2:], kernel, padding, dilation, strict=True):
        assume(size + 2 * p >= d * (k - 1) + 1)
    x = channels_last(integers(*shape, seed=seed))
    expected = F.max_pool2d(x.float(), kernel, stride, padding, dilation, ceil)
    expected = expected.clamp(min=0)  # a window of padding alone: -inf in float, the smallest integer here
    actual = modules.QuantizedMaxPool2d(kernel, stride, padding, dilation, ceil)(x)
    assert actual.dtype is torch.uint8
    assert torch.equal(actual.float(), expected)
    assert actual.untyped_storage().data_ptr() != x.untyped_storage().data_ptr(), "a view could be overwritten"


@given(shapes, zero_points, st.one_of(st.none(), st.floats(0.1, 8)), st.sampled_from([UINT8, UINT7]), seeds)
def test_clamp(shape: tuple[int, ...], zero_point: int, ceiling: float | None, bounds: Any, seed: int) -> None:
    q = QParams(0.03, min(zero_point, bounds[1]), *bounds)
    x = integers(*shape, seed=seed).clamp(max=bounds[1])
    expected = real(x, q).clamp(0, ceiling)
    actual = modules.QuantizedClamp(q, ceiling)(x)
    assert float((real(actual, q) - expected).abs().max()) <= q.scale / 2 * 1.0001
    assert actual.data_ptr() != x.data_ptr()


@given(shapes, zero_points, st.floats(1e-3, 10), st.sampled_from([UINT8, UINT7]), seeds)
def test_quantize_and_dequantize(shape: tuple[int, ...], zero_point: int, scale: float, bounds: Any, seed: int) -> None:
    q = QParams(scale, min(zero_point, bounds[1]), *bounds)
    x = torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * 100 * scale
    before = x.clone()
    stored = modules.Quantize(q)(x)
    assert_close(stored, affine.quantize(x, q))
    torch.testing.assert_close(modules.DeQuantize(q)(stored), affine.dequantize(stored, q))
    assert torch.equal(x, before)


def test_float_kernels_know_the_activations_they_claim() -> None:
    x, weight = torch.randn(1, 4, 5, 5), torch.randn(6, 4, 3, 3) * 3
    geometry = ([1, 1], [1, 1], [1, 1], 1)
    packed = kernels.pack_float_conv2d(weight, *geometry)
    for name in kernels.FLOAT_ACTIVATIONS:
        actual = kernels.float_conv2d(x, packed(x), None, geometry, name)
        torch.testing.assert_close(
            actual, ACTIVATIONS[name].function(F.conv2d(x, weight, padding=1)), rtol=1e-4, atol=1e-4
        )
