"""What step of a program each int8 layer becomes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import fx

from pytest_ptq.engine.deployment.rearrange import SHAPES
from pytest_ptq.engine.deployment.walk import FLOAT, Concatenated, Flat, NotNativeError, Vocabulary, Walk
from pytest_ptq.engine.kernels import native
from pytest_ptq.engine.modules import (
    Int8Layer,
    Quantize,
    QuantizedAdaptiveAvgPool2d,
    QuantizedAdd,
    QuantizedAvgPool2d,
    QuantizedCat,
    QuantizedClamp,
    QuantizedConv2d,
    QuantizedLinear,
    QuantizedLookup,
    QuantizedMaxPool2d,
    QuantizedMean,
    QuantizedMul,
    QuantizedWeighted,
)


def _quantize(walk: Walk, layer: Quantize, node: fx.Node) -> native.View:
    if walk.begun:
        raise NotNativeError("integers that begin in two places")
    # Three channels have a fourth beside them, which no weight reads: a pixel is then four bytes.
    y = native.image(walk.shapes[node], pixel=4 if walk.shapes[node][1] == 3 else None)
    walk.add(native.quantize(y, layer.out, layer.shift))
    return y


POST_OPS: Mapping[str, str] = {
    "none": "none", "relu": "none", "hardtanh": "none", "hardswish": "hardswish", "swish": "silu",
}  # fmt: skip
"""A kernel's post-op -> activation of the compiled ones. ReLU and its kin are bounds of the integers."""


def _rounding(layer: QuantizedWeighted) -> native.Rounding:
    x_scale, _, scales, _ = layer._call
    bias = torch.zeros_like(scales) if layer._bias is None else layer._bias
    name, scalars, out = layer._out[3], layer._out[4], layer.out
    activation = layer.activation if layer._after is not None else POST_OPS.get(name, name)
    if activation not in native.ACTIVATIONS:
        raise NotNativeError(activation)
    if out is None:
        if name in ("relu", "hardtanh") or layer.ceilings is not None:
            raise NotNativeError(f"{layer.activation} in float32")
        return native.Rounding(scales * x_scale, bias, None, activation)
    lo, hi = 0, out.quant_max
    if name in ("relu", "hardtanh"):
        lo = out.zero_point
    if name == "hardtanh":
        hi = min(hi, int(torch.round(torch.tensor(scalars[1] / out.scale + out.zero_point))))
    bounds = torch.full((len(scales),), hi) if layer._bounds is None else layer._bounds.reshape(-1).clamp(max=hi)
    return native.Rounding(scales * x_scale, bias, out, activation, lo, bounds.byte().numpy())


def _conv(walk: Walk, layer: QuantizedConv2d, node: fx.Node) -> native.View:
    geometry = native.Geometry(layer.stride, layer.padding, layer.dilation, layer.groups)
    x = walk.with_border(walk.view(node.args[0]), layer.padding, layer.x.zero_point)
    to, residual = _rounding(layer), None
    if len(node.args) > 1 and layer.residual is not None:
        if walk.shapes[node.args[1]] != walk.shapes[node]:
            raise NotNativeError("a residual that broadcasts")
        if to.activation != "none" or to.out is None:
            raise NotNativeError(f"{layer.activation} of a sum")
        residual = walk.view(node.args[1]), layer.residual
    y = _result(walk, layer, node)
    alone = layer.groups > 1 and layer.weight.shape[1] == 1 and len(layer.weight) == layer.groups
    if alone and to.out is not None and residual is None:
        walk.add(native.depthwise(x, y, layer.weight, layer.x, geometry, to))
    else:
        walk.add(native.product(x, y, layer.weight, layer.x, geometry, to, residual))
    return y


def _result(walk: Walk, layer: Int8Layer, node: fx.Node) -> native.View:
    """Memory for integers or, without a scale, for real numbers."""
    return walk.memory(node, None if layer.out is not None else FLOAT)


def _linear(walk: Walk, layer: QuantizedLinear, node: fx.Node) -> native.View:
    if len(walk.shapes[node.args[0]]) != 2:
        raise NotNativeError("a product of sequences")
    value = walk.values[node.args[0]]
    x = value.view if isinstance(value, Flat) else walk.view(node.args[0])
    y = _result(walk, layer, node)
    weight = layer.weight.reshape(-1, *x.shape[1:])
    walk.add(native.product(x, y, weight, layer.x, native.Geometry(), _rounding(layer)))
    return y


def _mean(walk: Walk, layer: QuantizedMean, node: fx.Node) -> native.View:
    if len(walk.shapes[node.args[0]]) != 4 or {d % 4 for d in layer.dims} != {2, 3}:
        raise NotNativeError("a mean over other dimensions than height and width")
    y = _result(walk, layer, node)
    walk.add(native.mean(walk.view(node.args[0]), layer.x, y, layer.out))
    return y


def _mul(walk: Walk, layer: QuantizedMul, node: fx.Node) -> native.View:
    a, b = (walk.view(node.args[0]), layer.a), (walk.view(node.args[1]), layer.b)
    (x, x_q), (factor, factor_q) = (a, b) if a[0].shape[2:] >= b[0].shape[2:] else (b, a)
    if layer.out is None or factor.shape != (*x.shape[:2], 1, 1):
        raise NotNativeError("a product of images")
    y = walk.memory(node)
    walk.add(native.scaling(x, x_q, factor, factor_q, y, layer.out))
    return y


def _add(walk: Walk, layer: QuantizedAdd, node: fx.Node) -> native.View:
    a, b = walk.view(node.args[0]), walk.view(node.args[1])
    if layer.out is None or a.shape != b.shape:
        raise NotNativeError("a sum that broadcasts")
    y = walk.memory(node)
    walk.add(native.addition(a, layer.a, b, layer.b, y, layer.out))
    return y


def _max_pool(walk: Walk, layer: QuantizedMaxPool2d, node: fx.Node) -> native.View:
    if set(layer.dilation) != {1}:
        raise NotNativeError("pooling with dilation")
    y = walk.memory(node)
    walk.add(native.maximum(walk.view(node.args[0]), y, layer.kernel_size, layer.stride, layer.padding))
    return y


def _avg_pool(walk: Walk, layer: QuantizedAvgPool2d, node: fx.Node) -> native.View:
    if layer.out is None or layer.ceil_mode:
        raise NotNativeError("such an average")
    divisor = layer.divisor_override or layer.kernel_size[0] * layer.kernel_size[1]
    if not layer.count_include_pad and not layer.divisor_override:
        divisor = 0
    y = walk.memory(node)
    shape = (layer.kernel_size, layer.stride, layer.padding, divisor)
    walk.add(native.average(walk.view(node.args[0]), layer.x, y, layer.out, *shape))
    return y


def _adaptive_avg_pool(walk: Walk, layer: QuantizedAdaptiveAvgPool2d, node: fx.Node) -> native.View:
    x, y = walk.view(node.args[0]), walk.memory(node)
    window = tuple(a // b for a, b in zip(x.shape[2:], y.shape[2:], strict=True))
    if layer.out is None or any(a % b for a, b in zip(x.shape[2:], y.shape[2:], strict=True)):
        raise NotNativeError("an average over windows of several sizes")
    if window == (1, 1) and layer.out == layer.x:
        return x
    walk.add(native.average(x, layer.x, y, layer.out, window, window, (0, 0), 0))
    return y


def _cat(walk: Walk, layer: QuantizedCat, node: fx.Node) -> Concatenated:
    if layer.out is None or len(walk.shapes[node]) != 4 or layer.dim % 4 != 1:
        raise NotNativeError("anything but channels beside each other")
    parts = zip(node.args, layer.tables, strict=True)
    return Concatenated(tuple((walk.view(part), table) for part, table in parts))


def _by_table(walk: Walk, layer: QuantizedLookup | QuantizedClamp, node: fx.Node) -> native.View:
    table = layer(torch.arange(256, dtype=torch.uint8))
    if table.dtype is not torch.uint8:
        raise NotNativeError("a table of float32")
    y = walk.memory(node)
    walk.add(native.copy(walk.view(node.args[0]), y, table.contiguous()))
    return y


LAYERS: Mapping[type, Callable[[Walk, Any, fx.Node], Any]] = {
    Quantize: _quantize,
    QuantizedAdaptiveAvgPool2d: _adaptive_avg_pool,
    QuantizedAdd: _add,
    QuantizedAvgPool2d: _avg_pool,
    QuantizedCat: _cat,
    QuantizedClamp: _by_table,
    QuantizedConv2d: _conv,
    QuantizedLinear: _linear,
    QuantizedLookup: _by_table,
    QuantizedMaxPool2d: _max_pool,
    QuantizedMean: _mean,
    QuantizedMul: _mul,
}

INT8 = Vocabulary(1, LAYERS, SHAPES, native.copy, native.interleave)
