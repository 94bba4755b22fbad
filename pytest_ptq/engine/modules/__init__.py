"""Int8 layers: what a converted model consists of. Each holds plain integers and calls one kernel."""

from pytest_ptq.engine.modules.borders import DeQuantize, Int8Layer, IntegerLayer, Quantize
from pytest_ptq.engine.modules.build import quantized_conv, quantized_linear
from pytest_ptq.engine.modules.elementwise import (
    QuantizedAdd,
    QuantizedCat,
    QuantizedChannelLookup,
    QuantizedClamp,
    QuantizedLookup,
    QuantizedMaximum,
    QuantizedMinimum,
    QuantizedMul,
    QuantizedPad,
    QuantizedStack,
    QuantizedSub,
    channel_lookup,
    lookup,
)
from pytest_ptq.engine.modules.pooling import (
    QuantizedAdaptiveAvgPool1d,
    QuantizedAdaptiveAvgPool2d,
    QuantizedAdaptiveAvgPool3d,
    QuantizedAdaptiveMaxPool1d,
    QuantizedAdaptiveMaxPool2d,
    QuantizedAdaptiveMaxPool3d,
    QuantizedAvgPool1d,
    QuantizedAvgPool2d,
    QuantizedAvgPool3d,
    QuantizedMaxPool1d,
    QuantizedMaxPool2d,
    QuantizedMaxPool3d,
    QuantizedMean,
)
from pytest_ptq.engine.modules.volumes import QuantizedConv3d
from pytest_ptq.engine.modules.weighted import (
    QuantizedConv1d,
    QuantizedConv2d,
    QuantizedFlatNorm,
    QuantizedLinear,
    QuantizedWeighted,
)

STORED = (
    DeQuantize, Quantize, QuantizedAdaptiveAvgPool1d, QuantizedAdaptiveAvgPool2d, QuantizedAdaptiveAvgPool3d,
    QuantizedAdaptiveMaxPool1d, QuantizedAdaptiveMaxPool2d, QuantizedAdaptiveMaxPool3d, QuantizedAdd,
    QuantizedAvgPool1d, QuantizedAvgPool2d, QuantizedAvgPool3d, QuantizedCat, QuantizedChannelLookup, QuantizedClamp,
    QuantizedConv1d, QuantizedConv2d, QuantizedConv3d, QuantizedLinear, QuantizedLookup, QuantizedMaxPool1d,
    QuantizedMaxPool2d, QuantizedMaxPool3d, QuantizedMaximum, QuantizedMean, QuantizedMinimum, QuantizedMul,
    QuantizedPad, QuantizedStack, QuantizedSub, QuantizedFlatNorm,
)  # fmt: skip
"""Layers that a file may name."""

__all__ = [
    "STORED",
    "DeQuantize",
    "Int8Layer",
    "IntegerLayer",
    "Quantize",
    "QuantizedAdaptiveAvgPool1d",
    "QuantizedAdaptiveAvgPool2d",
    "QuantizedAdaptiveAvgPool3d",
    "QuantizedAdaptiveMaxPool1d",
    "QuantizedAdaptiveMaxPool2d",
    "QuantizedAdaptiveMaxPool3d",
    "QuantizedAdd",
    "QuantizedAvgPool1d",
    "QuantizedAvgPool2d",
    "QuantizedAvgPool3d",
    "QuantizedCat",
    "QuantizedChannelLookup",
    "QuantizedClamp",
    "QuantizedConv1d",
    "QuantizedConv2d",
    "QuantizedConv3d",
    "QuantizedFlatNorm",
    "QuantizedLinear",
    "QuantizedLookup",
    "QuantizedMaxPool1d",
    "QuantizedMaxPool2d",
    "QuantizedMaxPool3d",
    "QuantizedMaximum",
    "QuantizedMean",
    "QuantizedMinimum",
    "QuantizedMul",
    "QuantizedPad",
    "QuantizedStack",
    "QuantizedSub",
    "QuantizedWeighted",
    "channel_lookup",
    "lookup",
    "quantized_conv",
    "quantized_linear",
]
