"""What step of a program each layer of a frozen float model becomes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn

from pytest_ptq.engine.activations import ACTIVATIONS
from pytest_ptq.engine.blocks import Block, LinearBlock
from pytest_ptq.engine.deployment.rearrange import SHAPES
from pytest_ptq.engine.deployment.walk import FLOAT, Concatenated, Flat, NotNativeError, Vocabulary, Walk
from pytest_ptq.engine.freeze import FrozenConv2d, ToChannelsLast
from pytest_ptq.engine.kernels import native
from pytest_ptq.engine.op import Call
from pytest_ptq.engine.ops import find_op

ENDINGS: Mapping[str, native.Ending] = {
    "none": native.Ending(), "relu": native.Ending(lo=0.0), "relu6": native.Ending(lo=0.0, hi=6.0),
    "hardsigmoid": native.Ending(lo=0.0, hi=1.0), "hardswish": native.Ending("hardswish"),
    "silu": native.Ending("silu"), "sigmoid": native.Ending("sigmoid"),
}  # fmt: skip


def _input(walk: Walk, layer: nn.Module, node: fx.Node) -> native.View:
    if walk.begun or len(walk.shapes[node]) != 4:
        raise NotNativeError("an input that is no batch of images")
    pixel = 4 if walk.shapes[node][1] == 3 else None
    y = native.image(walk.shapes[node], pixel, FLOAT)
    walk.add(native.float_input(y))
    return y


def _ending(block: Block) -> tuple[Tensor, Tensor, native.Ending]:
    """Weight and bias with the gain and shift of the activation, and the rest of it."""
    if block.activation not in ENDINGS or block.ceilings is not None:
        raise NotNativeError(block.activation)
    act = ACTIVATIONS[block.activation]
    bias = torch.zeros(len(block.weight)) if block.bias is None else block.bias
    return block.weight * act.gain, bias * act.gain + act.shift, ENDINGS[block.activation]


def _conv(walk: Walk, layer: FrozenConv2d, node: fx.Node) -> native.View:
    block = layer.block[0]
    weight, bias, ending = _ending(block)
    geometry = native.Geometry(block.stride, block.padding, block.dilation, block.groups)
    x = walk.with_border(walk.view(node.args[0]), block.padding, 0)
    residual = None
    if len(node.args) > 1:
        if walk.shapes[node.args[1]] != walk.shapes[node]:
            raise NotNativeError("a residual that broadcasts")
        residual = walk.view(node.args[1])
    y = walk.memory(node)
    if block.groups > 1 and weight.shape[1] == 1 and len(weight) == block.groups and residual is None:
        walk.add(native.float_depthwise(x, y, weight, bias, geometry, ending))
    else:
        walk.add(native.float_product(x, y, weight, bias, geometry, ending, residual))
    return y


def _linear(walk: Walk, layer: LinearBlock, node: fx.Node) -> native.View:
    if len(walk.shapes[node.args[0]]) != 2 or len(node.args) > 1:
        raise NotNativeError("a product of sequences")
    weight, bias, ending = _ending(layer)
    value = walk.values[node.args[0]]
    x = value.view if isinstance(value, Flat) else walk.view(node.args[0])
    y = walk.memory(node)
    walk.add(native.float_product(x, y, weight.reshape(-1, *x.shape[1:]), bias, native.Geometry(), ending))
    return y


def _pair(value: Any) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (value[0], value[1])


def _windows(call: Call) -> tuple[tuple[int, int], tuple[int, int], tuple[int, int]]:
    """Size, stride and padding."""
    kernel = _pair(call.given("kernel_size"))
    return kernel, _pair(call.given("stride") or kernel), _pair(call.given("padding", 0))


def _max_pool(walk: Walk, call: Call, node: fx.Node) -> native.View:
    if call.computed or call.given("return_indices") or _pair(call.given("dilation", 1)) != (1, 1):
        raise NotNativeError("such a maximum")
    y = walk.memory(node)
    walk.add(native.float_pool(walk.view(node.args[0]), y, *_windows(call), maximum=True))
    return y


def _avg_pool(walk: Walk, call: Call, node: fx.Node) -> native.View:
    if call.computed or call.given("ceil_mode"):
        raise NotNativeError("such an average")
    kernel, stride, padding = _windows(call)
    divisor = call.given("divisor_override") or (kernel[0] * kernel[1] if call.given("count_include_pad", True) else 0)
    y = walk.memory(node)
    walk.add(native.float_pool(walk.view(node.args[0]), y, kernel, stride, padding, maximum=False, divisor=divisor))
    return y


def _adaptive(walk: Walk, call: Call, node: fx.Node) -> native.View:
    """Averages over windows of one size."""
    x, y = walk.view(node.args[0]), walk.memory(node)
    window = tuple(a // b for a, b in zip(x.shape[2:], y.shape[2:], strict=True))
    if any(a % b for a, b in zip(x.shape[2:], y.shape[2:], strict=True)):
        raise NotNativeError("an average over windows of several sizes")
    if window == (1, 1):
        return x
    walk.add(native.float_pool(x, y, window, window, (0, 0), maximum=False))
    return y


def _mean(walk: Walk, call: Call, node: fx.Node) -> native.View:
    dims, images = call.given("dim"), len(walk.shapes[node.args[0]]) == 4
    if not images or not isinstance(dims, Sequence) or {int(d) % 4 for d in dims} != {2, 3}:
        raise NotNativeError("a mean over other dimensions than height and width")
    return _adaptive(walk, call, node)


def _mul(walk: Walk, call: Call, node: fx.Node) -> native.View:
    if call.reads != 2:
        raise NotNativeError("a product with a number")
    a, b = walk.view(node.args[0]), walk.view(node.args[1])
    x, factor = (a, b) if a.shape[2:] >= b.shape[2:] else (b, a)
    if factor.shape != (*x.shape[:2], 1, 1):
        raise NotNativeError("a product of images")
    y = walk.memory(node)
    walk.add(native.float_scaling(x, factor, y))
    return y


def _add(walk: Walk, call: Call, node: fx.Node) -> native.View:
    if call.reads != 2 or call.given("alpha", 1) != 1:
        raise NotNativeError("such a sum")
    a, b = walk.view(node.args[0]), walk.view(node.args[1])
    if a.shape != b.shape:
        raise NotNativeError("a sum that broadcasts")
    y = walk.memory(node)
    walk.add(native.float_addition(a, b, y, native.Ending()))
    return y


def _cat(walk: Walk, call: Call, node: fx.Node) -> Concatenated:
    parts = node.args[0] if node.args else node.kwargs["tensors"]
    dim = node.args[1] if len(node.args) > 1 else node.kwargs.get("dim", 0)
    if len(walk.shapes[node]) != 4 or dim not in (1, -3) or not isinstance(parts, (tuple, list)):
        raise NotNativeError("anything but channels beside each other")
    return Concatenated(tuple((walk.view(part), None) for part in parts))


def _activation(walk: Walk, call: Call, node: fx.Node) -> native.View:
    op = find_op(walk.model, node)
    assert op is not None
    y, act = walk.memory(node), ACTIVATIONS[op.name]
    if act.gain != 1 or act.shift:
        raise NotNativeError(op.name)
    walk.add(native.float_copy(walk.view(node.args[0]), y, ENDINGS[op.name]))
    return y


LAYERS: Mapping[type, Callable[[Walk, Any, fx.Node], Any]] = {
    FrozenConv2d: _conv,
    LinearBlock: _linear,
    ToChannelsLast: _input,
}

OPS: Mapping[str, Callable[[Walk, Call, fx.Node], Any]] = {
    **SHAPES,
    "adaptive_avg_pool2d": _adaptive,
    "add": _add,
    "avg_pool2d": _avg_pool,
    "cat": _cat,
    "hardswish": _activation,
    "max_pool2d": _max_pool,
    "mean": _mean,
    "mul": _mul,
    "relu": _activation,
    "relu6": _activation,
    "sigmoid": _activation,
    "silu": _activation,
}


def _copied(x: native.View, y: native.View, table: Tensor | None) -> native.Step:
    assert table is None
    return native.float_copy(x, y, native.Ending())


def _in_turn(
    a: native.View, a_table: Tensor | None, b: native.View, b_table: Tensor | None, y: native.View
) -> native.Step:
    assert a_table is None and b_table is None  # noqa: PT018
    return native.float_interleave(a, b, y)


FLOATS = Vocabulary(FLOAT, LAYERS, OPS, _copied, _in_turn)
