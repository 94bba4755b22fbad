"""The op table: how each operation is fused, observed and run in int8. Adding an op means adding a row.

An operation that matches no row stays in fp32 and is listed with the reason.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from pytest_ptq.engine import modules as q
from pytest_ptq.engine import uses
from pytest_ptq.engine.blocks import Conv1dBlock, ConvBlock, LinearBlock, NormBlock
from pytest_ptq.engine.graph import call_nodes
from pytest_ptq.engine.op import Call, Kind, Op
from pytest_ptq.engine.opening import window_mask


def _table(name: str, *forms: Any, **more: Any) -> Op:
    """A function of each number by itself: its values at the 256 integers. forms: modules, functions, methods."""
    made: dict[str, Any] = {"when": uses.pointwise, "lower": uses.lower_lookup, **more}
    return Op(name, Kind.ELEMENTWISE, *forms, **made)


def _move(name: str, *forms: Any, **more: Any) -> Op:
    """Something that moves stored integers about."""
    made: dict[str, Any] = {"when": uses.one_tensor, "moves": True, **more}
    return Op(name, Kind.SHARES, *forms, **made)


def _float(name: str, reason: str, *forms: tuple[Any, ...]) -> Op:
    modules, functions, methods = (*forms, (), (), ())[:3]
    return Op(name, Kind.FLOAT, modules, functions, methods, when=uses.because(reason))


_POOL = ("kernel_size", "stride", "padding")
_CLAMP = {"parameters": ("min", "max"), "activation": uses.clamp_activation}
_TWO_ACTIVATIONS = "int8 kernels multiply an activation by a constant weight, not by another activation"
_NORMALISES = "the mean and variance of what it reads are computed in fp32"

OPS: tuple[Op, ...] = (
    Op(
        "conv2d", Kind.WEIGHTED, (ConvBlock, Conv1dBlock),
        lower=lambda c, r, o: q.quantized_conv(c.layer, r, o, c.per_channel),
    ),
    # One weight a channel, which int8 holds exactly with a scale a channel, whatever other weights have.
    Op("batch_norm", Kind.WEIGHTED, (NormBlock,), lower=lambda c, r, o: q.quantized_conv(c.layer, r, o, True)),
    Op("linear", Kind.WEIGHTED, (LinearBlock,), lower=lambda c, r, o: q.quantized_linear(c.layer, r, o, c.per_channel)),
    Op(
        "add", Kind.ELEMENTWISE, (), (operator.add, operator.iadd, torch.add), ("add", "add_"), ("alpha",),
        uses.arithmetic, uses.lower_add,
    ),
    Op(
        "sub", Kind.ELEMENTWISE, (), (operator.sub, torch.sub), ("sub",), ("alpha",), uses.arithmetic, uses.lower_sub,
    ),
    Op(
        "mul", Kind.ELEMENTWISE, (), (operator.mul, operator.imul, torch.mul), ("mul", "mul_"), (), uses.arithmetic,
        uses.lower_mul,
    ),
    _table("div", (), (operator.truediv, torch.div), ("div",), when=uses.with_a_constant),
    Op(
        "cat", Kind.ELEMENTWISE, (), (torch.cat, torch.concat, torch.concatenate), parameters=("tensors", "dim"),
        when=uses.known_parts, lower=uses.lower_cat, moves=True, mixes=True,
    ),
    Op(
        "adaptive_avg_pool2d", Kind.ELEMENTWISE, (nn.AdaptiveAvgPool2d,), (F.adaptive_avg_pool2d,), (),
        ("output_size",), uses.window, uses.lower_adaptive_pool,
    ),
    Op(
        "avg_pool2d", Kind.ELEMENTWISE, (nn.AvgPool2d,), (F.avg_pool2d,), (),
        (*_POOL, "ceil_mode", "count_include_pad", "divisor_override"), uses.window, uses.lower_avg_pool,
    ),
    Op(
        "mean", Kind.ELEMENTWISE, (), (torch.mean,), ("mean",), ("dim", "keepdim"), uses.spatial_mean, uses.lower_mean,
    ),
    Op(
        "max_pool2d", Kind.SHARES, (nn.MaxPool2d,), (F.max_pool2d, torch.max_pool2d), (),
        (*_POOL, "dilation", "ceil_mode", "return_indices"), uses.window, uses.lower_max_pool,
    ),
    Op(
        "relu", Kind.SHARES, (nn.ReLU,), (F.relu, torch.relu), ("relu", "relu_"), ("inplace",), activation="relu",
        lower=lambda c, r, o: q.QuantizedClamp(r[0], None),
    ),
    Op(
        "relu6", Kind.SHARES, (nn.ReLU6,), (F.relu6,), parameters=("inplace",), activation="relu6",
        lower=lambda c, r, o: q.QuantizedClamp(r[0], 6.0),
    ),
    _table("hardswish", (nn.Hardswish,), (F.hardswish,), activation="hardswish"),
    _table("hardsigmoid", (nn.Hardsigmoid,), (F.hardsigmoid,), activation="hardsigmoid"),
    _table("silu", (nn.SiLU,), (F.silu,), activation="silu"),
    _table("gelu", (nn.GELU,), (F.gelu,), parameters=("approximate",), activation=uses.gelu_activation),
    _table("sigmoid", (nn.Sigmoid,), (torch.sigmoid, F.sigmoid), ("sigmoid",), activation="sigmoid"),
    _table("tanh", (nn.Tanh,), (torch.tanh, F.tanh), ("tanh",), activation="tanh"),
    _table(
        "leaky_relu", (nn.LeakyReLU,), (F.leaky_relu,), parameters=("negative_slope",),
        activation=uses.leaky_activation,
    ),
    _table("prelu", (nn.PReLU,), when=uses.prelu),
    _table("clamp", (), (torch.clamp, torch.clip), ("clamp", "clip"), **_CLAMP),
    _table("clamp_min", (), (torch.clamp_min,), ("clamp_min",)),
    _table("clamp_max", (), (torch.clamp_max,), ("clamp_max",)),
    _table(
        "hardtanh", (nn.Hardtanh,), (F.hardtanh,), parameters=("min_val", "max_val"), activation=uses.clamp_activation,
    ),
    _table("elu", (nn.ELU,), (F.elu,)),
    _table("selu", (nn.SELU,), (F.selu,)),
    _table("celu", (nn.CELU,), (F.celu,)),
    _table("mish", (nn.Mish,), (F.mish,)),
    _table("softplus", (nn.Softplus,), (F.softplus,)),
    _table("softsign", (nn.Softsign,), (F.softsign,)),
    _table("abs", (), (torch.abs, operator.abs), ("abs",)),
    _table("neg", (), (torch.neg, operator.neg), ("neg",)),
    _move("flatten", (nn.Flatten,), (torch.flatten,), ("flatten",)),
    _move("unflatten", (nn.Unflatten,), (torch.unflatten,), ("unflatten",)),
    _move("reshape", (), (torch.reshape,), ("reshape", "view")),
    _move("permute", (), (torch.permute,), ("permute",)),
    _move("transpose", (), (torch.transpose, torch.swapaxes), ("transpose", "swapaxes")),
    _move("movedim", (), (torch.movedim,), ("movedim",)),
    _move("t", (), (torch.t,), ("t",)),
    _move("contiguous", (), (), ("contiguous", "clone", "detach")),
    _move("squeeze", (), (torch.squeeze,), ("squeeze",)),
    _move("unsqueeze", (), (torch.unsqueeze,), ("unsqueeze",)),
    _move("chunk", (), (torch.chunk,), ("chunk",)),
    _move("split", (), (torch.split,), ("split",)),
    _move("unbind", (), (torch.unbind,), ("unbind",)),
    _move("getitem", (), (operator.getitem,)),
    _move("narrow", (), (torch.narrow,), ("narrow",)),
    _move("select", (), (torch.select,), ("select",)),
    _move("expand", (), (), ("expand", "repeat")),
    _move("roll", (), (torch.roll,), ("roll",)),
    _move("flip", (), (torch.flip,), ("flip",)),
    _move("channel_shuffle", (nn.ChannelShuffle,), (F.channel_shuffle,)),
    _move("pixel_shuffle", (nn.PixelShuffle,), (F.pixel_shuffle,)),
    _move("pixel_unshuffle", (nn.PixelUnshuffle,), (F.pixel_unshuffle,)),
    _move(
        "interpolate", (nn.Upsample, nn.UpsamplingNearest2d), (F.interpolate,),
        parameters=("size", "scale_factor", "mode"), when=uses.nearest,
    ),
    _move(
        "pad", (nn.ZeroPad2d, nn.ConstantPad2d), (F.pad,), parameters=("pad", "mode", "value"), when=uses.zero_padding,
        lower=uses.lower_pad,
    ),
    _float("layer_norm", _NORMALISES, (nn.LayerNorm,), (F.layer_norm,)),
    _float("group_norm", _NORMALISES, (nn.GroupNorm, nn.InstanceNorm1d, nn.InstanceNorm2d), (F.group_norm,)),
    _float(
        "softmax", "exponentials over a row span more than 8 bits hold", (nn.Softmax, nn.LogSoftmax),
        (F.softmax, F.log_softmax, torch.softmax, torch.log_softmax), ("softmax", "log_softmax"),
    ),
    _float(
        "matmul", _TWO_ACTIVATIONS, (), (torch.matmul, torch.bmm, operator.matmul, torch.einsum), ("matmul", "bmm"),
    ),
    _float(
        "attention", _TWO_ACTIVATIONS, (nn.MultiheadAttention, nn.TransformerEncoderLayer, nn.TransformerDecoderLayer),
        (F.scaled_dot_product_attention,),
    ),
    _float("window_mask", "it depends on sizes alone", (), (window_mask,)),
    _float("embedding", "it looks rows up and computes nothing", (nn.Embedding,), (F.embedding,)),
    _float(
        "conv_transpose", "no int8 kernel for transposed convolutions takes plain uint8 tensors",
        (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d),
        (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d),
    ),
    Op("conv", Kind.FLOAT, (nn.Conv1d, nn.Conv2d), when=uses.plain_convolution),
    _float("conv3d", "int8 convolutions are built for one and two dimensions", (nn.Conv3d,), (F.conv3d,)),
    _float("max_pool1d", "int8 pooling is built for two dimensions", (nn.MaxPool1d, nn.AvgPool1d, nn.MaxPool3d)),
    _float("recurrent", "each step reads the one before it in fp32", (nn.LSTM, nn.GRU, nn.RNN)),
    Op(
        "dropout", Kind.IDENTITY, (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout),
        (F.dropout, F.dropout2d), parameters=("p", "training", "inplace"), when=uses.always_drops,
    ),
    Op(
        "stochastic_depth", Kind.IDENTITY, parameters=("p", "mode", "training"), when=uses.always_drops,
        elsewhere=("torchvision.ops.stochastic_depth.StochasticDepth",
                   "torchvision.ops.stochastic_depth.stochastic_depth"),
    ),
    Op("identity", Kind.IDENTITY, (nn.Identity,)),
)  # fmt: skip

_BY_MODULE = {module: op for op in OPS for module in op.modules}
_BY_FUNCTION = {function: op for op in OPS for function in op.functions}
_BY_METHOD = {method: op for op in OPS for method in op.methods}
_BY_NAME = {name: op for op in OPS for name in op.elsewhere}


def find_op(module: fx.GraphModule, node: fx.Node) -> Op | None:
    """The row that a node matches, or None."""
    if node.op == "call_module":
        kind = type(module.get_submodule(str(node.target)))
        return _BY_MODULE.get(kind) or _named(kind)
    if node.op == "call_function":
        return _BY_FUNCTION.get(node.target) or _named(node.target)  # type: ignore[arg-type]
    if node.op == "call_method":
        return _BY_METHOD.get(str(node.target))
    return None


def _named(what: object) -> Op | None:
    return _BY_NAME.get(f"{getattr(what, '__module__', '')}.{getattr(what, '__qualname__', '')}")


def is_identity(module: fx.GraphModule, node: fx.Node) -> bool:
    """Whether a node returns what it reads."""
    op = find_op(module, node)
    return op is not None and op.kind is Kind.IDENTITY and not op.when(describe_call(module, node, op))


def describe_call(module: fx.GraphModule, node: fx.Node, op: Op, per_channel: bool = True) -> Call:
    """What `when` and `lower` need to know of a node."""
    layer = module.get_submodule(str(node.target)) if node.op == "call_module" else None
    reads = tensor_inputs(node)

    def known(value: Any) -> Any:
        return fx.map_arg(value, lambda n: None)

    constants = [known(a) for a in node.args if a not in reads]
    named = {k: known(v) for k, v in node.kwargs.items() if v not in reads}
    return Call(
        layer, {**dict(zip(op.parameters, constants, strict=False)), **named}, len(reads), per_channel,
        any(map(holds_numbers, node.all_input_nodes)), _applier(node, layer),
    )  # fmt: skip


def _applier(node: fx.Node, layer: nn.Module | None) -> Callable[[Tensor], Any]:
    def apply(x: Tensor) -> Any:
        args, kwargs = fx.map_arg((node.args, node.kwargs), lambda n: x)
        if node.op == "call_method":
            return getattr(args[0], str(node.target))(*args[1:], **kwargs)
        function: Any = node.target if layer is None else layer
        return function(*args, **kwargs)

    return apply


def tensor_inputs(node: fx.Node) -> list[fx.Node]:
    """The tensors a node reads, in the order of its arguments and with repetitions (x + x reads x twice)."""
    found: list[fx.Node] = []
    fx.map_arg((node.args, node.kwargs), lambda n: found.append(n))
    return [n for n in found if not holds_numbers(n)]


def tensor_nodes(module: fx.GraphModule) -> Iterator[fx.Node]:
    """Nodes that compute a tensor, in order."""
    return (node for node in call_nodes(module) if not holds_numbers(node))


_ASKS_FOR_NUMBERS = ("size", "dim", "numel", "ndimension")


def holds_numbers(node: fx.Node) -> bool:
    """True for sizes and what is computed from sizes alone: the same whether the tensor holds int8 or fp32."""
    if node.op == "call_method":
        return node.target in _ASKS_FOR_NUMBERS
    # Arithmetic, comparisons and getitem, and what is asserted of them; not torch.zeros(n), which makes a tensor.
    plain = getattr(node.target, "__module__", "") == "_operator" or node.target is torch._assert
    return plain and bool(node.all_input_nodes) and all(map(holds_numbers, node.all_input_nodes))
