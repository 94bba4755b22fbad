"""Blocks of a fused graph -> their int8 layers."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from pytest_ptq.engine.affine import QParams
from pytest_ptq.engine.blocks import Conv1dBlock, Conv3dBlock, ConvBlock, FlatNormBlock, LinearBlock
from pytest_ptq.engine.modules.shared import quantized_weight
from pytest_ptq.engine.modules.volumes import QuantizedConv3d
from pytest_ptq.engine.modules.weighted import QuantizedConv1d, QuantizedConv2d, QuantizedFlatNorm, QuantizedLinear


def quantized_conv(
    layer: nn.Module | None,
    reads: Sequence[QParams],
    out: QParams | None,
    per_channel: bool = True,
    reduce_range: bool = False,
) -> nn.Module:
    """The int8 layer of a ConvBlock or Conv3dBlock. reads: its input's, then its residual's."""
    assert isinstance(layer, (ConvBlock, Conv3dBlock))
    weight, scales = quantized_weight(layer.weight, per_channel, reads[0].quant_max if reduce_range else None)
    if isinstance(layer, Conv3dBlock):
        return QuantizedConv3d(
            weight, scales, layer.bias, layer.activation, reads[0], out,
            layer.stride, layer.padding, layer.dilation, layer.groups,
        )  # fmt: skip
    kinds = {Conv1dBlock: QuantizedConv1d, FlatNormBlock: QuantizedFlatNorm}
    kind = kinds.get(type(layer), QuantizedConv2d)
    return kind(
        weight, scales, layer.bias, layer.activation, reads[0], out,
        layer.stride, layer.padding, layer.dilation, layer.groups, reads[1] if len(reads) > 1 else None,
        layer.ceilings,
    )  # fmt: skip


def quantized_linear(
    layer: nn.Module | None,
    reads: Sequence[QParams],
    out: QParams | None,
    per_channel: bool = True,
    reduce_range: bool = False,
) -> nn.Module:
    """The int8 layer of a LinearBlock."""
    assert isinstance(layer, LinearBlock)
    weight, scales = quantized_weight(layer.weight, per_channel, reads[0].quant_max if reduce_range else None)
    return QuantizedLinear(weight, scales, layer.bias, layer.activation, reads[0], out, layer.ceilings)
