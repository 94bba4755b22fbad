"""Functions of a traced graph that become the nodes of ONNX's quantized models: QuantizeLinear and DequantizeLinear.

What they compute is what those nodes mean (ONNX operator set 13): `saturate(round(x / scale) + zero_point)`, rounded
half to even, and `(q - zero_point) * scale`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from pytest_ptq.engine.affine import QParams


class _RoundTrip(torch.autograd.Function):
    """float -> uint8 -> float. low, high: the integers that are kept; others are cut off."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: float, zero_point: int, low: int, high: int) -> Tensor:
        q = torch.round(x / scale).add_(zero_point).clamp_(low, high)
        return q.sub_(zero_point).mul_(scale)

    @staticmethod
    def symbolic(g: Any, x: Any, scale: float, zero_point: int, low: int, high: int) -> Any:
        steps = [_constant(g, scale, torch.float32), _constant(g, zero_point, torch.uint8)]
        q = g.op("QuantizeLinear", x, *steps)
        if low > 0 or high < 255:
            q = g.op("Clip", q, _constant(g, low, torch.uint8), _constant(g, high, torch.uint8))
        return g.op("DequantizeLinear", q, *steps)


class _Stored(torch.autograd.Function):
    """float -> the integers, uint8."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: float, zero_point: int) -> Tensor:
        return torch.round(x / scale).add_(zero_point).clamp_(0, 255).to(torch.uint8)

    @staticmethod
    def symbolic(g: Any, x: Any, scale: float, zero_point: int) -> Any:
        return g.op("QuantizeLinear", x, _constant(g, scale, torch.float32), _constant(g, zero_point, torch.uint8))


class _Read(torch.autograd.Function):
    """The integers, uint8, -> float. high: what lies above is cut off before."""

    @staticmethod
    def forward(ctx: Any, stored: Tensor, scale: float, zero_point: int, high: int) -> Tensor:
        return stored.float().clamp_(max=high).sub_(zero_point).mul_(scale)

    @staticmethod
    def symbolic(g: Any, stored: Any, scale: float, zero_point: int, high: int) -> Any:
        if high < 255:
            stored = g.op("Clip", stored, _constant(g, 0, torch.uint8), _constant(g, high, torch.uint8))
        steps = [_constant(g, scale, torch.float32), _constant(g, zero_point, torch.uint8)]
        return g.op("DequantizeLinear", stored, *steps)


class _Dequantize(torch.autograd.Function):
    """Stored integers with one scale for each index of `axis` -> float."""

    @staticmethod
    def forward(ctx: Any, stored: Tensor, scales: Tensor, axis: int) -> Tensor:
        shape = [1] * stored.ndim
        shape[axis] = -1
        return stored.double().mul_(scales.double().view(shape)).float()

    @staticmethod
    def symbolic(g: Any, stored: Any, scales: Any, axis: int) -> Any:
        # ONNX Runtime's QGemm asks for zero points, although none is what they say.
        zeros = torch.zeros(scales.type().sizes(), dtype=stored.type().dtype())
        return g.op("DequantizeLinear", stored, scales, g.op("Constant", value_t=zeros), axis_i=axis)


class _Gemm(torch.autograd.Function):
    """(N, C), (K, C), (K,) -> (N, K)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return torch.nn.functional.linear(x, weight, bias)

    @staticmethod
    def symbolic(g: Any, x: Any, weight: Any, bias: Any) -> Any:
        return g.op("Gemm", x, weight, *([] if _is_none(bias) else [bias]), transB_i=1)


class _Convolution(torch.autograd.Function):
    """A convolution of one, two or three dimensions. pads: before each dimension, then behind each."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        stride: Sequence[int],
        pads: Sequence[int],
        dilation: Sequence[int],
        groups: int,
    ) -> Tensor:
        dims = weight.ndim - 2
        around = [n for d in reversed(range(dims)) for n in (pads[d], pads[dims + d])]
        convolve: Any = (torch.conv1d, torch.conv2d, torch.conv3d)[dims - 1]
        y: Tensor = convolve(
            torch.nn.functional.pad(x, around), weight, bias, list(stride), [0] * dims, list(dilation), groups
        )
        return y

    @staticmethod
    def symbolic(g: Any, x: Any, weight: Any, bias: Any, stride: Any, pads: Any, dilation: Any, groups: int) -> Any:
        return g.op(
            "Conv", x, weight, *([] if _is_none(bias) else [bias]), strides_i=list(stride), pads_i=list(pads),
            dilations_i=list(dilation), group_i=groups, kernel_shape_i=list(weight.type().sizes()[2:]),
        )  # fmt: skip


def _constant(g: Any, value: float, dtype: torch.dtype) -> Any:
    return g.op("Constant", value_t=torch.tensor(value, dtype=dtype))


def _is_none(value: Any) -> bool:
    return value is None or value.node().mustBeNone()


def round_trip(x: Tensor, q: QParams, low: int = 0, high: int = 255) -> Tensor:
    """A float tensor as it comes back from its integers by `q`, of which low..high are kept."""
    y: Tensor = _RoundTrip.apply(x, q.scale, q.zero_point, low, high)
    return y


def store(x: Tensor, q: QParams) -> Tensor:
    """float -> uint8 by `q`, as a tensor of integers that several readers read in their own way."""
    y: Tensor = _Stored.apply(x, q.scale, q.zero_point)
    return y


def read(stored: Tensor, q: QParams, high: int = 255) -> Tensor:
    """uint8 -> float by `q`, cut off above the integer `high`."""
    y: Tensor = _Read.apply(stored, q.scale, q.zero_point, high)
    return y


def dequantize(stored: Tensor, scales: Tensor, axis: int = 0) -> Tensor:
    """int8 or int32 with scales (size of `axis`,) -> float32 of the same shape."""
    y: Tensor = _Dequantize.apply(stored, scales, axis)
    return y


def gemm(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """(N, C) and (K, C) -> (N, K), as one node."""
    y: Tensor = _Gemm.apply(x, weight, bias)
    return y


def convolution(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Sequence[int],
    pads: Sequence[int],
    dilation: Sequence[int],
    groups: int,
) -> Tensor:
    """A convolution as one node, whose padding may differ between the sides."""
    y: Tensor = _Convolution.apply(x, weight, bias, tuple(stride), tuple(pads), tuple(dilation), groups)
    return y
