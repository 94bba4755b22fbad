"""What step of a program each layer of a frozen float model becomes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn

from pytest_ptq.engine.activations import ACTIVATIONS
from pytest_ptq.engine.blocks import Block, ConvBlock, LinearBlock, NormBlock
from pytest_ptq.engine.deployment.rearrange import around_image, divisor_of, multiplied
from pytest_ptq.engine.deployment.walk import FLOAT, Concatenated, NotNativeError, Padded, Pixels, Walk
from pytest_ptq.engine.freeze import FrozenConv2d, ToChannelsLast
from pytest_ptq.engine.kernels import native
from pytest_ptq.engine.op import Call
from pytest_ptq.engine.ops import find_op

SELDOM = ("hardswish", "silu", "sigmoid", "tanh", "leaky_relu", "gelu", "gelu_tanh")
ENDINGS: Mapping[str, native.Ending] = {
    "none": native.Ending(), "relu": native.Ending(lo=0.0), "relu6": native.Ending(lo=0.0, hi=6.0),
    "hardsigmoid": native.Ending(lo=0.0, hi=1.0), **{name: native.Ending(name) for name in SELDOM},
}  # fmt: skip


def _input(walk: Walk, layer: nn.Module, node: fx.Node) -> native.View:
    return walk.view(node.args[0])


def _ending(block: Block) -> tuple[Tensor, Tensor, native.Ending]:
    """Weight and bias with the gain and shift of the activation, and the rest of it."""
    if block.activation not in ENDINGS or block.ceilings is not None:
        raise NotNativeError(block.activation)
    act = ACTIVATIONS[block.activation]
    bias = torch.zeros(len(block.weight)) if block.bias is None else block.bias
    return block.weight * act.gain, bias * act.gain + act.shift, ENDINGS[block.activation]


def _conv(walk: Walk, layer: FrozenConv2d | ConvBlock, node: fx.Node) -> native.View:
    block = layer.block[0] if isinstance(layer, FrozenConv2d) else layer
    weight, bias, ending = _ending(block)
    x, begins = walk.with_border(node.args[0], block.padding, 0)
    geometry = native.Geometry(block.stride, begins, block.dilation, block.groups)
    y, residual = walk.memory(node), None
    if len(node.args) > 1:
        residual = walk.view(node.args[1])
        if residual.shape != y.shape:
            raise NotNativeError("a residual that broadcasts")
    if block.groups > 1 and weight.shape[1] == 1 and len(weight) == block.groups and residual is None:
        walk.add(native.float_depthwise(x, y, weight, bias, geometry, ending))
    else:
        walk.add(native.float_product(x, y, weight, bias, geometry, ending, residual))
    return y


def _linear(walk: Walk, layer: LinearBlock, node: fx.Node) -> Any:
    if len(node.args) > 1:
        raise NotNativeError("a product with a residual")
    weight, bias, ending = _ending(layer)
    x, y, weight, value = multiplied(walk, node, weight)
    walk.add(native.float_product(x, y, weight, bias, native.Geometry(), ending))
    return value


def _pair(value: Any) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (value[0], value[1])


def _windows(call: Call) -> native.Windows:
    if call.computed:
        raise NotNativeError("windows that are computed from sizes")
    kernel = _pair(call.given("kernel_size"))
    return native.Windows(kernel, _pair(call.given("stride") or kernel), _pair(call.given("padding", 0)))


def _max_pool(walk: Walk, call: Call, node: fx.Node) -> native.View:
    if call.given("return_indices") or _pair(call.given("dilation", 1)) != (1, 1):
        raise NotNativeError("such a maximum")
    y = walk.memory(node)
    walk.add(native.float_pool(walk.view(node.args[0]), y, _windows(call), maximum=True))
    return y


def _avg_pool(walk: Walk, call: Call, node: fx.Node) -> native.View:
    y, windows = walk.memory(node), _windows(call)
    rest = call.given("ceil_mode", False), call.given("count_include_pad", True), call.given("divisor_override")
    walk.add(native.float_pool(walk.view(node.args[0]), y, windows, False, divisor_of(windows, *rest)))
    return y


def _adaptive(walk: Walk, call: Call, node: fx.Node) -> native.View:
    """As many windows as there are to be pixels."""
    x, y = walk.view(node.args[0]), walk.memory(node)
    if x.shape == y.shape:
        return x
    walk.add(native.float_pool(x, y, native.SHARED, maximum=False))
    return y


def _adaptive_max(walk: Walk, call: Call, node: fx.Node) -> native.View:
    if call.given("return_indices"):
        raise NotNativeError("such a maximum")
    y = walk.memory(node)
    walk.add(native.float_pool(walk.view(node.args[0]), y, native.SHARED, maximum=True))
    return y


def _mean(walk: Walk, call: Call, node: fx.Node) -> native.View:
    dims, images = call.given("dim"), len(walk.shapes[node.args[0]]) == 4
    if not images or not isinstance(dims, Sequence) or {int(d) % 4 for d in dims} != {2, 3}:
        raise NotNativeError("a mean over other dimensions than height and width")
    return _adaptive(walk, call, node)


def _constant(walk: Walk, node: fx.Node) -> tuple[Any, Tensor] | None:
    """The one tensor that an operation of two reads, and its other value for each channel; None where it reads two."""
    values = [walk.values[a] if isinstance(a, fx.Node) else a for a in node.args[:2]]
    fixed = [isinstance(v, (int, float, Tensor)) for v in values]
    if sum(fixed) != 1:
        return None
    source, value = node.args[fixed.index(False)], torch.as_tensor(values[fixed.index(True)], dtype=torch.float32)
    shape = walk.shapes[source]
    last = len(shape) == 2 or isinstance(walk.values[source], Pixels)
    channels = shape[-1 if last else 1]
    expected = torch.Size((channels,) if last else (channels, *[1] * (len(shape) - 2)))
    if value.numel() != 1 and value.shape[max(value.ndim - len(expected), 0) :] != expected:
        raise NotNativeError("a constant for each pixel")
    return source, value.detach().flatten().expand(channels).contiguous()


def _affine(walk: Walk, source: Any, gain: Tensor, shift: Tensor, ending: native.Ending) -> Any:
    """Every channel times a number, plus another."""
    x, alike = walk.seen(source)
    y = native.image(x.shape, unit=FLOAT)
    walk.add(native.float_depthwise(x, y, gain.reshape(-1, 1, 1, 1), shift, native.Geometry(), ending))
    return alike(y)


def _mul(walk: Walk, call: Call, node: fx.Node) -> Any:
    constant = _constant(walk, node)
    if constant is not None:
        return _affine(walk, *constant, torch.zeros_like(constant[1]), native.Ending())
    a, b = walk.view(node.args[0]), walk.view(node.args[1])
    x, factor = (a, b) if a.shape[2:] >= b.shape[2:] else (b, a)
    if factor.shape != (*x.shape[:2], 1, 1):
        raise NotNativeError("a product of images")
    y = walk.memory(node)
    walk.add(native.float_scaling(x, factor, y))
    return y


def _add(walk: Walk, call: Call, node: fx.Node) -> Any:
    if node.kwargs.get("alpha", 1) != 1:
        raise NotNativeError("a sum with a factor")
    constant = _constant(walk, node)
    if constant is not None:
        return _affine(walk, constant[0], torch.ones_like(constant[1]), constant[1], native.Ending())
    (a, alike), (b, alike_too) = walk.seen(node.args[0]), walk.seen(node.args[1])
    if a.shape != b.shape or type(alike(a)) is not type(alike_too(b)):
        raise NotNativeError("a sum that broadcasts")
    y = native.image(a.shape, unit=FLOAT)
    walk.add(native.float_addition(a, b, y, native.Ending()))
    return alike(y)


NORM = ("normalized_shape", "weight", "bias", "eps")
"""Arguments of a layer norm, behind what it reads."""


def _norm(walk: Walk, call: Call, node: fx.Node) -> Any:
    """Over the channels of every pixel."""
    given = dict(zip(NORM, node.args[1:], strict=False), **node.kwargs)
    given = {name: walk.values[v] if isinstance(v, fx.Node) else v for name, v in given.items()}
    of: dict[str, Any] = {name: getattr(call.layer, name) for name in NORM} if call.layer is not None else given
    x, alike = walk.seen(node.args[0])
    channels = x.shape[1]
    if tuple(of["normalized_shape"]) != (channels,) or not (isinstance(alike(x), Pixels) or x.shape[2:] == (1, 1)):
        raise NotNativeError("a norm over other than channels")
    weight, bias = (of.get(name) for name in ("weight", "bias"))
    y = native.image(x.shape, unit=FLOAT)
    ones, zeros = torch.ones(channels), torch.zeros(channels)
    weight, bias = ones if weight is None else weight.detach(), zeros if bias is None else bias.detach()
    walk.add(native.float_norm(x, y, weight, bias, of.get("eps", 1e-5)))
    return alike(y)


def _cat(walk: Walk, call: Call, node: fx.Node) -> Concatenated:
    parts = node.args[0] if node.args else node.kwargs["tensors"]
    dim = node.args[1] if len(node.args) > 1 else node.kwargs.get("dim", 0)
    if len(walk.shapes[node]) != 4 or dim not in (1, -3) or not isinstance(parts, (tuple, list)):
        raise NotNativeError("anything but channels beside each other")
    return Concatenated(tuple((walk.view(part), None) for part in parts))


def _pad(walk: Walk, call: Call, node: fx.Node) -> Padded:
    if call.computed:
        raise NotNativeError("padding whose width is computed from sizes")
    if call.given("mode", "constant") != "constant" or call.given("value"):
        raise NotNativeError("padding with other than zeros")

    def laid(x: native.View, y: native.View) -> native.Step:
        # Sums of one pixel, or of none.
        windows = native.Windows((1, 1), (1, 1), (around[0], around[2]))
        return native.float_pool(x, y, windows, maximum=False, divisor=1)

    pad = call.given("padding") if call.layer is not None else call.given("pad")
    around = around_image(pad, walk.shapes[node.args[0]])
    return Padded(walk.view(node.args[0]), around, 0, laid)


def _activation(walk: Walk, call: Call, node: fx.Node) -> Any:
    op = find_op(walk.model, node)
    name = op.fuses_as(call) if op is not None else None
    if name is None or name not in ENDINGS:
        raise NotNativeError(f"such a {op.name if op is not None else node}")
    act = ACTIVATIONS[name]
    x, alike = walk.seen(node.args[0])
    if act.gain != 1 or act.shift:
        gain = torch.full((x.shape[1],), act.gain)
        return _affine(walk, node.args[0], gain, torch.full_like(gain, act.shift), ENDINGS[name])
    y = native.image(x.shape, unit=FLOAT)
    walk.add(native.float_copy(x, y, ENDINGS[name]))
    return alike(y)


LAYERS: Mapping[type, Callable[[Walk, Any, fx.Node], Any]] = {
    ConvBlock: _conv,
    FrozenConv2d: _conv,
    LinearBlock: _linear,
    NormBlock: _conv,
    ToChannelsLast: _input,
}

OPS: Mapping[str, Callable[[Walk, Call, fx.Node], Any]] = {
    "adaptive_avg_pool2d": _adaptive,
    "adaptive_max_pool2d": _adaptive_max,
    "add": _add,
    "avg_pool2d": _avg_pool,
    "cat": _cat,
    "clamp": _activation,
    "gelu": _activation,
    "hardsigmoid": _activation,
    "hardswish": _activation,
    "hardtanh": _activation,
    "layer_norm": _norm,
    "leaky_relu": _activation,
    "max_pool2d": _max_pool,
    "mean": _mean,
    "mul": _mul,
    "pad": _pad,
    "relu": _activation,
    "relu6": _activation,
    "sigmoid": _activation,
    "silu": _activation,
    "tanh": _activation,
}
