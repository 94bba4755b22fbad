"""The op table: how each operation is fused, observed and run in int8. Adding an op means adding a row.

An operation that matches no row stays in fp32 and is listed with the reason.
"""

from __future__ import annotations

import operator
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from pytest_ptq.engine import modules as q
from pytest_ptq.engine import uses
from pytest_ptq.engine.attention import attention_mask
from pytest_ptq.engine.blocks import Conv1dBlock, Conv3dBlock, ConvBlock, FlatNormBlock, LinearBlock, NormBlock
from pytest_ptq.engine.op import Kind, Lower, Op
from pytest_ptq.engine.swin import window_mask
from pytest_ptq.engine.transposed import TRANSPOSED, Interleave


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


def _average(name: str, module: type[nn.Module], functions: Any, parameters: Any, lower: Lower) -> Op:
    return Op(name, Kind.ELEMENTWISE, (module,), functions, (), parameters, uses.window, lower)


def _maximum(name: str, module: type[nn.Module], functions: Any, parameters: Any, lower: Lower) -> Op:
    return Op(name, Kind.SHARES, (module,), functions, (), parameters, uses.window, lower)


_SIZE = ("output_size",)
_POOL = ("kernel_size", "stride", "padding")
_AVERAGE = (*_POOL, "ceil_mode", "count_include_pad", "divisor_override")
_MAXIMUM = (*_POOL, "dilation", "ceil_mode", "return_indices")
_CLAMP = {"parameters": ("min", "max"), "activation": uses.clamp_activation}
_CONV_TRANSPOSE = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)
_TWO_ACTIVATIONS = "int8 kernels multiply an activation by a constant weight, not by another activation"
_NORMALISES = "the mean and variance of what it reads are computed in fp32"

OPS: tuple[Op, ...] = (
    Op(
        "conv2d", Kind.WEIGHTED, (ConvBlock, Conv1dBlock),
        lower=lambda c, r, o: q.quantized_conv(c.layer, r, o, c.per_channel, c.reduce_range),
    ),
    Op(
        "conv3d", Kind.WEIGHTED, (Conv3dBlock,),
        lower=lambda c, r, o: q.quantized_conv(c.layer, r, o, c.per_channel, c.reduce_range),
    ),
    # One weight a channel, which int8 holds exactly with a scale a channel, whatever other weights have.
    Op(
        "batch_norm", Kind.WEIGHTED, (NormBlock, FlatNormBlock),
        lower=lambda c, r, o: q.quantized_conv(c.layer, r, o, True),
    ),
    Op(
        "linear", Kind.WEIGHTED, (LinearBlock,),
        lower=lambda c, r, o: q.quantized_linear(c.layer, r, o, c.per_channel, c.reduce_range),
    ),
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
        "stack", Kind.ELEMENTWISE, (), (torch.stack,), parameters=("tensors", "dim"), when=uses.known_parts,
        lower=uses.lower_stack, moves=True, mixes=True,
    ),
    Op(
        "maximum", Kind.ELEMENTWISE, (), (torch.maximum, torch.max), ("maximum", "max"), (), uses.two_tensors,
        lambda c, r, o: q.QuantizedMaximum(r, o),
    ),
    Op(
        "minimum", Kind.ELEMENTWISE, (), (torch.minimum, torch.min), ("minimum", "min"), (), uses.two_tensors,
        lambda c, r, o: q.QuantizedMinimum(r, o),
    ),
    Op("mean", Kind.ELEMENTWISE, (), (torch.mean,), ("mean",), ("dim", "keepdim"), uses.known_mean, uses.lower_mean),
    _average("adaptive_avg_pool1d", nn.AdaptiveAvgPool1d, (F.adaptive_avg_pool1d,), _SIZE,
             uses.adaptive_avg_pool(q.QuantizedAdaptiveAvgPool1d)),
    _average("adaptive_avg_pool2d", nn.AdaptiveAvgPool2d, (F.adaptive_avg_pool2d,), _SIZE,
             uses.adaptive_avg_pool(q.QuantizedAdaptiveAvgPool2d)),
    _average("adaptive_avg_pool3d", nn.AdaptiveAvgPool3d, (F.adaptive_avg_pool3d,), _SIZE,
             uses.adaptive_avg_pool(q.QuantizedAdaptiveAvgPool3d)),
    _average("avg_pool1d", nn.AvgPool1d, (F.avg_pool1d,), _AVERAGE, uses.avg_pool(q.QuantizedAvgPool1d)),
    _average("avg_pool2d", nn.AvgPool2d, (F.avg_pool2d,), _AVERAGE, uses.avg_pool(q.QuantizedAvgPool2d)),
    _average("avg_pool3d", nn.AvgPool3d, (F.avg_pool3d,), _AVERAGE, uses.avg_pool(q.QuantizedAvgPool3d)),
    _maximum("adaptive_max_pool1d", nn.AdaptiveMaxPool1d, (F.adaptive_max_pool1d,), (*_SIZE, "return_indices"),
             uses.adaptive_max_pool(q.QuantizedAdaptiveMaxPool1d)),
    _maximum("adaptive_max_pool2d", nn.AdaptiveMaxPool2d, (F.adaptive_max_pool2d,), (*_SIZE, "return_indices"),
             uses.adaptive_max_pool(q.QuantizedAdaptiveMaxPool2d)),
    _maximum("adaptive_max_pool3d", nn.AdaptiveMaxPool3d, (F.adaptive_max_pool3d,), (*_SIZE, "return_indices"),
             uses.adaptive_max_pool(q.QuantizedAdaptiveMaxPool3d)),
    _maximum("max_pool1d", nn.MaxPool1d, (F.max_pool1d, torch.max_pool1d), _MAXIMUM,
             uses.max_pool(q.QuantizedMaxPool1d)),
    _maximum("max_pool2d", nn.MaxPool2d, (F.max_pool2d, torch.max_pool2d), _MAXIMUM,
             uses.max_pool(q.QuantizedMaxPool2d)),
    _maximum("max_pool3d", nn.MaxPool3d, (F.max_pool3d, torch.max_pool3d), _MAXIMUM,
             uses.max_pool(q.QuantizedMaxPool3d)),
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
    _table("prelu", (nn.PReLU,), when=uses.one_tensor, lower=uses.lower_prelu),
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
    _move("expand_as", (), (), ("expand_as",), when=uses.two_tensors),
    _move("roll", (), (torch.roll,), ("roll",)),
    _move("flip", (), (torch.flip,), ("flip",)),
    _move("interleave", (Interleave,)),
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
    _float("attention_mask", "it holds infinities, and is added to fp32 scores", (), (attention_mask,)),
    _float("embedding", "it looks rows up and computes nothing", (nn.Embedding,), (F.embedding,)),
    Op("conv_transpose", Kind.FLOAT, TRANSPOSED, _CONV_TRANSPOSE, when=uses.plain_transposed),
    Op("conv", Kind.FLOAT, (nn.Conv1d, nn.Conv2d, nn.Conv3d), when=uses.plain_convolution),
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
