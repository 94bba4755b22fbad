"""What step of a program each int8 layer becomes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import inf
from typing import Any

import torch
from torch import fx

from pytest_ptq.engine.affine import QParams
from pytest_ptq.engine.deployment.rearrange import around_image, divisor_of, multiplied
from pytest_ptq.engine.deployment.walk import FLOAT, Concatenated, Input, NotNativeError, Padded, Walk
from pytest_ptq.engine.kernels import native
from pytest_ptq.engine.modules import (
    DeQuantize,
    Quantize,
    QuantizedAdaptiveAvgPool2d,
    QuantizedAdaptiveMaxPool2d,
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
    QuantizedPad,
    QuantizedWeighted,
)


def _quantize(walk: Walk, layer: Quantize, node: fx.Node) -> Any:
    source: Any = node.args[0]
    if isinstance(walk.values.get(source), Input) and walk.readers(source) == 1:
        # Three channels have a fourth beside them, which no weight reads: a pixel is then four bytes.
        y = native.image(walk.shapes[node], pixel=4 if walk.shapes[node][1] == 3 else None)
        walk.add(native.quantize(y, layer.out, layer.shift))
        return y
    x, alike = walk.seen(source)
    y = native.image(x.shape)
    walk.add(native.quantize_view(x, y, layer.out, layer.shift))
    return alike(y)


def _dequantize(walk: Walk, layer: DeQuantize, node: fx.Node) -> Any:
    x, alike = walk.seen(node.args[0])
    return alike(_real(walk, x, layer.x))


def _real(walk: Walk, x: native.View, q: QParams) -> native.View:
    y = native.image(x.shape, unit=FLOAT)
    walk.add(native.dequantize(x, y, q))
    return y


BY_BOUNDS = frozenset({"none", "relu", "relu6", "hardsigmoid"})
"""Activations that are bounds of the integers, with gain and shift in scales and bias. The others are the kernels'."""


def _rounding(layer: QuantizedWeighted) -> native.Rounding:
    x_scale, _, scales, _ = layer._call
    bias = torch.zeros_like(scales) if layer._bias is None else layer._bias
    name, scalars, out = layer._out[3], layer._out[4], layer.out
    activation = "none" if layer.activation in BY_BOUNDS else layer.activation
    if activation not in native.ACTIVATIONS:
        raise NotNativeError(activation)
    cut = activation == "none" and name in ("relu", "hardtanh")
    if out is None:
        if layer.ceilings is not None:
            raise NotNativeError(f"{layer.activation} of each channel in float32")
        floor, ceiling = 0.0 if cut else -inf, scalars[1] if cut and name == "hardtanh" else inf
        return native.Rounding(scales * x_scale, bias, None, activation, floor=floor, ceiling=ceiling)
    lo, hi = out.zero_point if cut else 0, out.quant_max
    if cut and name == "hardtanh":
        hi = min(hi, int(torch.round(torch.tensor(scalars[1] / out.scale + out.zero_point))))
    bounds = torch.full((len(scales),), hi) if layer._bounds is None else layer._bounds.reshape(-1).clamp(max=hi)
    return native.Rounding(scales * x_scale, bias, out, activation, lo, bounds.byte().numpy())


def _conv(walk: Walk, layer: QuantizedConv2d, node: fx.Node) -> native.View:
    x, begins = walk.with_border(node.args[0], layer.padding, layer.x.zero_point)
    geometry = native.Geometry(layer.stride, begins, layer.dilation, layer.groups)
    to, y, residual = _rounding(layer), walk.memory(node), None
    if len(node.args) > 1 and layer.residual is not None:
        residual = walk.view(node.args[1]), layer.residual
        if residual[0].shape != y.shape:
            raise NotNativeError("a residual that broadcasts")
        if to.activation != "none":
            raise NotNativeError(f"{layer.activation} of a sum")
    alone = layer.groups > 1 and layer.weight.shape[1] == 1 and len(layer.weight) == layer.groups
    if alone and residual is None:
        walk.add(native.depthwise(x, y, layer.weight, layer.x, geometry, to))
    else:
        walk.add(native.product(x, y, layer.weight, layer.x, geometry, to, residual))
    return y


def _linear(walk: Walk, layer: QuantizedLinear, node: fx.Node) -> Any:
    x, y, weight, value = multiplied(walk, node, layer.weight)
    walk.add(native.product(x, y, weight, layer.x, native.Geometry(), _rounding(layer)))
    return value


def _mean(walk: Walk, layer: QuantizedMean, node: fx.Node) -> native.View:
    if len(walk.shapes[node.args[0]]) != 4 or {d % 4 for d in layer.dims} != {2, 3}:
        raise NotNativeError("a mean over other dimensions than height and width")
    y = walk.memory(node)
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


def _add(walk: Walk, layer: QuantizedAdd, node: fx.Node) -> Any:
    (a, alike), (b, alike_too) = walk.seen(node.args[0]), walk.seen(node.args[1])
    if a.shape != b.shape or type(alike(a)) is not type(alike_too(b)):
        raise NotNativeError("a sum that broadcasts")
    y = native.image(a.shape, unit=walk.shapes[node].unit)
    if layer.out is None:
        walk.add(native.float_addition(_real(walk, a, layer.a), _real(walk, b, layer.b), y, native.Ending()))
    else:
        walk.add(native.addition(a, layer.a, b, layer.b, y, layer.out))
    return alike(y)


def _max_pool(walk: Walk, layer: QuantizedMaxPool2d, node: fx.Node) -> native.View:
    if set(layer.dilation) != {1}:
        raise NotNativeError("pooling with dilation")
    y = walk.memory(node)
    windows = native.Windows(layer.kernel_size, layer.stride, layer.padding)
    walk.add(native.maximum(walk.view(node.args[0]), y, windows))
    return y


def _adaptive_max_pool(walk: Walk, layer: QuantizedAdaptiveMaxPool2d, node: fx.Node) -> native.View:
    y = walk.memory(node)
    walk.add(native.maximum(walk.view(node.args[0]), y, native.SHARED))
    return y


def _avg_pool(walk: Walk, layer: QuantizedAvgPool2d, node: fx.Node) -> native.View:
    windows, y = native.Windows(layer.kernel_size, layer.stride, layer.padding), walk.memory(node)
    divisor = divisor_of(windows, layer.ceil_mode, layer.count_include_pad, layer.divisor_override)
    walk.add(native.average(walk.view(node.args[0]), layer.x, y, layer.out, windows, divisor))
    return y


def _adaptive_avg_pool(walk: Walk, layer: QuantizedAdaptiveAvgPool2d, node: fx.Node) -> native.View:
    x, y = walk.view(node.args[0]), walk.memory(node)
    if x.shape == y.shape and layer.out == layer.x:
        return x
    walk.add(native.average(x, layer.x, y, layer.out, native.SHARED))
    return y


def _cat(walk: Walk, layer: QuantizedCat, node: fx.Node) -> Concatenated:
    if len(walk.shapes[node]) != 4 or layer.dim % 4 != 1:
        raise NotNativeError("anything but channels beside each other")
    if layer.out is None:
        views = zip(map(walk.view, node.args), layer.inputs, strict=True)
        return Concatenated(tuple((_real(walk, x, q), None) for x, q in views))
    parts = zip(node.args, layer.tables, strict=True)
    return Concatenated(tuple((walk.view(part), table) for part, table in parts))


def _pad(walk: Walk, layer: QuantizedPad, node: fx.Node) -> Padded:
    def laid(x: native.View, y: native.View) -> native.Step:
        # Averages of one pixel: where there is none, they are a real zero.
        return native.average(x, layer.x, y, layer.x, native.Windows((1, 1), (1, 1), (around[0], around[2])), 1)

    around = around_image(layer.pad, walk.shapes[node.args[0]])
    return Padded(walk.view(node.args[0]), around, layer.x.zero_point, laid)


def _by_table(walk: Walk, layer: QuantizedLookup | QuantizedClamp, node: fx.Node) -> Any:
    table = layer(torch.arange(256, dtype=torch.uint8))
    if table.dtype is not torch.uint8:
        raise NotNativeError("a table of float32")
    x, alike = walk.seen(node.args[0])
    y = native.image(x.shape)
    walk.add(native.copy(x, y, table.contiguous()))
    return alike(y)


LAYERS: Mapping[type, Callable[[Walk, Any, fx.Node], Any]] = {
    DeQuantize: _dequantize,
    Quantize: _quantize,
    QuantizedAdaptiveAvgPool2d: _adaptive_avg_pool,
    QuantizedAdaptiveMaxPool2d: _adaptive_max_pool,
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
    QuantizedPad: _pad,
}
